//! Bytes that the proxy holds for the current callback.

use crate::backend::{Handle, body};
use crate::status::Result;

/// The bytes of one kind; `BUFFER` is their number in proxy-wasm's ABI.
#[derive(Debug)]
pub struct Body<const BUFFER: u32>(Handle);

/// Body of the request, as far as it is held back.
pub type RequestBody = Body<0>;
/// The part of the response's body that has just come.
pub type ResponseBody = Body<1>;
/// Body of the answer to an HTTP call.
pub type CallBody = Body<4>;

impl<const BUFFER: u32> Body<BUFFER> {
    pub(crate) const fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// All of it.
    pub fn read(&self) -> Result<Vec<u8>> {
        self.read_to(u32::MAX as usize)
    }

    /// Its first `len` bytes, or all of it.
    pub fn read_to(&self, len: usize) -> Result<Vec<u8>> {
        body::read(self.0, BUFFER, len)
    }

    /// Puts `bytes` in the place of the first `len` bytes.
    pub fn replace_beginning(&mut self, len: usize, bytes: &[u8]) -> Result<()> {
        body::replace_beginning(self.0, BUFFER, len, bytes)
    }

    /// Puts these pieces, one behind the other, in the place of all of it.
    pub fn replace(&mut self, pieces: &[&[u8]]) -> Result<()> {
        body::replace(self.0, BUFFER, pieces)
    }
}
