//! From the proxy's callbacks to what a module is made of, and the exports.
//!
//! A root is one configuration of the module; a stream belongs to the root it began with, also after a reload.

mod step;

use core::cell::RefCell;
use core::hash::{BuildHasherDefault, Hasher};
use std::collections::HashMap;
use std::sync::Arc;

use tollgate_core::config::ConfigError;

use super::{Waiting, accepted};
use crate::backend::http::CallAnswer;
use crate::context::{CallContext, LogContext, RequestContext, ResponseContext, RootContext, SweepContext};
use crate::filter::{Absent, AccessLogger, HttpFilter, Singleton, Sweep, Wake};
use crate::http::HttpCall;
use crate::log::{Level, log as log_line};
use crate::step::Step;
use crate::wasm::clock::set_effective_context;
use crate::wasm::stream::root_id;
use crate::wasm::{Handle, body};
use step::{Action, continue_request, take};

/// All roots and streams of a module in one VM.
pub struct Module<F: HttpFilter, S = Absent, L = Absent, T = Absent> {
    roots: Roots<F, S, L, T>,
    streams: Option<HashMap<u32, Entry<F::Stream>, BuildHasherDefault<IdHasher>>>,
    /// Calls that streams wait for, and which.
    calls: Vec<(HttpCall, u32)>,
}

/// By their ids; `None` where a configuration was refused.
type Roots<F, S, L, T> = Vec<(u32, Option<Root<F, S, L, T>>)>;

/// What a configuration is for.
enum Root<F, S, L, T> {
    Filter(F),
    Singleton(S),
    /// Another one.
    Second(T),
    Logger(L),
}

/// A stream, and the root that it belongs to.
struct Entry<T> {
    root: u32,
    stream: T,
    /// Of a request that waits.
    waiting: Option<Waiting>,
}

/// Where a module is kept. A VM has one thread.
pub type Held<F, S, L, T> = RefCell<Module<F, S, L, T>>;

impl<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton> Root<F, S, L, T> {
    /// Makes what this configuration is for; all that is wrong with it is reported.
    fn start(configuration: Vec<u8>) -> Result<Self, Vec<ConfigError>> {
        let mut host = RootContext(Handle);
        let root_id = root_id();
        let alone = S::NAME.is_empty() && L::NAME.is_empty() && T::NAME.is_empty();
        if alone || root_id == F::NAME.as_bytes() {
            let config = F::check(configuration)?;
            F::start(Arc::new(config), &mut host).map(Self::Filter)
        } else if !S::NAME.is_empty() && root_id == S::NAME.as_bytes() {
            let config = S::check(configuration)?;
            S::start(Arc::new(config), &mut host).map(Self::Singleton)
        } else if !T::NAME.is_empty() && root_id == T::NAME.as_bytes() {
            let config = T::check(configuration)?;
            T::start(Arc::new(config), &mut host).map(Self::Second)
        } else if !L::NAME.is_empty() && root_id == L::NAME.as_bytes() {
            let config = L::check(configuration)?;
            L::start(Arc::new(config), &mut host).map(Self::Logger)
        } else {
            Err(ConfigError::new("root_id", Self::expected()))
        }
        .map_err(|error| vec![error])
    }

    fn expected() -> String {
        let known = [
            (F::NAME, "the filter"),
            (S::NAME, S::WHAT),
            (T::NAME, T::WHAT),
            (L::NAME, "the access logger"),
        ];
        let known = known.iter().filter(|(name, _)| !name.is_empty());
        let known: Vec<_> = known.map(|(name, what)| format!("`{name}` ({what})")).collect();
        match known.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("expected {} or {last}", others.join(", "))
            }
            _ => format!("expected {}", known.join("")),
        }
    }
}

impl<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton> Module<F, S, L, T> {
    /// Without any yet.
    pub const fn new() -> Self {
        Self {
            roots: Vec::new(),
            streams: None,
            calls: Vec::new(),
        }
    }

    fn root(&mut self, id: u32) -> Option<&mut Root<F, S, L, T>> {
        self.roots.iter_mut().find(|(root, _)| *root == id)?.1.as_mut()
    }

    fn filter(roots: &mut Roots<F, S, L, T>, id: u32) -> Option<&mut F> {
        match roots.iter_mut().find(|(root, _)| *root == id)?.1.as_mut()? {
            Root::Filter(filter) => Some(filter),
            Root::Singleton(_) | Root::Second(_) | Root::Logger(_) => None,
        }
    }

    fn stream(&mut self, id: u32) -> Option<(&mut F, &mut Entry<F::Stream>)> {
        let entry = self.streams.as_mut()?.get_mut(&id)?;
        Some((Self::filter(&mut self.roots, entry.root)?, entry))
    }
}

