//! Bytes that the host holds for the current callback.

use crate::abi;
use crate::memory::receive;
use crate::status::{Result, check};

/// Which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Buffer {
    /// Body of the request, as far as it is held back; only in `request_body` and `request_trailers`.
    RequestBody = 0,
    /// The part of the response's body that has just come; only in `response_body`.
    ResponseBody = 1,
    /// Body of the answer to an HTTP call; only in `http_call_response`.
    HttpCallBody = 4,
    /// The plugin's configuration; only in `configure`.
    PluginConfiguration = 7,
}

/// All of a buffer.
pub fn read_buffer(buffer: Buffer) -> Result<Vec<u8>> {
    // SAFETY: the pointers are to live locals of `receive`.
    receive(|data, len| unsafe {
        abi::proxy_get_buffer_bytes(buffer as u32, 0, u32::MAX as usize, data, len)
    })
}

/// Puts `bytes` in the place of `len` bytes from `start`.
pub fn replace_in_buffer(buffer: Buffer, start: usize, len: usize, bytes: &[u8]) -> Result<()> {
    // SAFETY: the pointer and length are of a live slice.
    check(unsafe { abi::proxy_set_buffer_bytes(buffer as u32, start, len, bytes.as_ptr(), bytes.len()) })
}
