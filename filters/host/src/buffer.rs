//! Bytes that the host holds for the current callback.

use crate::abi;
use crate::memory::receive;
use crate::status::Result;

/// Which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Buffer {
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
