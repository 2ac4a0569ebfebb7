//! From the proxy's callbacks to a module's roots and streams, and the exports.
//!
//! A root is one configuration of the module; a stream belongs to the root it began with, also after a reload.

use core::cell::RefCell;
use core::hash::{BuildHasherDefault, Hasher};
use std::collections::HashMap;

use crate::buffer::{Buffer, read_buffer};
use crate::clock::set_effective_context;
use crate::http::HttpCall;

/// What the proxy does next with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// Goes on.
    Continue = 0,
    /// Waits: an answer was sent, or the stream is resumed later.
    Pause = 1,
}

/// What follows a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sweep {
    /// Nothing.
    Nothing,
    /// Each stream of the root is looked at.
    Streams,
}

/// A filter. The value is one root: a configuration that was accepted.
pub trait Module: Sized + 'static {
    /// What is remembered of a stream from one callback to the next.
    type Stream: Default;

    /// Checks a configuration, as Envoy hands it over, and makes a root of it. `None`, after logging why, refuses
    /// it: the one before stays in force. The answer must depend on the configuration alone, because every worker
    /// asks.
    fn configure(configuration: Vec<u8>) -> Option<Self>;

    /// Request headers of a stream are there; `end` if no body follows.
    fn request_headers(&mut self, stream: &mut Self::Stream, end: bool) -> Action;

    /// `len` bytes of the request's body are there, all that was held back included; `end` if it is whole.
    fn request_body(&mut self, _stream: &mut Self::Stream, _len: usize, _end: bool) -> Action {
        Action::Continue
    }

    /// Request trailers are there: the body is whole, though no `request_body` said so.
    fn request_trailers(&mut self, _stream: &mut Self::Stream) -> Action {
        Action::Continue
    }

    /// Response headers are there: the upstream's, or those of an answer that Envoy or a filter made; `end` if no body
    /// follows.
    fn response_headers(&mut self, _stream: &mut Self::Stream, _end: bool) -> Action {
        Action::Continue
    }

    /// `len` more bytes of the response's body are there; `end` with the last of them.
    fn response_body(&mut self, _stream: &mut Self::Stream, _len: usize, _end: bool) -> Action {
        Action::Continue
    }

    /// Response trailers are there: the body is whole, though no `response_body` said so.
    fn response_trailers(&mut self, _stream: &mut Self::Stream) -> Action {
        Action::Continue
    }

    /// The stream is over, whatever its ending.
    fn log(&mut self, _stream: &mut Self::Stream) {}

    /// The root is an access logger, and something is to be logged: headers and properties are of that.
    fn logged(&mut self) {}

    /// A stream whose root is unknown: answers it, as nothing can be checked.
    fn orphaned() -> Action;

    /// The tick period has passed. Whether every stream is to be looked at now.
    fn tick(&mut self) -> Sweep {
        Sweep::Nothing
    }

    /// Looks at a stream after a tick that asked for it. What is done about the stream comes behind `enter`, which tells
    /// the proxy that it is about this one; `false` where it is gone.
    fn look(&mut self, _stream: &mut Self::Stream, _enter: impl FnOnce() -> bool) {}

    /// The root is over: another configuration has taken its place, and its last stream has ended.
    fn ended(&mut self) {}

    /// An HTTP call was answered, or failed (then there are no headers).
    fn http_call_response(&mut self, _call: HttpCall) {}
}

/// All roots and streams of one VM.
pub struct Contexts<M: Module> {
    roots: Vec<(u32, Option<M>)>,
    streams: Option<HashMap<u32, Entry<M>, BuildHasherDefault<IdHasher>>>,
}

/// A stream, and the root that it belongs to.
struct Entry<M: Module> {
    root: u32,
    stream: M::Stream,
}

/// Where a module keeps its [`Contexts`]. A VM has one thread.
pub type Held<M> = RefCell<Contexts<M>>;

impl<M: Module> Contexts<M> {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            roots: Vec::new(),
            streams: None,
        }
    }

    fn root(&mut self, id: u32) -> Option<&mut M> {
        self.roots.iter_mut().find(|(root, _)| *root == id)?.1.as_mut()
    }

    fn stream(&mut self, id: u32) -> Option<(&mut M, &mut M::Stream)> {
        let entry = self.streams.as_mut()?.get_mut(&id)?;
        let root = self
            .roots
            .iter_mut()
            .find(|(root, _)| *root == entry.root)?
            .1
            .as_mut()?;
        Some((root, &mut entry.stream))
    }
}

