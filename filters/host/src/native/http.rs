//! HTTP calls over dynamic modules.

use super::Handle;
use super::abi::{self, Buffer, Header};
use super::map::HeaderMap;
use crate::http::HttpCall;
use crate::status::{Result, Status};

/// An answer to an HTTP call.
#[derive(Debug)]
pub struct CallAnswer {
    /// Its headers.
    pub headers: Option<HeaderMap>,
    /// Its body.
    pub body: Vec<u8>,
}

/// Sends a request, whose body may be empty. A failure to connect or a timeout is an answer without headers.
pub(crate) fn call(
    handle: Handle,
    cluster: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    timeout_millis: u32,
) -> Result<HttpCall> {
    let mut headers: Vec<Header> = headers
        .iter()
        .map(|(name, value)| Header::of(name, value))
        .collect();
    let (to, count) = (headers.as_mut_ptr(), headers.len());
    let cluster = Buffer::of(cluster.as_bytes());
    let body = match body {
        [] => Buffer::EMPTY,
        body => Buffer::of(body),
    };
    let mut call = 0;
    // SAFETY: the pointers and lengths are of live slices and a live local.
    let sent = unsafe {
        let (id, timeout) = (&raw mut call, timeout_millis.into());
        match handle {
            Handle::Stream(filter) => abi::http_callout(filter, id, cluster, to, count, body, timeout),
            Handle::Extension(clockwork) => {
                let extension = (*clockwork).extension;
                abi::extension_callout(extension, id, cluster, to, count, body, timeout)
            }
            _ => return Err(Status::BadArgument),
        }
    };
    match sent {
        abi::DONE => Ok(HttpCall(call)),
        other => Err(Status::Other(other)),
    }
}
