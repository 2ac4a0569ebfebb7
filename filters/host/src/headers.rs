//! Header maps: read whole at once, changed one by one.

use tollgate_core::body::Edit;

pub use crate::backend::map::HeaderMap;
use crate::backend::{Handle, headers};
use crate::status::{Result, Status};

/// The headers of one kind, which the proxy holds; `MAP` is their number in proxy-wasm's ABI.
#[derive(Debug)]
pub struct Headers<const MAP: u32>(Handle);

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
    pub(crate) const fn new(handle: Handle) -> Self {
        Self(handle)
    }

    /// A copy of all of them.
    pub fn read(&self) -> Result<HeaderMap> {
        headers::read(self.0, MAP)
    }

    /// One header's value, several joined by commas; `None` where it is absent. For more than two or three, or to tell
    /// how often a header is there, [`Self::read`] is cheaper.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        headers::get(self.0, MAP, name)
    }

    /// The same as text; `None` also where it is none, or the proxy refuses.
    pub fn text(&self, name: &str) -> Option<String> {
        String::from_utf8(self.get(name).ok()??).ok()
    }

    /// Sets a header to one value, in place of any it has. An empty value natively leaves it out: the ABI has none.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        headers::set(self.0, MAP, name, value)
    }

    /// Adds a header beside any of its name; cheaper than [`Self::set`] where it is known to be absent.
    pub fn add(&mut self, name: &str, value: &str) -> Result<()> {
        headers::add(self.0, MAP, name, value)
    }

    /// As [`Self::set`], where these are all that were there: it costs less than half where the header is not among them.
    pub fn set_beside(&mut self, known: Option<&HeaderMap>, name: &str, value: &str) -> Result<()> {
        match known {
            Some(known) if known.get(name.as_bytes()).is_none() => self.add(name, value),
            _ => self.set(name, value),
        }
    }

    /// Removes every value of a header.
    pub fn remove(&mut self, name: &[u8]) -> Result<()> {
        headers::remove(self.0, MAP, name)
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

impl HeaderMap {
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
