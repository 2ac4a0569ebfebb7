//! Bytes that the proxy holds for the current callback.

use crate::abi;
use crate::memory::receive;
use crate::status::{Result, check};

/// The bytes of one kind; `BUFFER` is their number in the ABI.
#[derive(Debug)]
pub struct Body<const BUFFER: u32>(());

/// Body of the request, as far as it is held back.
pub type RequestBody = Body<0>;
/// The part of the response's body that has just come.
pub type ResponseBody = Body<1>;
/// Body of the answer to an HTTP call.
pub type CallBody = Body<4>;
/// The plugin's configuration.
pub(crate) type Configuration = Body<7>;

impl<const BUFFER: u32> Body<BUFFER> {
    pub(crate) const fn new() -> Self {
        Self(())
    }

    /// All of it.
    pub fn read(&self) -> Result<Vec<u8>> {
        self.read_to(u32::MAX as usize)
    }

    /// Its first `len` bytes, or all of it.
    pub fn read_to(&self, len: usize) -> Result<Vec<u8>> {
        // SAFETY: the pointers are to live locals of `receive`.
        receive(|data, size| unsafe { abi::proxy_get_buffer_bytes(BUFFER, 0, len, data, size) })
    }

    /// Puts `bytes` in the place of `len` bytes from `start`.
    pub fn replace(&mut self, start: usize, len: usize, bytes: &[u8]) -> Result<()> {
        // SAFETY: the pointer and length are of a live slice.
        check(unsafe { abi::proxy_set_buffer_bytes(BUFFER, start, len, bytes.as_ptr(), bytes.len()) })
    }
}
