//! Bodies, configurations and callout answers as buffers.

use wasmtime::Linker;

use crate::exchange::Dir;
use crate::guest::{Env, give, read, reply, write_u32};
use crate::host::Host;
use crate::hostcall::Hostcall;
use crate::status::{Halt, Status};

pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.func_wrap(
        "env",
        Hostcall::GetBufferBytes.import(),
        |mut env: Env, buffer: u32, start: u32, length: u32, at: u32, size: u32| {
            reply(get(&mut env, buffer, (start, length), (at, size)))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::SetBufferBytes.import(),
        |mut env: Env, buffer: u32, start: u32, length: u32, data: u32, data_size: u32| {
            reply(set(&mut env, buffer, (start, length), (data, data_size)))
        },
    )?;
    linker.func_wrap(
        "env",
        Hostcall::GetBufferStatus.import(),
        |mut env: Env, buffer: u32, length: u32, flags: u32| reply(status(&mut env, buffer, length, flags)),
    )?;
    Ok(())
}

/// The ABI's buffer types that an HTTP filter can meet.
#[derive(Clone, Copy)]
enum Buffer {
    Body(Dir),
    Other,
    CallBody,
    GrpcMessage,
    VmConfiguration,
    PluginConfiguration,
}

impl Buffer {
    fn of(number: u32) -> Result<Self, Status> {
        match number {
            0 => Ok(Self::Body(Dir::Request)),
            1 => Ok(Self::Body(Dir::Response)),
            2 | 3 | 8 => Ok(Self::Other),
            4 => Ok(Self::CallBody),
            5 => Ok(Self::GrpcMessage),
            6 => Ok(Self::VmConfiguration),
            7 => Ok(Self::PluginConfiguration),
            _ => Err(Status::BadArgument),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Body(Dir::Request) => "request_body",
            Self::Body(Dir::Response) => "response_body",
            Self::Other => "other",
            Self::CallBody => "http_call_response_body",
            Self::GrpcMessage => "grpc_receive_buffer",
            Self::VmConfiguration => "vm_configuration",
            Self::PluginConfiguration => "plugin_configuration",
        }
    }

    /// A body that is out of reach is an empty buffer; a configuration or answer out of its callback is none.
    fn look(self, host: &Host) -> Result<&[u8], Status> {
        match self {
            Self::Body(dir) => {
                let body = host
                    .stream()
                    .and_then(|stream| stream.views[dir as usize].body.as_deref());
                Ok(body.unwrap_or_default())
            }
            Self::Other => Ok(&[]),
            Self::VmConfiguration => Ok(&host.vm_configuration),
            Self::GrpcMessage => Ok(host
                .root()
                .and_then(|root| root.grpc_answer.as_deref())
                .unwrap_or_default()),
            Self::CallBody => {
                let answer = host.root().and_then(|root| root.http_answer.as_ref());
                Ok(&answer.ok_or(Status::NotFound)?.body)
            }
            Self::PluginConfiguration => host
                .root()
                .and_then(|root| root.configuration.as_deref())
                .ok_or(Status::NotFound),
        }
    }
}

/// Nothing is written to the two places when there are no bytes: the module keeps its null pointer.
fn get(env: &mut Env<'_>, buffer: u32, range: (u32, u32), to: (u32, u32)) -> Result<(), Halt> {
    let buffer = Buffer::of(buffer);
    env.data_mut()
        .begin(Hostcall::GetBufferBytes, buffer.map_or("", Buffer::name))?;
    let bytes = buffer?.look(env.data())?;
    let (start, length) = (range.0 as usize, range.1 as usize);
    // Envoy's arithmetic wraps here; no filter means to read past the end.
    let rest = bytes.get(start..).ok_or(Status::BadArgument)?;
    // Only the part is copied: a document of many megabytes may be read piece by piece.
    let part = rest[..length.min(rest.len())].to_vec();
    if part.is_empty() {
        Ok(())
    } else {
        give(env, &part, to)
    }
}

/// Envoy can put bytes before a body, after it, or in the place of its beginning; nothing else, and only in bodies.
fn set(env: &mut Env<'_>, buffer: u32, range: (u32, u32), from: (u32, u32)) -> Result<(), Halt> {
    let buffer = Buffer::of(buffer);
    env.data_mut()
        .begin(Hostcall::SetBufferBytes, buffer.map_or("", Buffer::name))?;
    let data = read(env, from.0, from.1)?;
    let Buffer::Body(dir) = buffer? else {
        return Err(Status::BadArgument.into());
    };
    let context = env.data().context();
    let stream = env.data_mut().stream_of(context).ok_or(Status::BadArgument)?;
    let body = stream.views[dir as usize]
        .body
        .as_mut()
        .ok_or(Status::BadArgument)?;
    let (start, length) = (range.0 as usize, range.1 as usize);
    let place = match (start, length) {
        (0, _) => 0..length.min(body.len()),
        (1.., _) if start >= body.len() => body.len()..body.len(),
        _ => return Err(Status::BadArgument.into()),
    };
    body.splice(place, data);
    Ok(())
}

fn status(env: &mut Env<'_>, buffer: u32, length: u32, flags: u32) -> Result<(), Halt> {
    let buffer = Buffer::of(buffer);
    env.data_mut()
        .begin(Hostcall::GetBufferStatus, buffer.map_or("", Buffer::name))?;
    let size = buffer?.look(env.data())?.len();
    write_u32(env, length, u32::try_from(size).unwrap_or(u32::MAX))?;
    Ok(write_u32(env, flags, 0)?)
}