impl<M: Module> Default for Contexts<M> {
    fn default() -> Self {
        Self::new()
    }
}

// Each of these is one export. A call from within a call can't happen: Envoy defers what a host call triggers.
// Were one to come, `try_borrow_mut` fails and the callback does the safe thing.

/// `proxy_on_context_create`.
pub fn context_create<M: Module>(contexts: &Held<M>, id: u32, parent: u32) {
    let Ok(mut contexts) = contexts.try_borrow_mut() else {
        return;
    };
    if parent == 0 {
        contexts.roots.push((id, None));
    } else {
        contexts.streams.get_or_insert_default().insert(
            id,
            Entry {
                root: parent,
                stream: M::Stream::default(),
            },
        );
    }
}

/// `proxy_on_configure`.
pub fn configure<M: Module>(contexts: &Held<M>, id: u32) -> bool {
    let configured = read_buffer(Buffer::PluginConfiguration)
        .ok()
        .and_then(M::configure);
    let accepted = configured.is_some();
    let Ok(mut contexts) = contexts.try_borrow_mut() else {
        return false;
    };
    if let Some((_, root)) = contexts.roots.iter_mut().find(|(root, _)| *root == id) {
        *root = configured;
    }
    accepted
}

/// `proxy_on_request_headers`.
pub fn request_headers<M: Module>(contexts: &Held<M>, id: u32, end: bool) -> Action {
    on_stream(contexts, id, |root, stream| root.request_headers(stream, end)).unwrap_or_else(M::orphaned)
}

/// `proxy_on_request_body`.
pub fn request_body<M: Module>(contexts: &Held<M>, id: u32, len: usize, end: bool) -> Action {
    on_stream(contexts, id, |root, stream| root.request_body(stream, len, end)).unwrap_or_else(M::orphaned)
}

/// `proxy_on_request_trailers`.
pub fn request_trailers<M: Module>(contexts: &Held<M>, id: u32) -> Action {
    on_stream(contexts, id, M::request_trailers).unwrap_or_else(M::orphaned)
}

/// `proxy_on_response_headers`.
pub fn response_headers<M: Module>(contexts: &Held<M>, id: u32, end: bool) -> Action {
    on_stream(contexts, id, |root, stream| root.response_headers(stream, end)).unwrap_or(Action::Continue)
}

/// `proxy_on_response_trailers`.
pub fn response_trailers<M: Module>(contexts: &Held<M>, id: u32) -> Action {
    on_stream(contexts, id, M::response_trailers).unwrap_or(Action::Continue)
}

/// `proxy_on_response_body`.
pub fn response_body<M: Module>(contexts: &Held<M>, id: u32, len: usize, end: bool) -> Action {
    on_stream(contexts, id, |root, stream| root.response_body(stream, len, end)).unwrap_or(Action::Continue)
}

/// `proxy_on_log`.
pub fn log<M: Module>(contexts: &Held<M>, id: u32) {
    if on_stream(contexts, id, M::log).is_none()
        && let Ok(mut contexts) = contexts.try_borrow_mut()
        && let Some(root) = contexts.root(id)
    {
        root.logged();
    }
}

fn on_stream<M: Module, T>(
    contexts: &Held<M>,
    id: u32,
    then: impl FnOnce(&mut M, &mut M::Stream) -> T,
) -> Option<T> {
    let mut contexts = contexts.try_borrow_mut().ok()?;
    let (root, stream) = contexts.stream(id)?;
    Some(then(root, stream))
}

/// `proxy_on_tick`.
pub fn tick<M: Module>(contexts: &Held<M>, id: u32) {
    let Ok(mut contexts) = contexts.try_borrow_mut() else {
        return;
    };
    let Contexts { roots, streams } = &mut *contexts;
    let root = roots.iter_mut().find(|(root, _)| *root == id);
    let Some(root) = root.and_then(|(_, root)| root.as_mut()) else {
        return;
    };
    if root.tick() == Sweep::Nothing {
        return;
    }
    let own = streams.iter_mut().flatten().filter(|(_, entry)| entry.root == id);
    for (stream, entry) in own {
        root.look(&mut entry.stream, || set_effective_context(*stream).is_ok());
    }
    // Where the proxy refuses, nothing more is asked of it in this callback.
    let _ = set_effective_context(id);
}

