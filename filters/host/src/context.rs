//! What a callback may ask of the proxy. Each phase has a context of its own, so that a call that the phase does not have
//! does not compile. Nothing is kept of one from callback to callback.

use std::net::{IpAddr, SocketAddr};

use tollgate_core::exchange::{Exchange, UnreadableClaim};
use tollgate_core::flags::Flags;
use tollgate_core::state::{Clock, Store, StoreError};
use tollgate_core::trace::Trace;

use crate::abi;
use crate::buffer::{CallBody, RequestBody, ResponseBody};
use crate::clock::{now_nanos, set_effective_context, set_tick_period};
use crate::headers::{CallHeaders, RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers};
use crate::http::{HttpCall, call_http};
use crate::memory::receive;
use crate::shared;
use crate::status::{Result, Status, check};

/// On a request's way.
#[derive(Debug)]
pub struct RequestContext {
    /// What is known of the stream.
    pub stream: StreamContext,
    /// The request's headers.
    pub headers: RequestHeaders,
    /// Its body, as far as it is held back; there once it comes.
    pub body: RequestBody,
    /// Its trailers; there once they come.
    pub trailers: RequestTrailers,
}

/// On an answer's way.
#[derive(Debug)]
pub struct ResponseContext {
    /// What is known of the stream.
    pub stream: StreamContext,
    /// The request's headers.
    pub request: RequestHeaders,
    /// The answer's headers.
    pub headers: ResponseHeaders,
    /// The part of its body that has just come.
    pub body: ResponseBody,
    /// Its trailers; there once they come.
    pub trailers: ResponseTrailers,
}

/// At the end of a stream, whatever its ending.
#[derive(Debug)]
pub struct LogContext {
    /// What is known of the stream.
    pub stream: StreamContext,
    /// The request's headers.
    pub request: RequestHeaders,
    /// The answer's headers.
    pub response: ResponseHeaders,
}

/// In a callback that is of no stream.
#[derive(Debug)]
pub struct RootContext(());

/// When an HTTP call was answered, or failed.
#[derive(Debug)]
pub struct CallContext {
    /// Of the root that made the call.
    pub root: RootContext,
    /// The answer's headers; none where there is no answer.
    pub headers: CallHeaders,
    /// The answer's body.
    pub body: CallBody,
}

/// What the proxy knows of a stream, in each of its phases.
#[derive(Debug)]
pub struct StreamContext(());

/// A stream after a tick. The proxy takes its callback for one of the root, until the stream is entered.
#[derive(Debug)]
pub struct SweepContext {
    /// Of the root.
    pub root: RootContext,
    id: u32,
    entered: Option<bool>,
    stream: StreamContext,
}

impl SweepContext {
    pub(crate) const fn of(id: u32) -> Self {
        Self {
            root: RootContext(()),
            id,
            entered: None,
            stream: StreamContext(()),
        }
    }

    /// Has what follows be about the stream; `None` where it is gone.
    pub fn enter(&mut self) -> Option<&mut StreamContext> {
        let id = self.id;
        let entered = self
            .entered
            .get_or_insert_with(|| set_effective_context(id).is_ok());
        entered.then_some(&mut self.stream)
    }
}

impl RequestContext {
    pub(crate) const fn new() -> Self {
        Self {
            stream: StreamContext(()),
            headers: RequestHeaders::new(),
            body: RequestBody::new(),
            trailers: RequestTrailers::new(),
        }
    }

    /// As [`RootContext::call`]: the stream may [wait](crate::Step::Wait) for the answer.
    pub fn call(&mut self, cluster: &str, headers: &[(&str, &str)], timeout_millis: u32) -> Result<HttpCall> {
        call_http(cluster, headers, timeout_millis)
    }

    /// Has Envoy choose the route again, by the headers as they are now.
    pub fn clear_route_cache(&mut self) -> Result<()> {
        let name = "clear_route_cache";
        // SAFETY: the pointers and lengths are of a live slice and live locals of `receive`.
        receive(|data, len| unsafe {
            abi::proxy_call_foreign_function(name.as_ptr(), name.len(), core::ptr::null(), 0, data, len)
        })
        .map(drop)
    }
}

impl ResponseContext {
    pub(crate) const fn new() -> Self {
        Self {
            stream: StreamContext(()),
            request: RequestHeaders::new(),
            headers: ResponseHeaders::new(),
            body: ResponseBody::new(),
            trailers: ResponseTrailers::new(),
        }
    }
}

