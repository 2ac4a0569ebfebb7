//! Shared data and shared queues.

use wasmtime::Linker;

use crate::guest::{Env, give, read, reply, text, write_u32};
use crate::host::Host;
use crate::hostcall::Hostcall;
use crate::status::Halt;

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        Hostcall::GetSharedData.import(),
        |mut env: Env, key: u32, key_size: u32, at: u32, size: u32, cas: u32| {
            reply(get(&mut env, (key, key_size), (at, size), cas))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::SetSharedData.import(),
        |mut env: Env, key: u32, key_size: u32, value: u32, value_size: u32, cas: u32| {
            reply(set(&mut env, (key, key_size), (value, value_size), cas))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::RegisterSharedQueue.import(),
        |mut env: Env, name: u32, name_size: u32, to: u32| reply(register(&mut env, (name, name_size), to)),
    )?;
    linker.func_wrap(
        "env",
        Hostcall::ResolveSharedQueue.import(),
        |mut env: Env, vm: u32, vm_size: u32, name: u32, name_size: u32, to: u32| {
            reply(resolve(&mut env, (vm, vm_size), (name, name_size), to))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::EnqueueSharedQueue.import(),
        |mut env: Env, queue: u32, value: u32, value_size: u32| {
            reply(enqueue(&mut env, queue, (value, value_size)))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::DequeueSharedQueue.import(),
        |mut env: Env, queue: u32, at: u32, size: u32| reply(dequeue(&mut env, queue, (at, size))),
    )?;
    Ok(())
}

fn get(env: &mut Env<'_>, key: (u32, u32), to: (u32, u32), cas_to: u32) -> Result<(), Halt> {
    let key = read(env, key.0, key.1)?;
    env.data_mut()
        .begin(Hostcall::GetSharedData, &String::from_utf8_lossy(&key))?;
    let (value, cas) = env.data().world.process().shared.get(&env.data().vm_id, &key)?;
    give(env, &value, to)?;
    Ok(write_u32(env, cas_to, cas)?)
}

fn set(env: &mut Env<'_>, key: (u32, u32), value: (u32, u32), cas: u32) -> Result<(), Halt> {
    let key = read(env, key.0, key.1)?;
    env.data_mut()
        .begin(Hostcall::SetSharedData, &String::from_utf8_lossy(&key))?;
    let value = read(env, value.0, value.1)?;
    let host = env.data();
    Ok(host
        .world
        .process_mut()
        .shared
        .set(&host.vm_id, &key, &value, cas)?)
}

fn register(env: &mut Env<'_>, name: (u32, u32), to: u32) -> Result<(), Halt> {
    let name = read(env, name.0, name.1)?;
    env.data_mut()
        .begin(Hostcall::RegisterSharedQueue, &String::from_utf8_lossy(&name))?;
    let host = env.data();
    let owner = (host.number, host.root_id());
    let token = host
        .world
        .process_mut()
        .shared
        .register(&host.vm_id, &name, owner);
    Ok(write_u32(env, to, token)?)
}

/// An empty `vm_id` is the caller's own.
fn resolve(env: &mut Env<'_>, vm_id: (u32, u32), name: (u32, u32), to: u32) -> Result<(), Halt> {
    let vm_id = text(env, vm_id.0, vm_id.1)?;
    let name = read(env, name.0, name.1)?;
    env.data_mut()
        .begin(Hostcall::ResolveSharedQueue, &String::from_utf8_lossy(&name))?;
    let vm_id = if vm_id.is_empty() {
        env.data().vm_id.clone()
    } else {
        vm_id
    };
    let token = env.data().world.process().shared.resolve(&vm_id, &name)?;
    Ok(write_u32(env, to, token)?)
}

fn enqueue(env: &mut Env<'_>, queue: u32, value: (u32, u32)) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::EnqueueSharedQueue, "")?;
    let value = read(env, value.0, value.1)?;
    Ok(env.data().world.process_mut().shared.enqueue(queue, &value)?)
}

fn dequeue(env: &mut Env<'_>, queue: u32, to: (u32, u32)) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::DequeueSharedQueue, "")?;
    let value = env.data().world.process_mut().shared.dequeue(queue)?;
    give(env, &value, to)
}
