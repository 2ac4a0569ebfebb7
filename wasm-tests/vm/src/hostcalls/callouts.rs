//! HTTP and gRPC calls. They are written down; the test answers them.

use std::time::Duration;

use wasmtime::Linker;

use crate::calls::{GrpcRequest, HttpRequest};
use crate::guest::{Env, read, reply, text, write_u32};
use crate::headers::Headers;
use crate::host::Host;
use crate::hostcall::Hostcall;
use crate::pairs;
use crate::status::{Halt, Status};

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        Hostcall::HttpCall.import(),
        |mut env: Env,
         cluster: u32,
         cluster_size: u32,
         headers: u32,
         headers_size: u32,
         body: u32,
         body_size: u32,
         trailers: u32,
         trailers_size: u32,
         timeout: u32,
         to: u32| {
            let parts = [
                (headers, headers_size),
                (body, body_size),
                (trailers, trailers_size),
            ];
            reply(http(&mut env, (cluster, cluster_size), parts, timeout, to))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::GrpcCall.import(),
        |mut env: Env,
         cluster: u32,
         cluster_size: u32,
         service: u32,
         service_size: u32,
         method: u32,
         method_size: u32,
         metadata: u32,
         metadata_size: u32,
         message: u32,
         message_size: u32,
         timeout: u32,
         to: u32| {
            let names = [
                (cluster, cluster_size),
                (service, service_size),
                (method, method_size),
            ];
            let parts = [(metadata, metadata_size), (message, message_size)];
            reply(grpc(&mut env, names, parts, timeout, to))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::GrpcStream.import(),
        |mut env: Env, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32| {
            reply(unimplemented(&mut env, Hostcall::GrpcStream))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::GrpcSend.import(),
        |mut env: Env, _: u32, _: u32, _: u32, _: u32| reply(unimplemented(&mut env, Hostcall::GrpcSend)),
    )?;
    for call in [Hostcall::GrpcCancel, Hostcall::GrpcClose] {
        linker.func_wrap("env", call.import(), move |mut env: Env, token: u32| {
            reply(grpc_end(&mut env, call, token))
        })?;
    }
    Ok(())
}

/// Envoy takes a call only with `:method`, `:path` and `:authority`. Every cluster exists here; a fault with
/// `BadArgument` is one that does not.
fn http(
    env: &mut Env<'_>,
    cluster: (u32, u32),
    parts: [(u32, u32); 3],
    timeout: u32,
    to: u32,
) -> Result<(), Halt> {
    let cluster = text(env, cluster.0, cluster.1)?;
    write_u32(env, to, 0)?;
    env.data_mut().begin(Hostcall::HttpCall, &cluster)?;
    let headers = map(env, parts[0])?;
    let required = [":method", ":path", ":authority"];
    if i32::try_from(timeout).is_err() || required.iter().any(|name| headers.get(name).is_none()) {
        return Err(Status::BadArgument.into());
    }
    let body = read(env, parts[1].0, parts[1].1)?;
    let trailers = map(env, parts[2])?;
    let timeout = Duration::from_millis(timeout.into());
    let root = env.data().root_id();
    let request = HttpRequest {
        cluster,
        headers,
        body,
        trailers,
        timeout,
    };
    let token = env.data_mut().calls.add_http(root, request);
    Ok(write_u32(env, to, token)?)
}

/// The cluster may also be a serialised `envoy.config.core.v3.GrpcService`, as Envoy takes both.
fn grpc(
    env: &mut Env<'_>,
    names: [(u32, u32); 3],
    parts: [(u32, u32); 2],
    timeout: u32,
    to: u32,
) -> Result<(), Halt> {
    let target = read(env, names[0].0, names[0].1)?;
    let service = text(env, names[1].0, names[1].1)?;
    let method = text(env, names[2].0, names[2].1)?;
    env.data_mut()
        .begin(Hostcall::GrpcCall, &format!("{service}/{method}"))?;
    let metadata = map(env, parts[0])?;
    let message = read(env, parts[1].0, parts[1].1)?;
    let timeout = Duration::from_millis(timeout.into());
    let root = env.data().root_id();
    let request = GrpcRequest {
        target,
        service,
        method,
        metadata,
        message,
        timeout,
    };
    let token = env.data_mut().calls.add_grpc(root, request);
    Ok(write_u32(env, to, token)?)
}

fn grpc_end(env: &mut Env<'_>, call: Hostcall, token: u32) -> Result<(), Halt> {
    env.data_mut().begin(call, "")?;
    match env.data_mut().calls.take_grpc(token) {
        Some(_) => Ok(()),
        None => Err(Status::NotFound.into()),
    }
}

fn unimplemented(env: &mut Env<'_>, call: Hostcall) -> Result<(), Halt> {
    env.data_mut().begin(call, "")?;
    Err(Status::Unimplemented.into())
}

fn map(env: &Env<'_>, at: (u32, u32)) -> Result<Headers, Status> {
    let pairs = pairs::decode(&read(env, at.0, at.1)?).ok_or(Status::BadArgument)?;
    Ok(Headers::from_pairs(&pairs))
}