impl LogContext {
    pub(crate) const fn new() -> Self {
        Self {
            stream: StreamContext(()),
            request: RequestHeaders::new(),
            response: ResponseHeaders::new(),
        }
    }
}

impl RootContext {
    pub(crate) const fn new() -> Self {
        Self(())
    }

    /// Has `tick` called every so many milliseconds.
    pub fn tick_every(&mut self, millis: u32) -> Result<()> {
        set_tick_period(millis)
    }

    /// Sends a request without a body through one of Envoy's clusters. A failure to connect or a timeout is an answer
    /// without headers.
    pub fn call(&mut self, cluster: &str, headers: &[(&str, &str)], timeout_millis: u32) -> Result<HttpCall> {
        call_http(cluster, headers, timeout_millis)
    }
}

impl CallContext {
    pub(crate) const fn new() -> Self {
        Self {
            root: RootContext(()),
            headers: CallHeaders::new(),
            body: CallBody::new(),
        }
    }
}

impl StreamContext {
    /// Reads a property by its path. It costs about as much as a header; a missing one is `Err(NotFound)`.
    pub fn property(&self, path: &[&str]) -> Result<Vec<u8>> {
        property(path)
    }

    /// A property that is a number; zero where there is none.
    pub fn number(&self, path: &[&str]) -> u64 {
        let bytes = property(path).ok();
        bytes
            .and_then(|bytes| bytes.first_chunk().map(|eight| u64::from_le_bytes(*eight)))
            .unwrap_or(0)
    }

    /// Sets filter state that later filters read by the same name, and access logs as `FILTER_STATE(wasm.NAME)`.
    pub fn set_property(&mut self, name: &str, value: &[u8]) -> Result<()> {
        // SAFETY: the pointers and lengths are of live slices.
        check(unsafe { abi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
    }
}

/// Nobody asks a filter why.
impl Trace for StreamContext {}

impl Exchange for StreamContext {
    fn client(&self) -> Option<IpAddr> {
        let address = self.property(&["source", "address"]).ok()?;
        let address: SocketAddr = core::str::from_utf8(&address).ok()?.parse().ok()?;
        Some(address.ip())
    }

    /// Envoy's `jwt_authn` leaves them in its dynamic metadata.
    fn claim(&self, token: &str, name: &str) -> core::result::Result<Option<String>, UnreadableClaim> {
        match self.property(&[
            "metadata",
            "filter_metadata",
            "envoy.filters.http.jwt_authn",
            token,
            name,
        ]) {
            Ok(text) => String::from_utf8(text).map(Some).map_err(|_| UnreadableClaim),
            Err(Status::NotFound) => Ok(None),
            Err(_) => Err(UnreadableClaim),
        }
    }

    fn attempts(&self) -> u64 {
        self.number(&["upstream", "request_attempt_count"])
    }

    fn is_connected(&self) -> bool {
        self.property(&["upstream", "local_address"])
            .is_ok_and(|address| !address.is_empty())
    }

    fn details(&self) -> Option<Vec<u8>> {
        self.property(&["response", "code_details"]).ok()
    }

    fn flags(&self) -> Flags {
        Flags(self.number(&["response", "flags"]))
    }
}

/// Shared values and the time are the same in every phase.
macro_rules! shares {
    ($($context:ty),*) => {$(
        impl Store for $context {
            fn get(&mut self, key: &[u8]) -> core::result::Result<Option<(Vec<u8>, u32)>, StoreError> {
                shared::get(key)
            }

            fn swap(
                &mut self,
                key: &[u8],
                value: &[u8],
                version: Option<u32>,
            ) -> core::result::Result<bool, StoreError> {
                shared::swap(key, value, version)
            }

            fn put(&mut self, key: &[u8], value: &[u8]) -> core::result::Result<(), StoreError> {
                shared::put(key, value)
            }
        }

        impl Clock for $context {
            fn now(&self) -> Option<u64> {
                now_nanos().ok()
            }
        }
    )*};
}

shares!(StreamContext, RootContext);

/// A property by its path, in any phase.
pub(crate) fn property(path: &[&str]) -> Result<Vec<u8>> {
    let path = path.join("\0");
    // SAFETY: the pointers and lengths are of a live slice and live locals of `receive`.
    receive(|data, len| unsafe { abi::proxy_get_property(path.as_ptr(), path.len(), data, len) })
}