/// `proxy_on_http_call_response`.
pub fn http_call_response<M: Module>(contexts: &Held<M>, id: u32, call: u32) {
    if let Ok(mut contexts) = contexts.try_borrow_mut()
        && let Some(root) = contexts.root(id)
    {
        root.http_call_response(HttpCall(call));
    }
}

/// `proxy_on_delete`.
pub fn delete<M: Module>(contexts: &Held<M>, id: u32) {
    let Ok(mut contexts) = contexts.try_borrow_mut() else {
        return;
    };
    if contexts
        .streams
        .as_mut()
        .is_none_or(|streams| streams.remove(&id).is_none())
    {
        if let Some(root) = contexts.root(id) {
            root.ended();
        }
        contexts.roots.retain(|(root, _)| *root != id);
    }
}

/// Context ids are numbers that the proxy counts up, so they spread well enough as they are.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u32(&mut self, id: u32) {
        // hashbrown takes its control byte from the top bits.
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Exports a [`Module`] as proxy-wasm callbacks. Only the callbacks that are named beside the module exist: Envoy
/// skips the others without entering the VM.
///
/// ```ignore
/// tollgate_host::export!(KeyAuth: request_headers, tick, http_call_response);
/// ```
#[macro_export]
macro_rules! export {
    ($module:ty : $($callback:ident),* $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        mod exports {
            use super::*;

            std::thread_local! {
                static CONTEXTS: $crate::runtime::Held<$module> =
                    const { core::cell::RefCell::new($crate::runtime::Contexts::new()) };
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_abi_version_0_2_1() {}

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
                $crate::allocate(size)
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_context_create(id: u32, parent: u32) {
                CONTEXTS.with(|contexts| $crate::runtime::context_create(contexts, id, parent));
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_configure(id: u32, _size: u32) -> u32 {
                u32::from(CONTEXTS.with(|contexts| $crate::runtime::configure(contexts, id)))
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_delete(id: u32) {
                CONTEXTS.with(|contexts| $crate::runtime::delete(contexts, id));
            }

            $($crate::export!(@ $callback);)*
        }
    };
    (@ request_headers) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_request_headers(id: u32, _headers: u32, end: u32) -> u32 {
            CONTEXTS.with(|contexts| $crate::runtime::request_headers(contexts, id, end != 0)) as u32
        }
    };
    (@ request_body) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_request_body(id: u32, len: usize, end: u32) -> u32 {
            CONTEXTS.with(|contexts| $crate::runtime::request_body(contexts, id, len, end != 0)) as u32
        }
    };
    (@ request_trailers) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_request_trailers(id: u32, _trailers: u32) -> u32 {
            CONTEXTS.with(|contexts| $crate::runtime::request_trailers(contexts, id)) as u32
        }
    };
    (@ response_headers) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_response_headers(id: u32, _headers: u32, end: u32) -> u32 {
            CONTEXTS.with(|contexts| $crate::runtime::response_headers(contexts, id, end != 0)) as u32
        }
    };
    (@ response_trailers) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_response_trailers(id: u32, _trailers: u32) -> u32 {
            CONTEXTS.with(|contexts| $crate::runtime::response_trailers(contexts, id)) as u32
        }
    };
    (@ response_body) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_response_body(id: u32, len: usize, end: u32) -> u32 {
            CONTEXTS.with(|contexts| $crate::runtime::response_body(contexts, id, len, end != 0)) as u32
        }
    };
    (@ log) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_log(id: u32) {
            CONTEXTS.with(|contexts| $crate::runtime::log(contexts, id));
        }
    };
    (@ tick) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_tick(id: u32) {
            CONTEXTS.with(|contexts| $crate::runtime::tick(contexts, id));
        }
    };
    (@ http_call_response) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_http_call_response(id: u32, call: u32, _headers: u32, _body: u32, _trailers: u32) {
            CONTEXTS.with(|contexts| $crate::runtime::http_call_response(contexts, id, call));
        }
    };
}
