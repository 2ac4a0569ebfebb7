//! An answer in place of the upstream's.

use tollgate_core::reply::Reply;

use crate::abi;
use crate::headers::encode;
use crate::log::{Level, log};
use crate::runtime::Action;
use crate::status::{Result, check};

/// Answers the current stream, which goes no further. Where the proxy refuses the answer, the log says so in the name of
/// `filter`, and the stream waits until it times out.
pub fn answer(filter: &str, reply: &Reply) -> Action {
    if let Err(status) = send(reply) {
        log(
            Level::Error,
            &format!("{filter}: cannot answer with {}: {status:?}", reply.details),
        );
    }
    Action::Pause
}

fn send(reply: &Reply) -> Result<()> {
    /// No gRPC status: Envoy derives one where the client speaks gRPC.
    const NO_GRPC: i32 = -1;
    let headers: Vec<(&str, &str)> = reply
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_ref()))
        .collect();
    let headers = encode(&headers)?;
    let Reply { details, body, .. } = reply;
    // SAFETY: the pointers and lengths are of live slices.
    check(unsafe {
        abi::proxy_send_local_response(
            u32::from(reply.status),
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