impl<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton> Default for Module<F, S, L, T> {
    fn default() -> Self {
        Self::new()
    }
}

// Each of these is one export. A call from within a call can't happen: Envoy defers what a host call triggers.
// Were one to come, `try_borrow_mut` fails and the callback does the safe thing.

/// `proxy_on_context_create`.
pub fn context_create<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
    parent: u32,
) {
    let Ok(mut module) = module.try_borrow_mut() else {
        return;
    };
    if parent == 0 {
        module.roots.push((id, None));
    } else {
        let entry = Entry {
            root: parent,
            stream: F::Stream::default(),
            waiting: None,
        };
        module.streams.get_or_insert_default().insert(id, entry);
    }
}

/// `proxy_on_configure`.
pub fn configure<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
) -> bool {
    let started = match body::read(Handle, body::CONFIGURATION, u32::MAX as usize) {
        Ok(configuration) => Root::start(configuration),
        Err(status) => Err(vec![ConfigError::unusable(status)]),
    };
    let root = accepted(F::NAME, started);
    let accepted = root.is_some();
    let Ok(mut module) = module.try_borrow_mut() else {
        return false;
    };
    if let Some((_, place)) = module.roots.iter_mut().find(|(root, _)| *root == id) {
        *place = root;
    }
    accepted
}

/// `proxy_on_request_headers`.
pub fn request_headers<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
    end: bool,
) -> Action {
    on_request(module, id, |filter, stream, host| {
        filter.request_headers(stream, host, end)
    })
}

/// `proxy_on_request_body`.
pub fn request_body<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
    len: usize,
    end: bool,
) -> Action {
    on_request_body(module, id, Some(len), end)
}

/// `proxy_on_request_trailers`.
pub fn request_trailers<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
) -> Action {
    on_request_body(module, id, None, true)
}

/// `proxy_on_response_headers`.
pub fn response_headers<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
    end: bool,
) -> Action {
    on_response(module, id, |filter, stream, host| {
        filter.response_headers(stream, host, end)
    })
}

/// `proxy_on_response_body`.
pub fn response_body<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
    len: usize,
    end: bool,
) -> Action {
    on_response(module, id, |filter, stream, host| {
        filter.response_body(stream, host, len, end)
    })
}

/// `proxy_on_response_trailers`.
pub fn response_trailers<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
) -> Action {
    on_response(module, id, F::response_trailers)
}

/// `proxy_on_log`.
pub fn log<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(module: &Held<F, S, L, T>, id: u32) {
    let Ok(mut module) = module.try_borrow_mut() else {
        return;
    };
    let mut host = LogContext::new(Handle);
    if let Some((filter, entry)) = module.stream(id) {
        filter.log(&mut entry.stream, &mut host);
    } else if let Some(Root::Logger(logger)) = module.root(id) {
        logger.log(&mut host);
    }
}

fn on_request<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
    callback: impl FnOnce(&mut F, &mut F::Stream, &mut RequestContext) -> Step,
) -> Action {
    let Ok(mut module) = module.try_borrow_mut() else {
        return take(F::orphaned().into(), F::NAME);
    };
    let Some((filter, entry)) = module.stream(id) else {
        return take(F::orphaned().into(), F::NAME);
    };
    let step = callback(filter, &mut entry.stream, &mut RequestContext::new(Handle));
    if F::WAITS
        && let Step::Wait(call) = step
    {
        entry.waiting = Some(Waiting::default());
        module.calls.extend(call.map(|call| (call, id)));
    }
    take(step, F::NAME)
}

/// A part of a request's body. One that waits is told of it once it goes on.
fn on_request_body<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
    len: Option<usize>,
    end: bool,
) -> Action {
    if F::WAITS
        && let Ok(mut module) = module.try_borrow_mut()
        && let Some((_, entry)) = module.stream(id)
        && let Some(Waiting(body)) = &mut entry.waiting
    {
        *body = Some((len, end));
        return Action::Pause;
    }
    on_request(module, id, |filter, stream, host| {
        filter.request_body(stream, host, len, end)
    })
}

