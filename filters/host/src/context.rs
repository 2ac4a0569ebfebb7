//! What a callback may ask of the proxy. Each phase has a context of its own, so that a call that the phase does not have
//! does not compile. Nothing is kept of one from callback to callback.

use core::net::{IpAddr, SocketAddr};

use tollgate_core::exchange::{Exchange, UnreadableClaim};
use tollgate_core::flags::Flags;
use tollgate_core::journal::{Journal, Known};
#[cfg(not(target_arch = "wasm32"))]
use tollgate_core::state::Seen;
use tollgate_core::state::{Clock, Store, StoreError, Value};
use tollgate_core::trace::Trace;

use crate::attribute::Attribute;
use crate::backend::{self, Handle};
use crate::buffer::{CallBody, RequestBody, ResponseBody};
use crate::headers::{CallHeaders, RequestHeaders, RequestTrailers, ResponseHeaders, ResponseTrailers};
use crate::http::HttpCall;
use crate::status::{Result, Status};

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
pub struct RootContext(pub(crate) Handle);

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
pub struct StreamContext(pub(crate) Handle);

/// A stream after a tick. The proxy takes its callback for one of the root, until the stream is entered.
#[derive(Debug)]
pub struct SweepContext {
    /// Of the root.
    pub root: RootContext,
    id: backend::StreamId,
    entered: Option<bool>,
    stream: StreamContext,
}

impl SweepContext {
    pub(crate) const fn of(root: Handle, stream: Handle, id: backend::StreamId) -> Self {
        Self {
            root: RootContext(root),
            id,
            entered: None,
            stream: StreamContext(stream),
        }
    }

    /// Has what follows be about the stream; `None` where it is gone.
    pub fn enter(&mut self) -> Option<&mut StreamContext> {
        let Self { id, entered, .. } = self;
        let entered = entered.get_or_insert_with(|| backend::enter(id));
        entered.then_some(&mut self.stream)
    }
}

impl RequestContext {
    pub(crate) const fn new(handle: Handle) -> Self {
        Self {
            stream: StreamContext(handle),
            headers: RequestHeaders::new(handle),
            body: RequestBody::new(handle),
            trailers: RequestTrailers::new(handle),
        }
    }

    /// As [`RootContext::call`]: the stream may [wait](crate::Step::Wait) for the answer.
    pub fn call(&mut self, cluster: &str, headers: &[(&str, &str)], timeout_millis: u32) -> Result<HttpCall> {
        backend::http::call(self.stream.0, cluster, headers, &[], timeout_millis)
    }

    /// Has Envoy choose the route again, by the headers as they are now.
    pub fn clear_route_cache(&mut self) -> Result<()> {
        backend::clear_route_cache(self.stream.0)
    }
}

impl ResponseContext {
    pub(crate) const fn new(handle: Handle) -> Self {
        Self {
            stream: StreamContext(handle),
            request: RequestHeaders::new(handle),
            headers: ResponseHeaders::new(handle),
            body: ResponseBody::new(handle),
            trailers: ResponseTrailers::new(handle),
        }
    }
}

impl LogContext {
    pub(crate) const fn new(handle: Handle) -> Self {
        Self {
            stream: StreamContext(handle),
            request: RequestHeaders::new(handle),
            response: ResponseHeaders::new(handle),
        }
    }
}

impl RootContext {
    /// Has `tick` called every so many milliseconds.
    pub fn tick_every(&mut self, millis: u32) -> Result<()> {
        backend::tick_every(self.0, millis)
    }

    /// Sends a request without a body through one of Envoy's clusters. A failure to connect or a timeout is an answer
    /// without headers.
    pub fn call(&mut self, cluster: &str, headers: &[(&str, &str)], timeout_millis: u32) -> Result<HttpCall> {
        self.send(cluster, headers, &[], timeout_millis)
    }

    /// What tells this start from others, as far as the proxy knows: random numbers, or the name of its node.
    pub fn origin(&self) -> Vec<u8> {
        backend::origin()
    }

    /// The same of a request with a body.
    pub fn send(
        &mut self,
        cluster: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        timeout_millis: u32,
    ) -> Result<HttpCall> {
        backend::http::call(self.0, cluster, headers, body, timeout_millis)
    }
}

