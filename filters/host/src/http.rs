//! HTTP calls of our own, through one of Envoy's clusters.

use crate::abi;
use crate::headers::encode;
use crate::status::{Result, check};

/// Names a call until its answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpCall(pub u32);

/// Sends a request without a body. Its answer comes to `http_call_response` of the current context; a failure
/// to connect or a timeout comes there as an answer without headers.
pub(crate) fn call_http(cluster: &str, headers: &[(&str, &str)], timeout_millis: u32) -> Result<HttpCall> {
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
            core::ptr::null(),
            0,
            trailers.as_ptr(),
            trailers.len(),
            timeout_millis,
            &raw mut call,
        )
    })?;
    Ok(HttpCall(call))
}