/// Looks at a stream that waits; `Some` is another call that it waits for.
fn resume<F: HttpFilter>(filter: &mut F, entry: &mut Entry<F::Stream>, wake: Wake<'_>) -> Option<HttpCall> {
    let Waiting(body) = entry.waiting.take()?;
    let host = &mut RequestContext::new(Handle);
    let mut step = filter.resume(&mut entry.stream, host, wake);
    let mut told = body;
    if matches!(step, Step::Continue | Step::Hold)
        && let Some((len, end)) = told.take()
    {
        step = filter.request_body(&mut entry.stream, host, len, end);
    }
    match step {
        Step::Wait(call) => {
            entry.waiting = Some(Waiting(told));
            return call;
        }
        Step::Continue => {
            if let Err(status) = continue_request() {
                let filter = F::NAME;
                log_line(
                    Level::Error,
                    &format!("{filter}: cannot let a request go on: {status:?}"),
                );
            }
        }
        step @ (Step::Hold | Step::Answer(_) | Step::Break) => {
            take(step, F::NAME);
        }
    }
    None
}

fn on_response<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
    callback: impl FnOnce(&mut F, &mut F::Stream, &mut ResponseContext) -> Step,
) -> Action {
    let Ok(mut module) = module.try_borrow_mut() else {
        return Action::Continue;
    };
    let Some((filter, entry)) = module.stream(id) else {
        return Action::Continue;
    };
    take(
        callback(filter, &mut entry.stream, &mut ResponseContext::new(Handle)),
        F::NAME,
    )
}

/// `proxy_on_tick`.
pub fn tick<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(module: &Held<F, S, L, T>, id: u32) {
    let Ok(mut module) = module.try_borrow_mut() else {
        return;
    };
    let mut host = RootContext(Handle);
    let Module {
        roots,
        streams,
        calls,
    } = &mut *module;
    let Some((_, Some(root))) = roots.iter_mut().find(|(root, _)| *root == id) else {
        return;
    };
    let filter = match root {
        Root::Singleton(singleton) => return singleton.tick(&mut host),
        Root::Second(singleton) => return singleton.tick(&mut host),
        Root::Logger(_) => return,
        Root::Filter(filter) => filter,
    };
    if filter.tick(&mut host) == Sweep::Nothing {
        return;
    }
    let own = streams.iter_mut().flatten().filter(|(_, entry)| entry.root == id);
    for (stream, entry) in own {
        if F::WAITS && entry.waiting.is_some() {
            if set_effective_context(*stream).is_ok() {
                let call = resume(filter, entry, Wake::Tick);
                calls.extend(call.map(|call| (call, *stream)));
            }
            continue;
        }
        let mut host = SweepContext::of(Handle, Handle, *stream);
        let step = filter.look(&mut entry.stream, &mut host);
        if step != Step::Continue && host.enter().is_some() {
            take(step, F::NAME);
        }
    }
    // Where the proxy refuses, nothing more is asked of it in this callback.
    let _ = set_effective_context(id);
}

/// `proxy_on_http_call_response`. Envoy makes each call for its root, also where a stream asked for it.
pub fn http_call_response<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
    call: u32,
) {
    let Ok(mut module) = module.try_borrow_mut() else {
        return;
    };
    let call = HttpCall(call.into());
    let mut host = CallContext::of(Handle, Handle);
    match module.root(id) {
        Some(Root::Singleton(singleton)) => return singleton.answered(&mut host, call),
        Some(Root::Second(singleton)) => return singleton.answered(&mut host, call),
        _ => {}
    }
    if !F::WAITS {
        return;
    }
    let Some(at) = module.calls.iter().position(|(waited, _)| *waited == call) else {
        return;
    };
    let (_, stream) = module.calls.swap_remove(at);
    // Read first: it is the root's.
    let answered = CallContext::of(Handle, Handle);
    let answer = CallAnswer {
        headers: answered.headers.read().ok(),
        body: answered.body.read().unwrap_or_default(),
    };
    if let Some((filter, entry)) = module.stream(stream)
        && set_effective_context(stream).is_ok()
    {
        let call = resume(filter, entry, Wake::Answered(call, &answer));
        module.calls.extend(call.map(|call| (call, stream)));
        // Where the proxy refuses, nothing more is asked of it in this callback.
        let _ = set_effective_context(id);
    }
}

/// `proxy_on_delete`.
pub fn delete<F: HttpFilter, S: Singleton, L: AccessLogger, T: Singleton>(
    module: &Held<F, S, L, T>,
    id: u32,
) {
    let Ok(mut module) = module.try_borrow_mut() else {
        return;
    };
    let entry = module.streams.as_mut().and_then(|streams| streams.remove(&id));
    if let Some(mut entry) = entry {
        if let Some(filter) = Module::<F, S, L, T>::filter(&mut module.roots, entry.root) {
            filter.give_back(&mut entry.stream, &mut RequestContext::new(Handle));
        }
        return;
    }
    if let Some(Root::Filter(filter)) = module.root(id) {
        filter.ended(&mut RootContext(Handle));
    }
    module.roots.retain(|(root, _)| *root != id);
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
