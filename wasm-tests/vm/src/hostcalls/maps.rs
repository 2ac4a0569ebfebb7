//! Header and trailer maps.
//!
//! A map that is out of reach in this phase gives `BadArgument`, except for `get_header_map_pairs`, which
//! gives an empty map, and for reading one value in `on_log`, which gives `NotFound`.

use wasmtime::Linker;

use crate::exchange::{Dir, StreamContext};
use crate::guest::{Env, give, read, reply, text, write_u32};
use crate::headers::Headers;
use crate::host::Host;
use crate::hostcall::Hostcall;
use crate::pairs;
use crate::status::{Halt, Status};

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        Hostcall::GetHeaderMapPairs.import(),
        |mut env: Env, map: u32, at: u32, size: u32| reply(get_pairs(&mut env, map, (at, size))),
    )?;
    linker.func_wrap(
        "env",
        Hostcall::SetHeaderMapPairs.import(),
        |mut env: Env, map: u32, at: u32, size: u32| reply(set_pairs(&mut env, map, (at, size))),
    )?;
    linker.func_wrap(
        "env",
        Hostcall::GetHeaderMapValue.import(),
        |mut env: Env, map: u32, name: u32, name_size: u32, at: u32, size: u32| {
            reply(get(&mut env, map, (name, name_size), (at, size)))
        },
    )?;
    for (call, change) in [
        (Hostcall::AddHeaderMapValue, Headers::add as Change),
        (Hostcall::ReplaceHeaderMapValue, Headers::set),
    ] {
        linker.func_wrap(
            "env",
            call.import(),
            move |mut env: Env, map: u32, name: u32, name_size: u32, value: u32, value_size: u32| {
                let value = read(&env, value, value_size);
                reply(alter(&mut env, call, map, (name, name_size), |headers, name| {
                    change(headers, name, &value?);
                    Ok(())
                }))
            },
        )?;
    }
    linker.func_wrap(
        "env",
        Hostcall::RemoveHeaderMapValue.import(),
        |mut env: Env, map: u32, name: u32, name_size: u32| {
            reply(alter(
                &mut env,
                Hostcall::RemoveHeaderMapValue,
                map,
                (name, name_size),
                |headers, name| {
                    headers.remove(name);
                    Ok(())
                },
            ))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::GetHeaderMapSize.import(),
        |mut env: Env, map: u32, to: u32| reply(size(&mut env, map, to)),
    )?;
    Ok(())
}

type Change = fn(&mut Headers, &str, &[u8]);

/// The ABI's map types.
#[derive(Clone, Copy)]
enum Map {
    Headers(Dir),
    Trailers(Dir),
    GrpcMetadata,
    CallHeaders,
    CallTrailers,
}

impl Map {
    fn of(number: u32) -> Result<Self, Status> {
        match number {
            0 => Ok(Self::Headers(Dir::Request)),
            1 => Ok(Self::Trailers(Dir::Request)),
            2 => Ok(Self::Headers(Dir::Response)),
            3 => Ok(Self::Trailers(Dir::Response)),
            4 | 5 => Ok(Self::GrpcMetadata),
            6 => Ok(Self::CallHeaders),
            7 => Ok(Self::CallTrailers),
            _ => Err(Status::BadArgument),
        }
    }

    /// The map as this moment lets it be read.
    fn look(self, host: &Host) -> Option<Headers> {
        let call = || host.root()?.http_answer.as_ref();
        match self {
            Self::GrpcMetadata => None,
            Self::CallHeaders => Some(call()?.headers.clone()),
            Self::CallTrailers => call()?.trailers.clone(),
            Self::Headers(dir) => of_stream(host.stream()?, dir, false),
            Self::Trailers(dir) => of_stream(host.stream()?, dir, true),
        }
    }
}

fn of_stream(stream: &StreamContext, dir: Dir, trailers: bool) -> Option<Headers> {
    let view = &stream.views[dir as usize];
    let mut exchange = stream.exchange.borrow_mut();
    let message = exchange.message(dir);
    match trailers {
        true if stream.logging => message.trailers.clone().filter(|_| dir == Dir::Response),
        true => message.trailers.clone().filter(|_| view.trailers),
        // There may be no response to log: then there are no headers.
        false if stream.logging => Some(message.headers.clone()).filter(|headers| !headers.is_empty()),
        false => Some(message.headers.clone()).filter(|_| view.headers),
    }
}

fn get_pairs(env: &mut Env<'_>, map: u32, to: (u32, u32)) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::GetHeaderMapPairs, "")?;
    let headers = Map::of(map)?.look(env.data()).unwrap_or_default();
    let bytes = if headers.is_empty() {
        Vec::new()
    } else {
        headers.encode()
    };
    give(env, &bytes, to)
}

fn get(env: &mut Env<'_>, map: u32, name: (u32, u32), to: (u32, u32)) -> Result<(), Halt> {
    let name = text(env, name.0, name.1)?;
    env.data_mut().begin(Hostcall::GetHeaderMapValue, &name)?;
    let out_of_reach = match env.data().stream() {
        Some(stream) if stream.logging => Status::NotFound,
        _ => Status::BadArgument,
    };
    let headers = Map::of(map)?.look(env.data()).ok_or(out_of_reach)?;
    let value = headers.get(&name).ok_or(Status::NotFound)?.to_vec();
    give(env, &value, to)
}

fn set_pairs(env: &mut Env<'_>, map: u32, from: (u32, u32)) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::SetHeaderMapPairs, "")?;
    // Envoy reads what it can of a broken map; here it is refused, so that a test notices.
    let pairs = pairs::decode(&read(env, from.0, from.1)?).ok_or(Status::ParseFailure)?;
    change(env, map, |headers| {
        *headers = Headers::from_pairs(&pairs);
        Ok(())
    })
}

fn alter(
    env: &mut Env<'_>,
    call: Hostcall,
    map: u32,
    name: (u32, u32),
    how: impl FnOnce(&mut Headers, &str) -> Result<(), Status>,
) -> Result<(), Halt> {
    let name = text(env, name.0, name.1)?;
    env.data_mut().begin(call, &name)?;
    change(env, map, |headers| how(headers, &name))
}

/// Only the request's and the response's own maps can be changed, and not in `on_log`.
fn change(
    env: &mut Env<'_>,
    map: u32,
    how: impl FnOnce(&mut Headers) -> Result<(), Status>,
) -> Result<(), Halt> {
    let stream = env
        .data()
        .stream()
        .filter(|stream| !stream.logging)
        .ok_or(Status::BadArgument)?;
    let mut exchange = stream.exchange.borrow_mut();
    let headers = match Map::of(map)? {
        Map::Headers(dir) if stream.views[dir as usize].headers => Some(&mut exchange.message(dir).headers),
        Map::Trailers(dir) if stream.views[dir as usize].trailers => exchange.message(dir).trailers.as_mut(),
        _ => None,
    };
    Ok(how(headers.ok_or(Status::BadArgument)?)?)
}

fn size(env: &mut Env<'_>, map: u32, to: u32) -> Result<(), Halt> {
    env.data_mut().begin(Hostcall::GetHeaderMapSize, "")?;
    let headers = Map::of(map)?.look(env.data()).ok_or(Status::BadArgument)?;
    Ok(write_u32(
        env,
        to,
        u32::try_from(headers.byte_size()).unwrap_or(u32::MAX),
    )?)
}
