//! Properties and filter state.

use wasmtime::Linker;

use crate::derived::derived;
use crate::exchange::{Dir, View};
use crate::guest::{Env, give, read, reply};
use crate::host::Host;
use crate::hostcall::Hostcall;
use crate::status::{Halt, Status};

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        Hostcall::GetProperty.import(),
        |mut env: Env, path: u32, path_size: u32, at: u32, size: u32| {
            reply(get(&mut env, (path, path_size), (at, size)))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::SetProperty.import(),
        |mut env: Env, path: u32, path_size: u32, value: u32, value_size: u32| {
            reply(set(&mut env, (path, path_size), (value, value_size)))
        },
    )?;
    Ok(())
}

fn get(env: &mut Env<'_>, path: (u32, u32), to: (u32, u32)) -> Result<(), Halt> {
    let path = parts(&read(env, path.0, path.1)?);
    env.data_mut().begin(Hostcall::GetProperty, &path.join("."))?;
    let value = find(env.data(), &path)?;
    give(env, &value, to)
}

/// Filter state is under the whole path, zero bytes and all: only a path of one part can be read back.
fn set(env: &mut Env<'_>, path: (u32, u32), value: (u32, u32)) -> Result<(), Halt> {
    let path = read(env, path.0, path.1)?;
    env.data_mut()
        .begin(Hostcall::SetProperty, &parts(&path).join("."))?;
    let value = read(env, value.0, value.1)?;
    let stream = env.data().stream().ok_or(Status::NotFound)?;
    stream.exchange.borrow_mut().filter_state.insert(path, value);
    Ok(())
}

fn find(host: &Host, path: &[String]) -> Result<Vec<u8>, Status> {
    let of_stream = || {
        let stream = host.stream()?;
        let exchange = stream.exchange.borrow();
        let [request, response] = [Dir::Request, Dir::Response].map(|dir| {
            let headers = stream.logging || stream.views[dir as usize].headers;
            View {
                headers,
                ..View::default()
            }
        });
        let set = exchange.properties.find(path);
        set.or_else(|| derived(&exchange, &request, &response, path))
    };
    let found = of_stream().or_else(|| of_plugin(host, path).map(Ok));
    found
        .or_else(|| host.world.process().properties.find(path))
        .unwrap_or(Err(Status::NotFound))
}

fn of_plugin(host: &Host, path: &[String]) -> Option<Vec<u8>> {
    let root = host.root()?;
    let value = match path {
        [name] if name == "plugin_name" => &root.name,
        [name] if name == "plugin_root_id" => &root.root_id,
        [name] if name == "plugin_vm_id" => &host.vm_id,
        _ => return None,
    };
    Some(value.clone().into_bytes())
}

fn parts(path: &[u8]) -> Vec<String> {
    path.split(|byte| *byte == 0)
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}
