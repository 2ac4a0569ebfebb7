//! One request and its response, as all filters of the chain have it, and what of it one filter may see.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::SystemTime;

use crate::headers::Headers;
use crate::properties::Properties;

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dir {
    Request = 0,
    Response = 1,
}

/// Headers and trailers of one direction.
#[derive(Default)]
pub(crate) struct Message {
    pub(crate) headers: Headers,
    pub(crate) trailers: Option<Headers>,
}

/// What the filters of one request share.
pub(crate) struct Exchange {
    pub(crate) request: Message,
    pub(crate) response: Message,
    /// By the path given to `set_property`; Envoy keeps it under `wasm.` and that path.
    pub(crate) filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) properties: Properties,
    pub(crate) started: SystemTime,
    pub(crate) ended: Option<SystemTime>,
    pub(crate) route_cache_cleared: u32,
    /// Envoy's response flags as bits.
    pub(crate) flags: i64,
    /// How often Envoy's router has sent the request to an upstream.
    pub(crate) attempts: i64,
    pub(crate) details: Option<String>,
}

impl Exchange {
    /// One that has come no further than its request.
    pub(crate) fn begun(request: Message, properties: Properties, started: SystemTime) -> Self {
        Self {
            request,
            response: Message::default(),
            filter_state: BTreeMap::new(),
            properties,
            started,
            ended: None,
            route_cache_cleared: 0,
            flags: 0,
            attempts: 0,
            details: None,
        }
    }

    pub(crate) fn message(&mut self, dir: Dir) -> &mut Message {
        match dir {
            Dir::Request => &mut self.request,
            Dir::Response => &mut self.response,
        }
    }
}

/// What one filter can reach of one direction at this moment. Envoy takes the headers away from a filter
/// that answered "continue", so they are out of reach in its body callback.
#[derive(Default)]
pub(crate) struct View {
    pub(crate) headers: bool,
    pub(crate) trailers: bool,
    pub(crate) body: Option<Vec<u8>>,
}

/// A filter's context for one request.
pub(crate) struct StreamContext {
    pub(crate) root: u32,
    pub(crate) exchange: Rc<RefCell<Exchange>>,
    pub(crate) views: [View; 2],
    /// In `on_log` the headers are there to read, and only to read.
    pub(crate) logging: bool,
}
