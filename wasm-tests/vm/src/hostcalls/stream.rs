//! Letting a stream go on, ending it, answering it. Envoy does all three once the callback has returned.

use wasmtime::Linker;

use crate::exchange::{Dir, View};
use crate::guest::{Env, read, reply, text};
use crate::host::{After, Host, LocalReply};
use crate::hostcall::Hostcall;
use crate::pairs;
use crate::status::{Halt, Status};

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        Hostcall::ContinueStream.import(),
        |mut env: Env, stream: u32| reply(go_on(&mut env, stream)),
    )?;
    linker.func_wrap(
        "env",
        Hostcall::CloseStream.import(),
        |mut env: Env, stream: u32| reply(close(&mut env, stream)),
    )?;
    linker.func_wrap(
        "env",
        Hostcall::SendLocalResponse.import(),
        |mut env: Env,
         status: u32,
         details: u32,
         details_size: u32,
         body: u32,
         body_size: u32,
         headers: u32,
         headers_size: u32,
         grpc_status: i32| {
            let (details, body) = ((details, details_size), (body, body_size));
            reply(answer(
                &mut env,
                status,
                details,
                body,
                (headers, headers_size),
                grpc_status,
            ))
        },
    )?;
    Ok(())
}

/// Either direction takes the request's headers and body out of reach, as Envoy's host does.
fn go_on(env: &mut Env<'_>, stream: u32) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::ContinueStream, "")?;
    let dir = match stream {
        0 => Dir::Request,
        1 => Dir::Response,
        2 => return Ok(()),
        3 => return Err(Status::Unimplemented.into()),
        _ => return Err(Status::BadArgument.into()),
    };
    let host = env.data_mut();
    let context = host.context();
    if let Some(stream) = host.stream_of(context) {
        let view = &mut stream.views[Dir::Request as usize];
        // What is buffered stays: it goes on with the request.
        *view = View {
            body: view.body.take(),
            ..View::default()
        };
        host.later(After::Continue(dir));
    }
    Ok(())
}

fn close(env: &mut Env<'_>, stream: u32) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::CloseStream, "")?;
    if stream > 3 {
        return Err(Status::BadArgument.into());
    }
    if env.data().stream().is_some() {
        env.data_mut().later(After::Close);
    }
    Ok(())
}

/// Asked for by a root context it is `Ok` and nothing happens, as in Envoy. Blanks in the details become `_`.
fn answer(
    env: &mut Env<'_>,
    status: u32,
    details: (u32, u32),
    body: (u32, u32),
    headers: (u32, u32),
    grpc_status: i32,
) -> Result<(), Halt> {
    let details = text(env, details.0, details.1)?;
    env.data_mut().begin(Hostcall::SendLocalResponse, &details)?;
    let body = read(env, body.0, body.1)?;
    let headers = pairs::decode(&read(env, headers.0, headers.1)?).ok_or(Status::ParseFailure)?;
    let lower = |name: Vec<u8>| String::from_utf8_lossy(&name).to_ascii_lowercase();
    let answer = LocalReply {
        status,
        headers: headers
            .into_iter()
            .map(|(name, value)| (lower(name), value))
            .collect(),
        body,
        details: details.replace(char::is_whitespace, "_"),
        // The SDKs send -1 for "none".
        grpc_status: u32::try_from(grpc_status).ok().filter(|code| *code <= 16),
    };
    if env.data().stream().is_some() {
        env.data_mut().later(After::Reply(answer));
    }
    Ok(())
}
