//! Envoy as the native library sees it, played by a test: no sockets and no threads of its own, and any callback can be
//! made to fail. It keeps what it was told, and hands out pointers that are good for as long as Envoy says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test support: a test that cannot go on fails by panicking"
)]

mod abi;
mod callbacks;
mod calls;

use core::ffi::c_void;
use std::collections::BTreeMap;
use std::panic::{set_hook, take_hook};
use std::sync::Once;

use abi::Buffer;
pub use calls::{calls, fail, failing, logged};
// The library under test.
use tollgate as _;

/// A configuration of one of the library's filters.
pub struct Config {
    module: *mut c_void,
    // What the library knows it by.
    _envoy: Box<u8>,
}

// SAFETY: Envoy hands a configuration to all of its workers.
unsafe impl Send for Config {}
// SAFETY: as above.
unsafe impl Sync for Config {}

/// A stream through one filter.
pub struct Stream {
    filter: Box<Filter>,
}

/// What Envoy keeps of a stream.
#[derive(Debug, Default)]
pub struct Filter {
    pub(crate) module: Option<*mut c_void>,
    /// Headers of the request, as they are now.
    pub request: Vec<(String, String)>,
    /// Headers of the answer.
    pub response: Vec<(String, String)>,
    /// Bodies: of the request and of the answer, each held back and just come.
    pub(crate) bodies: [[Option<Vec<u8>>; 2]; 2],
    /// Filter state.
    pub state: BTreeMap<String, Vec<u8>>,
    /// What the filter answered.
    pub sent: Option<Sent>,
    /// Whether it was broken off.
    pub is_reset: bool,
    /// How often the route was chosen again.
    pub routed: u32,
    /// Who answered.
    pub details: String,
}

/// An answer of the filter's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its status.
    pub status: u32,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
    /// Why.
    pub details: String,
}

impl Config {
    /// Loads the filter of this name; `None` where it refuses the configuration.
    pub fn new(name: &str, configuration: &str) -> Option<Self> {
        let mut envoy = Box::new(0_u8);
        // SAFETY: as Envoy does it.
        let module = unsafe {
            load();
            let (name, configuration) = (Buffer::of(name.as_bytes()), Buffer::of(configuration.as_bytes()));
            abi::config_new((&raw mut *envoy).cast(), name, configuration)
        };
        (!module.is_null()).then(|| Self {
            module,
            _envoy: envoy,
        })
    }

    /// The main thread is rung.
    pub fn ring(&self) {
        // SAFETY: as Envoy does it.
        unsafe { abi::config_scheduled(core::ptr::null_mut(), self.module, 0) };
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: no stream is left, as a stream borrows nothing longer than a test does.
        unsafe { abi::config_destroy(self.module) };
    }
}

/// The library is loaded, once. Where a test panics it is said as well, and not in the log alone.
fn load() {
    static LOADED: Once = Once::new();
    LOADED.call_once(|| {
        let said = take_hook();
        // SAFETY: as Envoy does it.
        unsafe { abi::program_init() };
        let logged = take_hook();
        set_hook(Box::new(move |panic| {
            logged(panic);
            said(panic);
        }));
    });
}

/// What a filter says of what it was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It goes on.
    Continue,
    /// It is held back.
    Hold,
    /// It is over.
    Over,
}

impl Status {
    const fn of(status: u32) -> Self {
        match status {
            0 => Self::Continue,
            3 => Self::Over,
            _ => Self::Hold,
        }
    }
}

impl Stream {
    /// One of this configuration's filter.
    pub fn new(config: &Config) -> Self {
        let mut filter = Box::<Filter>::default();
        // SAFETY: as Envoy does it; the filter stays where it is.
        let module = unsafe { abi::filter_new(config.module, (&raw mut *filter).cast()) };
        filter.module = Some(module);
        Self { filter }
    }

    /// What Envoy has of it.
    pub fn filter(&mut self) -> &mut Filter {
        &mut self.filter
    }

    fn pointers(&mut self) -> (*mut c_void, *mut c_void) {
        let module = self.filter.module.expect("the stream is under way");
        ((&raw mut *self.filter).cast(), module)
    }

    /// Request headers come.
    pub fn request_headers(&mut self, headers: &[(&str, &str)], end: bool) -> Status {
        let owned = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.filter.request = owned.collect();
        let (envoy, module) = self.pointers();
        // SAFETY: as Envoy does it.
        Status::of(unsafe { abi::request_headers(envoy, module, end) })
    }

    /// A piece of the request's body comes.
    pub fn request_body(&mut self, piece: &[u8], end: bool) -> Status {
        self.body(0, piece, end)
    }

    /// Response headers come, from a model server.
    pub fn response_headers(&mut self, headers: &[(&str, &str)], end: bool) -> Status {
        let owned = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.filter.response = owned.collect();
        "via_upstream".clone_into(&mut self.filter.details);
        let (envoy, module) = self.pointers();
        // SAFETY: as Envoy does it.
        Status::of(unsafe { abi::response_headers(envoy, module, end) })
    }

    /// A piece of the answer's body comes.
    pub fn response_body(&mut self, piece: &[u8], end: bool) -> Status {
        self.body(1, piece, end)
    }

    fn body(&mut self, which: usize, piece: &[u8], end: bool) -> Status {
        let [held, received] = &mut self.filter.bodies[which];
        // The last piece is shown with those that were held back.
        match held {
            Some(held) if end => {
                held.extend_from_slice(piece);
                *received = Some(Vec::new());
            }
            _ => *received = Some(piece.to_vec()),
        }
        let (envoy, module) = self.pointers();
        // SAFETY: as Envoy does it.
        let status = unsafe {
            match which {
                0 => abi::request_body(envoy, module, end),
                _ => abi::response_body(envoy, module, end),
            }
        };
        let [held, received] = &mut self.filter.bodies[which];
        let came = received.take().unwrap_or_default();
        if Status::of(status) == Status::Hold {
            held.get_or_insert_default().extend(came);
        } else {
            let passed = held.take().unwrap_or_default();
            *received = Some([passed, came].concat());
        }
        Status::of(status)
    }

    /// What of the request's body has passed.
    pub fn passed(&self) -> Option<&[u8]> {
        self.filter.bodies[0][1].as_deref()
    }

    /// The stream is over.
    pub fn complete(&mut self) {
        let (envoy, module) = self.pointers();
        // SAFETY: as Envoy does it.
        unsafe { abi::stream_complete(envoy, module) };
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(module) = self.filter.module.take() {
            // SAFETY: as Envoy does it, once.
            unsafe { abi::filter_destroy(module) };
        }
    }
}
