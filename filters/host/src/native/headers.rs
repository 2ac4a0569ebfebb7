//! Header maps over dynamic modules.

use super::Handle;
use super::abi::{self, Buffer, Header, Map};
use super::answer::Answer;
use super::change::Change;
use super::map::HeaderMap;
use crate::status::{Result, Status};

/// The ABI's name for a map, by its number in proxy-wasm.
const fn map_of(map: u32) -> Result<Map> {
    match map {
        0 => Ok(Map::Request),
        1 => Ok(Map::RequestTrailers),
        2 => Ok(Map::Response),
        3 => Ok(Map::ResponseTrailers),
        _ => Err(Status::BadArgument),
    }
}

pub(crate) fn read(handle: Handle, map: u32) -> Result<HeaderMap> {
    if let Handle::Call(answer) = handle {
        // SAFETY: it is there for the callback.
        let headers = unsafe { &*answer }.headers.as_ref();
        return headers
            .map(|headers| headers.iter().collect())
            .ok_or(Status::NotFound);
    }
    let map = map_of(map)?;
    if let (Handle::Answered(_, answer), Map::Response) = (handle, map) {
        // SAFETY: it is there for the callback.
        return Ok(unsafe { &*answer }.read());
    }
    let mut headers = Vec::new();
    // SAFETY: the pointers are good for the callback, and there is room for as many as there are.
    let found = unsafe {
        match handle {
            Handle::Stream(filter) | Handle::Answered(filter, _) => {
                headers.resize(abi::get_headers_size(filter, map), Header::EMPTY);
                // None may be some that can't be counted: there would be no room for them.
                !headers.is_empty() && abi::get_headers(filter, map, headers.as_mut_ptr())
            }
            Handle::Logger(logger) => {
                headers.resize(abi::logger_get_headers_size(logger, map), Header::EMPTY);
                !headers.is_empty() && abi::logger_get_headers(logger, map, headers.as_mut_ptr())
            }
            _ => return Err(Status::BadArgument),
        }
    };
    if !found {
        return Err(Status::NotFound);
    }
    let pair = |header: &Header| {
        // SAFETY: Envoy's bytes are good until the callback ends or a header is changed; here they are copied.
        unsafe { (header.name.bytes(), header.value.bytes()) }
    };
    let text = headers.iter().map(|header| header.name.len + header.value.len);
    let mut map = HeaderMap::with_room(headers.len(), text.sum());
    for (name, value) in headers.iter().map(pair) {
        map.push(name, value);
    }
    Ok(map)
}

pub(crate) fn get(handle: Handle, map: u32, name: &str) -> Result<Option<Vec<u8>>> {
    if let Handle::Call(_) = handle {
        return Ok(read(handle, map)?.get(name.as_bytes()).map(<[u8]>::to_vec));
    }
    let map = map_of(map)?;
    if let (Handle::Answered(_, answer), Map::Response) = (handle, map) {
        // SAFETY: it is there for the callback.
        let answer = unsafe { &*answer };
        return Ok(answer.get(name).map(|value| value.as_bytes().to_vec()));
    }
    let mut joined: Option<Vec<u8>> = None;
    let (mut at, mut count) = (0, 1);
    while at < count {
        let mut value = Buffer::EMPTY;
        let key = Buffer::of(name.as_bytes());
        // SAFETY: the name is there for the call, and the others are live locals.
        let found = unsafe {
            match handle {
                Handle::Stream(filter) | Handle::Answered(filter, _) => {
                    abi::get_header(filter, map, key, &raw mut value, at, &raw mut count)
                }
                Handle::Logger(logger) => {
                    abi::logger_get_header(logger, map, key, &raw mut value, at, &raw mut count)
                }
                _ => return Err(Status::BadArgument),
            }
        };
        if !found {
            break;
        }
        // SAFETY: Envoy's bytes are good until the callback ends or a header is changed; here they are copied.
        let bytes = unsafe { value.bytes() };
        match &mut joined {
            Some(joined) => {
                joined.push(b',');
                joined.extend_from_slice(bytes);
            }
            None => joined = Some(bytes.to_vec()),
        }
        at += 1;
    }
    Ok(joined)
}

pub(crate) fn set(handle: Handle, map: u32, name: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        // The ABI takes an empty value for none, and leaves the header out.
        return remove(handle, map, name.as_bytes());
    }
    change(
        handle,
        map,
        || Change::Set(name.to_owned(), value.to_owned()),
        |answer| {
            answer.remove(name.as_bytes());
            answer.add(name, value);
        },
        |filter, map| {
            // SAFETY: both are there for the call.
            unsafe {
                abi::set_header(
                    filter,
                    map,
                    Buffer::of(name.as_bytes()),
                    Buffer::of(value.as_bytes()),
                )
            }
        },
    )
}

pub(crate) fn add(handle: Handle, map: u32, name: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Ok(());
    }
    change(
        handle,
        map,
        || Change::Add(name.to_owned(), value.to_owned()),
        |answer| answer.add(name, value),
        |filter, map| {
            // SAFETY: both are there for the call.
            unsafe {
                abi::add_header(
                    filter,
                    map,
                    Buffer::of(name.as_bytes()),
                    Buffer::of(value.as_bytes()),
                )
            }
        },
    )
}

pub(crate) fn remove(handle: Handle, map: u32, name: &[u8]) -> Result<()> {
    change(
        handle,
        map,
        || Change::Remove(name.to_vec()),
        |answer| answer.remove(name),
        |filter, map| {
            // SAFETY: the name is there for the call; no value removes the header.
            unsafe { abi::set_header(filter, map, Buffer::of(name), Buffer::EMPTY) }
        },
    )
}

fn change(
    handle: Handle,
    map: u32,
    later: impl FnOnce() -> Change,
    own: impl FnOnce(&mut Answer),
    envoys: impl FnOnce(abi::Filter, Map) -> bool,
) -> Result<()> {
    match (handle, map_of(map)?) {
        (Handle::Answered(_, answer), Map::Response) => {
            // SAFETY: it is there for the callback, and nothing else of it is borrowed.
            own(unsafe { &mut *answer });
            Ok(())
        }
        (Handle::Forgotten(owed), Map::Request) => {
            // SAFETY: as above.
            unsafe { &mut *owed }.push(later());
            Ok(())
        }
        (Handle::Stream(filter) | Handle::Answered(filter, _), map) => {
            if envoys(filter, map) {
                Ok(())
            } else {
                Err(Status::BadArgument)
            }
        }
        _ => Err(Status::BadArgument),
    }
}
