//! Log, time, ticks, the effective context, foreign functions.

use std::time::Duration;

use wasmtime::Linker;

use crate::guest::{Env, give, reply, text, write, write_u32};
use crate::host::{After, Host, Tick};
use crate::hostcall::Hostcall;
use crate::status::{Halt, Status};
use crate::world::{Level, LogLine};

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        Hostcall::Log.import(),
        |mut env: Env, level: u32, at: u32, size: u32| reply(log(&mut env, level, at, size)),
    )?;
    linker.func_wrap("env", Hostcall::GetLogLevel.import(), |mut env: Env, to: u32| {
        reply(log_level(&mut env, to))
    })?;
    linker.func_wrap(
        "env",
        Hostcall::GetStatus.import(),
        |mut env: Env, code: u32, at: u32, size: u32| reply(status(&mut env, code, (at, size))),
    )?;
    linker.func_wrap(
        "env",
        Hostcall::GetCurrentTime.import(),
        |mut env: Env, to: u32| reply(time(&mut env, to)),
    )?;
    linker.func_wrap(
        "env",
        Hostcall::SetTickPeriod.import(),
        |mut env: Env, millis: u32| reply(tick_period(&mut env, millis)),
    )?;
    linker.func_wrap(
        "env",
        Hostcall::SetEffectiveContext.import(),
        |mut env: Env, context: u32| reply(effective(&mut env, context)),
    )?;
    linker.func_wrap("env", Hostcall::Done.import(), |mut env: Env| {
        reply(done(&mut env))
    })?;
    linker.func_wrap(
        "env",
        Hostcall::CallForeignFunction.import(),
        |mut env: Env, name: u32, name_size: u32, _args: u32, _args_size: u32, at: u32, size: u32| {
            reply(foreign(&mut env, (name, name_size), (at, size)))
        },
    )?;
    Ok(())
}

fn log(env: &mut Env<'_>, level: u32, at: u32, size: u32) -> Result<(), Halt> {
    let text = text(env, at, size);
    env.data_mut()
        .begin(Hostcall::Log, text.as_deref().unwrap_or_default())?;
    let level = Level::of(level).ok_or(Status::BadArgument)?;
    let line = LogLine {
        level,
        text: text?,
        vm_id: env.data().vm_id.clone(),
    };
    env.data().world.process_mut().log.push(line);
    Ok(())
}

fn log_level(env: &mut Env<'_>, to: u32) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::GetLogLevel, "")?;
    let level = env.data().world.process().log_level;
    Ok(write_u32(env, to, level as u32)?)
}

fn status(env: &mut Env<'_>, code: u32, to: (u32, u32)) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::GetStatus, "")?;
    let (number, message) = env
        .data()
        .root()
        .map(|root| root.status.clone())
        .unwrap_or_default();
    write_u32(env, code, number)?;
    give(env, message.as_bytes(), to)
}

fn time(env: &mut Env<'_>, to: u32) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::GetCurrentTime, "")?;
    let nanos = env.data().world.nanos();
    Ok(write(env, to, &nanos.to_le_bytes())?)
}

/// A running timer goes on with its old period until it fires next, as in Envoy.
fn tick_period(env: &mut Env<'_>, millis: u32) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::SetTickPeriod, "")?;
    let period = Duration::from_millis(millis.into());
    let now = env.data().world.now();
    let host = env.data_mut();
    let root = host.root_id();
    if period.is_zero() {
        host.ticks.remove(&root);
    } else {
        host.ticks
            .entry(root)
            .or_insert(Tick {
                period,
                due: now + period,
            })
            .period = period;
    }
    Ok(())
}

fn effective(env: &mut Env<'_>, context: u32) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::SetEffectiveContext, "")?;
    if env.data_mut().set_effective(context) {
        Ok(())
    } else {
        Err(Status::BadArgument.into())
    }
}

/// Ends a root context whose `on_done` asked for time.
fn done(env: &mut Env<'_>) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::Done, "")?;
    if !env.data().root().is_some_and(|root| root.lingering) {
        return Err(Status::NotFound.into());
    }
    env.data_mut().later(After::Done);
    Ok(())
}

fn foreign(env: &mut Env<'_>, name: (u32, u32), to: (u32, u32)) -> Result<(), Halt> {
    let name = text(env, name.0, name.1)?;
    env.data_mut().begin(Hostcall::CallForeignFunction, &name)?;
    if name != "clear_route_cache" {
        return Err(Status::NotFound.into());
    }
    if let Some(stream) = env.data().stream() {
        stream.exchange.borrow_mut().route_cache_cleared += 1;
    }
    for place in [to.0, to.1].into_iter().filter(|place| *place != 0) {
        write_u32(env, place, 0)?;
    }
    Ok(())
}
