//! An answer in place of the upstream's.

use crate::abi;
use crate::headers::encode;
use crate::status::{Result, check};

/// Answers the current stream. `details` is for operators: Envoy's `%RESPONSE_CODE_DETAILS%`.
pub fn send_local_reply(status: u16, details: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<()> {
    /// No gRPC status: Envoy derives one where the client speaks gRPC.
    const NO_GRPC: i32 = -1;
    let headers = encode(headers)?;
    // SAFETY: the pointers and lengths are of live slices.
    check(unsafe {
        abi::proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC,
        )
    })
}

/// Breaks the current stream's answer off, so that its client sees that it is not whole.
pub fn close_response() -> Result<()> {
    /// The ABI's `HttpResponse`.
    const RESPONSE: u32 = 1;
    // SAFETY: it takes a number.
    check(unsafe { abi::proxy_close_stream(RESPONSE) })
}
