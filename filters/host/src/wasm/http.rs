//! HTTP calls over proxy-wasm.

use super::Handle;
use super::abi;
use super::headers::encode;
use super::map::HeaderMap;
use super::status::check;
use crate::http::HttpCall;
use crate::status::Result;

/// An answer to an HTTP call.
#[derive(Debug)]
pub struct CallAnswer {
    /// Its headers.
    pub headers: Option<HeaderMap>,
    /// Its body.
    pub body: Vec<u8>,
}

/// Sends a request, whose body may be empty. Its answer comes to `http_call_response` of the current context; a failure
/// to connect or a timeout comes there as an answer without headers.
pub(crate) fn call(
    _handle: Handle,
    cluster: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    timeout_millis: u32,
) -> Result<HttpCall> {
    let headers = encode(headers)?;
    let trailers = encode(&[])?;
    let mut call = 0;
    // SAFETY: the pointers and lengths are of live slices and a live local.
    check(unsafe {
        abi::proxy_http_call(
            cluster.as_ptr(),
            cluster.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout_millis,
            &raw mut call,
        )
    })?;
    Ok(HttpCall(call.into()))
}
