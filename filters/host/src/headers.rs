//! Header maps: read whole in one crossing, changed one by one.

use tollgate_core::body::Edit;

use crate::abi;
use crate::memory::receive;
use crate::status::{Result, Status, check};

/// The headers of one kind, which the proxy holds; `MAP` is their number in the ABI.
#[derive(Debug)]
pub struct Headers<const MAP: u32>(());

/// Of the request.
pub type RequestHeaders = Headers<0>;
/// Trailers of the request.
pub type RequestTrailers = Headers<1>;
/// Of the response.
pub type ResponseHeaders = Headers<2>;
/// Trailers of the response.
pub type ResponseTrailers = Headers<3>;
/// Of the answer to an HTTP call.
pub type CallHeaders = Headers<6>;

impl<const MAP: u32> Headers<MAP> {
    pub(crate) const fn new() -> Self {
        Self(())
    }

    /// A copy of all of them.
    pub fn read(&self) -> Result<HeaderMap> {
        // SAFETY: the pointers are to live locals of `receive`.
        let bytes = receive(|data, len| unsafe { abi::proxy_get_header_map_pairs(MAP, data, len) })?;
        let headers = HeaderMap(bytes);
        // A header that can't be read can't be removed either, so half a map is none.
        if headers.is_whole() {
            Ok(headers)
        } else {
            Err(Status::BadArgument)
        }
    }

    /// One header's value, several joined by commas; `None` where it is absent. For more than two or three, or to tell
    /// how often a header is there, [`Self::read`] is cheaper.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        // SAFETY: the pointers and lengths are of a live slice and live locals of `receive`.
        let value = receive(|data, len| unsafe {
            abi::proxy_get_header_map_value(MAP, name.as_ptr(), name.len(), data, len)
        });
        match value {
            Ok(value) => Ok(Some(value)),
            Err(Status::NotFound) => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// The same as text; `None` also where it is none, or the proxy refuses.
    pub fn text(&self, name: &str) -> Option<String> {
        String::from_utf8(self.get(name).ok()??).ok()
    }

    /// Sets a header to one value, in place of any it has.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        // SAFETY: the pointers and lengths are of live slices.
        check(unsafe {
            abi::proxy_replace_header_map_value(MAP, name.as_ptr(), name.len(), value.as_ptr(), value.len())
        })
    }

    /// Adds a header beside any of its name; cheaper than [`Self::set`] where it is known to be absent.
    pub fn add(&mut self, name: &str, value: &str) -> Result<()> {
        // SAFETY: the pointers and lengths are of live slices.
        check(unsafe {
            abi::proxy_add_header_map_value(MAP, name.as_ptr(), name.len(), value.as_ptr(), value.len())
        })
    }

    /// Removes every value of a header.
    pub fn remove(&mut self, name: &[u8]) -> Result<()> {
        // SAFETY: the pointer and length are of a live slice.
        check(unsafe { abi::proxy_remove_header_map_value(MAP, name.as_ptr(), name.len()) })
    }
}

/// A copy of all headers, in one allocation.
///
/// Layout: the number of headers, then for each the lengths of name and value, then for each its name, a NUL,
/// its value, a NUL. Numbers are little-endian 32 bits.
#[derive(Debug)]
pub struct HeaderMap(Vec<u8>);

impl HeaderMap {
    /// Whether the lengths add up to what is there.
    fn is_whole(&self) -> bool {
        let Some(count) = self.number(0) else {
            return self.0.is_empty();
        };
        let mut lengths =
            (0..count.saturating_mul(2)).map(|at| self.number(4 + at * 4).map(|len| len.saturating_add(1)));
        let sum = lengths.try_fold(4 + count.saturating_mul(8), |sum, len| sum.checked_add(len?));
        sum == Some(self.0.len())
    }

    /// Each name, in lower case, and its value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let number = |at: usize| {
            self.0
                .get(at..)?
                .first_chunk()
                .map(|four| u32::from_le_bytes(*four) as usize)
        };
        let count = number(0).unwrap_or(0);
        let mut at = count.saturating_mul(8).saturating_add(4);
        (0..count).map_while(move |header| {
            let name_end = at.checked_add(self.number(4 + header * 8)?)?;
            let value_end = name_end
                .checked_add(1)?
                .checked_add(self.number(8 + header * 8)?)?;
            let pair = (self.0.get(at..name_end)?, self.0.get(name_end + 1..value_end)?);
            at = value_end + 1;
            Some(pair)
        })
    }

    fn number(&self, at: usize) -> Option<usize> {
        self.0
            .get(at..)?
            .first_chunk()
            .map(|four| u32::from_le_bytes(*four) as usize)
    }

    /// The first value of a header, by its name in lower case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter()
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    /// The same as text; `None` also where it is none.
    pub fn text(&self, name: &[u8]) -> Option<&str> {
        core::str::from_utf8(self.get(name)?).ok()
    }
}

impl tollgate_core::headers::Headers for HeaderMap {
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.iter()
    }

    fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.get(name)
    }
}

impl RequestHeaders {
    /// Says how long the body will be once it is edited, where its client said how long it is.
    pub fn resize(&mut self, edit: &Edit<'_>) -> Result<()> {
        let Some(said) = self.get("content-length")? else {
            return Ok(());
        };
        let length = edit.length(&said).ok_or(Status::BadArgument)?;
        self.set("content-length", &length.to_string())
    }
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
