//! Header maps over proxy-wasm: read whole in one crossing.

use super::Handle;
use super::abi;
use super::map::HeaderMap;
use super::memory::receive;
use super::status::check;
use crate::status::{Result, Status};

pub(crate) fn read(_handle: Handle, map: u32) -> Result<HeaderMap> {
    // SAFETY: the pointers are to live locals of `receive`.
    let bytes = receive(|data, len| unsafe { abi::proxy_get_header_map_pairs(map, data, len) })?;
    let headers = HeaderMap::new(bytes);
    // A header that can't be read can't be removed either, so half a map is none.
    if headers.is_whole() {
        Ok(headers)
    } else {
        Err(Status::BadArgument)
    }
}

pub(crate) fn get(_handle: Handle, map: u32, name: &str) -> Result<Option<Vec<u8>>> {
    // SAFETY: the pointers and lengths are of a live slice and live locals of `receive`.
    let value = receive(|data, len| unsafe {
        abi::proxy_get_header_map_value(map, name.as_ptr(), name.len(), data, len)
    });
    match value {
        Ok(value) => Ok(Some(value)),
        Err(Status::NotFound) => Ok(None),
        Err(status) => Err(status),
    }
}

pub(crate) fn set(_handle: Handle, map: u32, name: &str, value: &str) -> Result<()> {
    // SAFETY: the pointers and lengths are of live slices.
    check(unsafe {
        abi::proxy_replace_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

pub(crate) fn add(_handle: Handle, map: u32, name: &str, value: &str) -> Result<()> {
    // SAFETY: the pointers and lengths are of live slices.
    check(unsafe {
        abi::proxy_add_header_map_value(map, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

pub(crate) fn remove(_handle: Handle, map: u32, name: &[u8]) -> Result<()> {
    // SAFETY: the pointer and length are of a live slice.
    check(unsafe { abi::proxy_remove_header_map_value(map, name.as_ptr(), name.len()) })
}

/// Headers as the host takes them: the layout of [`HeaderMap`].
pub(crate) fn encode(headers: &[(&str, &str)]) -> Result<Vec<u8>> {
    let number = |len: usize| {
        u32::try_from(len)
            .map(u32::to_le_bytes)
            .map_err(|_| Status::BadArgument)
    };
    let mut bytes = number(headers.len())?.to_vec();
    for (name, value) in headers {
        bytes.extend(number(name.len())?);
        bytes.extend(number(value.len())?);
    }
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend(text.as_bytes());
        bytes.push(0);
    }
    Ok(bytes)
}