impl CallContext {
    pub(crate) const fn of(root: Handle, call: Handle) -> Self {
        Self {
            root: RootContext(root),
            headers: CallHeaders::new(call),
            body: CallBody::new(call),
        }
    }
}

impl StreamContext {
    /// What the proxy knows of the stream; it costs about as much as a header. What is not there is `Err(NotFound)`.
    pub fn attribute(&self, attribute: Attribute) -> Result<Vec<u8>> {
        backend::attribute(self.0, attribute)
    }

    /// The same of one that is a number; zero where there is none.
    pub fn number(&self, attribute: Attribute) -> u64 {
        backend::number(self.0, attribute).unwrap_or(0)
    }

    /// Filter state that this filter or one before it has set.
    pub fn state(&self, name: &str) -> Result<Vec<u8>> {
        backend::state(self.0, name)
    }

    /// Sets filter state, which later filters read by the same name, and access logs as `FILTER_STATE(wasm.NAME)`.
    pub fn set_state(&mut self, name: &str, value: &[u8]) -> Result<()> {
        backend::set_state(self.0, name, value)
    }
}

/// Nobody asks a filter why.
impl Trace for StreamContext {}

impl Journal for StreamContext {
    fn keep(&mut self, known: impl FnOnce() -> Known) {
        backend::journal::keep(known);
    }
}

impl Exchange for StreamContext {
    fn client(&self) -> Option<IpAddr> {
        let address = self.attribute(Attribute::ClientAddress).ok()?;
        let address: SocketAddr = core::str::from_utf8(&address).ok()?.parse().ok()?;
        Some(address.ip())
    }

    fn claim(&self, token: &str, name: &str) -> core::result::Result<Option<String>, UnreadableClaim> {
        match backend::claim(self.0, token, name) {
            Ok(text) => String::from_utf8(text).map(Some).map_err(|_| UnreadableClaim),
            Err(Status::NotFound) => Ok(None),
            Err(_) => Err(UnreadableClaim),
        }
    }

    fn attempts(&self) -> u64 {
        self.number(Attribute::Attempts)
    }

    fn is_connected(&self) -> bool {
        self.attribute(Attribute::UpstreamLocalAddress)
            .is_ok_and(|address| !address.is_empty())
    }

    fn details(&self) -> Option<Vec<u8>> {
        self.attribute(Attribute::Details).ok()
    }

    fn flags(&self) -> Flags {
        Flags(self.number(Attribute::Flags))
    }
}

/// Shared values and the time are the same in every phase.
macro_rules! shares {
    ($($context:ty),*) => {$(
        impl Store for $context {
            fn get(&mut self, key: &[u8]) -> core::result::Result<Option<(Vec<u8>, u32)>, StoreError> {
                backend::shared::get(key)
            }

            fn swap(
                &mut self,
                key: &[u8],
                value: &[u8],
                version: Option<u32>,
            ) -> core::result::Result<bool, StoreError> {
                backend::shared::swap(key, value, version)
            }

            fn put(&mut self, key: &[u8], value: &[u8]) -> core::result::Result<(), StoreError> {
                backend::shared::put(key, value)
            }

            fn load<V: Value>(
                &mut self,
                key: &[u8],
            ) -> core::result::Result<(Option<V>, Option<u32>), StoreError> {
                backend::shared::load(key)
            }

            fn exchange<V: Value>(
                &mut self,
                key: &[u8],
                value: V,
                version: Option<u32>,
            ) -> core::result::Result<bool, StoreError> {
                backend::shared::exchange(key, value, version)
            }

            fn write<V: Value>(&mut self, key: &[u8], value: V) -> core::result::Result<(), StoreError> {
                backend::shared::write(key, value)
            }

            #[cfg(not(target_arch = "wasm32"))]
            fn modify<V: Value, T>(
                &mut self,
                key: &[u8],
                _seen: &mut Seen<V>,
                new: impl Fn() -> V,
                change: impl FnMut(&mut V) -> Option<T>,
            ) -> core::result::Result<Option<T>, StoreError> {
                backend::shared::modify(key, new, change)
            }
        }

        impl Clock for $context {
            fn now(&self) -> Option<u64> {
                backend::now()
            }
        }
    )*};
}

shares!(StreamContext, RootContext);
