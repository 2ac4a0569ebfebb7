//! Bodies over proxy-wasm. Envoy can put bytes in the place of a body's beginning, before it, and behind it.

use super::Handle;
use super::abi;
use super::memory::receive;
use super::status::check;
use crate::status::Result;

/// The plugin's configuration.
pub(crate) const CONFIGURATION: u32 = 7;
/// Behind the last byte; or as many as there are.
const END: usize = u32::MAX as usize;

pub(crate) fn read(_handle: Handle, buffer: u32, len: usize) -> Result<Vec<u8>> {
    // SAFETY: the pointers are to live locals of `receive`.
    receive(|data, size| unsafe { abi::proxy_get_buffer_bytes(buffer, 0, len, data, size) })
}

pub(crate) fn replace_beginning(handle: Handle, buffer: u32, len: usize, bytes: &[u8]) -> Result<()> {
    put(handle, buffer, (0, len), bytes)
}

/// The first piece takes the place of what is there, and the others follow: nothing is joined here first.
pub(crate) fn replace(handle: Handle, buffer: u32, pieces: &[&[u8]]) -> Result<()> {
    let (first, others) = pieces.split_first().unwrap_or((&(&[] as &[u8]), &[]));
    put(handle, buffer, (0, END), first)?;
    others
        .iter()
        .try_for_each(|piece| put(handle, buffer, (END, 0), piece))
}

fn put(_handle: Handle, buffer: u32, (start, len): (usize, usize), bytes: &[u8]) -> Result<()> {
    // SAFETY: the pointer and length are of a live slice.
    check(unsafe { abi::proxy_set_buffer_bytes(buffer, start, len, bytes.as_ptr(), bytes.len()) })
}
