//! Metrics.

use wasmtime::Linker;

use crate::guest::{Env, reply, text, write, write_u32};
use crate::host::Host;
use crate::hostcall::Hostcall;
use crate::metrics::Kind;
use crate::status::{Halt, Status};

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        Hostcall::DefineMetric.import(),
        |mut env: Env, kind: u32, name: u32, name_size: u32, to: u32| {
            reply(define(&mut env, kind, (name, name_size), to))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::IncrementMetric.import(),
        |mut env: Env, id: u32, by: i64| reply(increment(&mut env, id, by)),
    )?;
    linker.func_wrap(
        "env",
        Hostcall::RecordMetric.import(),
        |mut env: Env, id: u32, value: u64| reply(record(&mut env, id, value)),
    )?;
    linker.func_wrap(
        "env",
        Hostcall::GetMetric.import(),
        |mut env: Env, id: u32, to: u32| reply(get(&mut env, id, to)),
    )?;
    Ok(())
}

fn define(env: &mut Env<'_>, kind: u32, name: (u32, u32), to: u32) -> Result<(), Halt> {
    let name = text(env, name.0, name.1)?;
    env.data_mut().begin(Hostcall::DefineMetric, &name)?;
    let kind = Kind::of(kind).ok_or(Status::BadArgument)?;
    env.data().world.process_mut().metrics.define(kind, &name);
    let id = env.data_mut().metrics.define(kind, &name);
    Ok(write_u32(env, to, id)?)
}

fn increment(env: &mut Env<'_>, id: u32, by: i64) -> Result<(), Halt> {
    let metric = begin(env, Hostcall::IncrementMetric, id)?;
    Ok(env.data().world.process_mut().metrics.increment(&metric, by)?)
}

fn record(env: &mut Env<'_>, id: u32, value: u64) -> Result<(), Halt> {
    let metric = begin(env, Hostcall::RecordMetric, id)?;
    env.data().world.process_mut().metrics.record(&metric, value);
    Ok(())
}

fn get(env: &mut Env<'_>, id: u32, to: u32) -> Result<(), Halt> {
    let metric = begin(env, Hostcall::GetMetric, id)?;
    let value = env.data().world.process().metrics.value(&metric)?;
    Ok(write(env, to, &value.to_le_bytes())?)
}

fn begin(env: &mut Env<'_>, call: Hostcall, id: u32) -> Result<(Kind, String), Halt> {
    let metric = env.data().metrics.find(id).cloned();
    env.data_mut()
        .begin(call, metric.as_ref().map_or("", |(_, name)| name))?;
    Ok(metric?)
}
