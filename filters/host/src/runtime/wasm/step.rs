//! Carries out what follows a callback.

use tollgate_core::reply::Reply;

use crate::log::{Level, log};
use crate::status::Result;
use crate::step::Step;
use crate::wasm::abi;
use crate::wasm::headers::encode;
use crate::wasm::status::check;

/// What a callback tells the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// Go on.
    Continue = 0,
    /// Keep back what is here.
    Pause = 1,
}

/// Takes a step on the current stream. Where the proxy refuses an answer, the log says so in the name of `filter`, and the
/// stream waits until it times out.
pub(super) fn take(step: Step, filter: &str) -> Action {
    match step {
        Step::Continue => Action::Continue,
        Step::Hold | Step::Wait(_) => Action::Pause,
        Step::Answer(reply) => {
            if let Err(status) = send(&reply) {
                let details = &reply.details;
                log(
                    Level::Error,
                    &format!("{filter}: cannot answer with {details}: {status:?}"),
                );
            }
            Action::Pause
        }
        Step::Break => {
            if let Err(status) = close_response() {
                log(
                    Level::Error,
                    &format!("{filter}: cannot break off an answer: {status:?}"),
                );
            }
            Action::Continue
        }
    }
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

fn close_response() -> Result<()> {
    /// The ABI's `HttpResponse`.
    const RESPONSE: u32 = 1;
    // SAFETY: it takes a number.
    check(unsafe { abi::proxy_close_stream(RESPONSE) })
}

/// Lets a request go on that waited.
pub(super) fn continue_request() -> Result<()> {
    /// The ABI's `HttpRequest`.
    const REQUEST: u32 = 0;
    // SAFETY: it takes a number.
    check(unsafe { abi::proxy_continue_stream(REQUEST) })
}
