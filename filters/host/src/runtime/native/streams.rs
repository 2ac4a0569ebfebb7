//! From Envoy's callbacks to a filter.
//!
//! Envoy may end a stream inside a call that answers it, lets it go on or resets it, and calls this module while it does.
//! So each of these is the last thing that a callback does, with nothing borrowed.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};
use std::rc::Rc;
use std::sync::Arc;

use super::panics::{self, caught};
use super::worker::Worker;
pub use super::worker::{Entry, Root};
use super::{owed, ticker};
use crate::backend::http::CallAnswer;
use crate::context::{LogContext, RequestContext, ResponseContext, RootContext, SweepContext};
use crate::filter::{HttpFilter, Sweep, Wake};
use crate::headers::HeaderMap;
use crate::http::HttpCall;
use crate::metric::Family;
use crate::native::abi::{self, Buffer, Header};
use crate::native::answer::Answer;
use crate::native::metric::{Exporter, Owner};
use crate::native::{Handle, StreamId, body, journal};
use crate::runtime::{Waiting, accepted};
use crate::step::Step;

/// Which callback it is: what holds a stream back is said in three ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Headers,
    Body,
    Trailers,
    /// Of no stream's own.
    Outside,
}

impl Phase {
    /// `Continue`, in each of the ABI's statuses.
    const CONTINUE: u32 = 0;
    /// `StopIteration`, and of bodies `StopIterationAndBuffer`.
    const HOLD: u32 = 1;

    /// The stream is over, and nothing of what is here is wanted.
    const fn over(self) -> u32 {
        match self {
            // `StopIterationNoBuffer`.
            Self::Body => 3,
            Self::Headers | Self::Trailers | Self::Outside => 1,
        }
    }
}

/// Why a filter could not be asked.
enum Lost {
    /// There is none.
    Absent,
    /// It panicked.
    Panicked,
}

/// A filter's checked configuration; `None` refuses it, and the log has every reason.
///
/// `families` are those of all filters of the library: what one in a cluster's chain counts, one in the listener hands over,
/// as Envoy would take the other's for the cluster's own.
pub fn config_new<F: HttpFilter>(
    envoy: abi::FilterConfig,
    configuration: &[u8],
    families: &[&'static [&'static [Family]]],
) -> Option<Root<F>> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let checked = caught(|| {
        let config = Arc::new(F::check(configuration.to_vec())?);
        // As a worker will: whatever is wrong is known before it serves anybody.
        let period = core::cell::Cell::new(0);
        F::start(
            Arc::clone(&config),
            &mut RootContext(Handle::Worker(&raw const period)),
        )
        .map_err(|error| vec![error])?;
        Ok(config)
    });
    let config = accepted(F::NAME, checked?)?;
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let own = F::METRICS.iter().copied().flatten().filter(|_| !F::UPSTREAM);
    // One without labels would be there, as zero, before it is counted.
    let others = families.iter().copied().flatten().copied().flatten();
    let others = others.filter(|family| !F::UPSTREAM && !family.labels.is_empty());
    let general = panics::FAMILIES.iter().filter(|_| !F::UPSTREAM);
    let root = Root {
        id,
        config,
        ended: Arc::default(),
        exporter: Exporter::define(Owner::Filter(envoy), own.chain(others).chain(general)),
    };
    ticker::add(id, envoy);
    Some(root)
}

/// The main thread is rung: what was counted is handed to Envoy.
pub fn config_scheduled<F: HttpFilter>(root: &Root<F>) {
    let _ = caught(|| root.exporter.flush());
}

/// Envoy forgets a configuration, after its last stream.
pub fn config_destroy<F: HttpFilter>(root: &Root<F>) {
    root.end();
    ticker::remove(root.id);
}

/// A stream begins.
pub fn stream_new<F: HttpFilter>(root: &Root<F>, envoy: abi::Filter) -> Entry<F> {
    Entry {
        envoy,
        at: usize::MAX,
        worker: caught(|| Worker::of(root)).flatten(),
        stream: F::Stream::default(),
        request: None,
        journaled: None,
        waiting: None,
        is_answered: false,
        is_broken: false,
    }
}

/// It has its place in memory.
///
/// # Safety
/// As of all that follow: `entry` is a stream of this thread that is under way, and stays where it is.
pub unsafe fn stream_begins<F: HttpFilter>(entry: *mut Entry<F>) {
    // SAFETY: the caller promises it.
    let Some(worker) = (unsafe { worker(entry) }) else {
        return;
    };
    // SAFETY: the caller promises it. This is what is due after a time without streams; Envoy can't answer the new one yet.
    unsafe { tick(&worker) };
    worker.add(entry);
}

unsafe fn worker<F: HttpFilter>(entry: *mut Entry<F>) -> Option<Rc<Worker<F>>> {
    // SAFETY: the caller promises it.
    unsafe { (*entry).worker.clone() }
}

/// Asks the filter about a stream.
unsafe fn ask<F: HttpFilter, T>(
    entry: *mut Entry<F>,
    question: impl FnOnce(&mut F, &mut F::Stream) -> T,
) -> Result<T, Lost> {
    // SAFETY: the caller promises it, and nothing that is called from here ends the stream.
    let Entry {
        worker,
        stream,
        is_broken,
        journaled,
        ..
    } = unsafe { &mut *entry };
    journal::enter(journaled.as_ref());
    let worker = worker.as_ref().ok_or(Lost::Absent)?;
    let answer = {
        let mut filter = worker.filter.try_borrow_mut().map_err(|_| Lost::Absent)?;
        let filter = filter.as_mut().ok_or(Lost::Absent)?;
        caught(|| question(filter, stream))
    };
    journal::enter(None);
    answer.ok_or_else(|| {
        *is_broken = true;
        worker.start();
        Lost::Panicked
    })
}

/// Request headers are there.
///
/// # Safety
/// As of [`stream_begins`].
pub unsafe fn request_headers<F: HttpFilter>(entry: *mut Entry<F>, end: bool) -> u32 {
    // SAFETY: the caller promises it.
    unsafe {
        if F::UPSTREAM {
            owed::pay((*entry).envoy);
            (*entry).request = owed::begin((*entry).envoy, entry.cast(), give_back::<F>);
        } else {
            (*entry).journaled = caught(|| journal::begin((*entry).envoy, F::NAME)).flatten();
        }
        on_request(entry, Phase::Headers, |filter, stream, host| {
            filter.request_headers(stream, host, end)
        })
    }
}

/// A part of the request's body is there.
///
/// # Safety
/// As of [`stream_begins`].
pub unsafe fn request_body<F: HttpFilter>(entry: *mut Entry<F>, end: bool) -> u32 {
    // SAFETY: the caller promises it.
    unsafe {
        let len = body::len((*entry).envoy, 0);
        on_request_body(entry, Phase::Body, Some(len), end)
    }
}

/// Request trailers are there.
///
/// # Safety
/// As of [`stream_begins`].
pub unsafe fn request_trailers<F: HttpFilter>(entry: *mut Entry<F>) -> u32 {
    // SAFETY: the caller promises it.
    unsafe { on_request_body(entry, Phase::Trailers, None, true) }
}

/// Response headers are there.
///
/// # Safety
/// As of [`stream_begins`].
pub unsafe fn response_headers<F: HttpFilter>(entry: *mut Entry<F>, end: bool) -> u32 {
    // SAFETY: the caller promises it.
    unsafe {
        (*entry).is_answered = true;
        on_response(entry, Phase::Headers, |filter, stream, host| {
            filter.response_headers(stream, host, end)
        })
    }
}

/// A part of the response's body is there.
///
/// # Safety
/// As of [`stream_begins`].
pub unsafe fn response_body<F: HttpFilter>(entry: *mut Entry<F>, end: bool) -> u32 {
    // SAFETY: the caller promises it.
    unsafe {
        let len = body::len((*entry).envoy, 1);
        on_response(entry, Phase::Body, |filter, stream, host| {
            filter.response_body(stream, host, len, end)
        })
    }
}

/// Response trailers are there.
///
/// # Safety
/// As of [`stream_begins`].
pub unsafe fn response_trailers<F: HttpFilter>(entry: *mut Entry<F>) -> u32 {
    // SAFETY: the caller promises it.
    unsafe { on_response(entry, Phase::Trailers, F::response_trailers) }
}

/// The stream is over.
///
/// # Safety
/// As of [`stream_begins`].
pub unsafe fn stream_complete<F: HttpFilter>(entry: *mut Entry<F>) {
    // SAFETY: the caller promises it.
    unsafe {
        local_reply(entry);
        let mut host = LogContext::new(Handle::Stream((*entry).envoy));
        let _ = ask(entry, |filter, stream| filter.log(stream, &mut host));
        journal::over((*entry).journaled.as_ref());
    }
}

/// The stream is forgotten: `entry` is gone when this returns.
///
/// # Safety
/// As of [`stream_begins`].
pub unsafe fn stream_destroy<F: HttpFilter>(entry: *mut Entry<F>) {
    // SAFETY: the caller promises it.
    unsafe {
        let mut changes = Vec::new();
        let mut host = RequestContext::new(Handle::Forgotten(&raw mut changes));
        let _ = ask(entry, |filter, stream| filter.give_back(stream, &mut host));
        if let Some(request) = (*entry).request.take() {
            owed::end(request, entry.cast(), changes);
        }
        if let Some(journaled) = (*entry).journaled.take() {
            journal::end(&journaled);
        }
        if let Some(worker) = worker(entry) {
            worker.remove(entry, (*entry).at);
        }
    }
}

/// Has an attempt give back on the stream of another filter of the same request.
unsafe fn give_back<F: HttpFilter>(entry: *mut c_void, filter: abi::Filter) {
    // SAFETY: the caller promises that it is an entry of this filter's.
    unsafe {
        let mut host = RequestContext::new(Handle::Stream(filter));
        let _ = ask(entry.cast::<Entry<F>>(), |filter, stream| {
            filter.give_back(stream, &mut host)
        });
    }
}

/// Envoy is about to answer a stream by itself.
///
/// # Safety
/// As of [`stream_begins`].
pub unsafe fn local_reply<F: HttpFilter>(entry: *mut Entry<F>) {
    if !F::UPSTREAM {
        // SAFETY: the caller promises it.
        owed::pay(unsafe { (*entry).envoy });
    }
}

/// A stream's worker is rung through it.
///
/// # Safety
/// As of [`stream_begins`].
pub unsafe fn stream_scheduled<F: HttpFilter>(entry: *mut Entry<F>) {
    // SAFETY: the caller promises it.
    unsafe {
        if let Some(worker) = worker(entry) {
            tick(&worker);
        }
    }
}

/// A call of a stream's was answered, or failed.
///
/// # Safety
/// As of [`stream_begins`].
pub unsafe fn call_done<F: HttpFilter>(entry: *mut Entry<F>, call: u64, answer: &CallAnswer) {
    if !F::WAITS {
        return;
    }
    // SAFETY: the caller promises it.
    unsafe {
        let step = resume(entry, Wake::Answered(HttpCall(call), answer));
        go_on(entry, step);
    }
}

/// What Envoy says of an answer to a call.
///
/// # Safety
/// Both point to as many as are said, or are null.
pub unsafe fn call_answer(headers: (*const Header, usize), chunks: (*const Buffer, usize)) -> CallAnswer {
    // SAFETY: the caller promises it.
    let (headers, chunks) = unsafe { (slice(headers), slice(chunks)) };
    // SAFETY: Envoy's bytes are good for the callback, and copied here.
    let pairs = headers
        .iter()
        .map(|header| unsafe { (header.name.bytes(), header.value.bytes()) });
    let map: HeaderMap = pairs.collect();
    CallAnswer {
        headers: (!headers.is_empty()).then_some(map),
        // SAFETY: as above.
        body: chunks
            .iter()
            .flat_map(|chunk| unsafe { chunk.bytes() })
            .copied()
            .collect(),
    }
}

unsafe fn slice<'a, T>((first, count): (*const T, usize)) -> &'a [T] {
    if first.is_null() {
        return &[];
    }
    // SAFETY: the caller promises it.
    unsafe { core::slice::from_raw_parts(first, count) }
}

unsafe fn on_request<F: HttpFilter>(
    entry: *mut Entry<F>,
    phase: Phase,
    callback: impl FnOnce(&mut F, &mut F::Stream, &mut RequestContext) -> Step,
) -> u32 {
    // SAFETY: the caller promises it.
    unsafe {
        if (*entry).is_broken {
            return phase.over();
        }
        let mut host = RequestContext::new(Handle::Stream((*entry).envoy));
        let step = ask(entry, |filter, stream| callback(filter, stream, &mut host));
        let step = step.unwrap_or_else(|_| F::orphaned().into());
        if F::WAITS && matches!(step, Step::Wait(_)) {
            (*entry).waiting = Some(Waiting::default());
        }
        take(entry, step, phase)
    }
}

/// A part of a request's body. One that waits is told of it once it goes on.
unsafe fn on_request_body<F: HttpFilter>(
    entry: *mut Entry<F>,
    phase: Phase,
    len: Option<usize>,
    end: bool,
) -> u32 {
    // SAFETY: the caller promises it.
    unsafe {
        if F::WAITS
            && let Some(Waiting(body)) = &mut (*entry).waiting
        {
            *body = Some((len, end));
            return Phase::HOLD;
        }
        on_request(entry, phase, |filter, stream, host| {
            filter.request_body(stream, host, len, end)
        })
    }
}

unsafe fn on_response<F: HttpFilter>(
    entry: *mut Entry<F>,
    phase: Phase,
    callback: impl FnOnce(&mut F, &mut F::Stream, &mut ResponseContext) -> Step,
) -> u32 {
    // SAFETY: the caller promises it.
    unsafe {
        let mut host = ResponseContext::new(Handle::Stream((*entry).envoy));
        let step = match ask(entry, |filter, stream| callback(filter, stream, &mut host)) {
            Ok(step) => step,
            Err(Lost::Absent) => Step::Continue,
            // It is not known what of it has passed.
            Err(Lost::Panicked) if phase == Phase::Headers => F::orphaned().into(),
            Err(Lost::Panicked) => Step::Break,
        };
        take(entry, step, phase)
    }
}

/// Looks at a stream that waits.
unsafe fn resume<F: HttpFilter>(entry: *mut Entry<F>, wake: Wake<'_>) -> Option<Step> {
    // SAFETY: the caller promises it.
    unsafe {
        let Waiting(mut told) = (*entry).waiting.take()?;
        let mut host = RequestContext::new(Handle::Stream((*entry).envoy));
        let step = ask(entry, |filter, stream| {
            let step = filter.resume(stream, &mut host, wake);
            if matches!(step, Step::Continue | Step::Hold)
                && let Some((len, end)) = told.take()
            {
                return filter.request_body(stream, &mut host, len, end);
            }
            step
        });
        let step = step.unwrap_or_else(|_| F::orphaned().into());
        if matches!(step, Step::Wait(_)) {
            (*entry).waiting = Some(Waiting(told));
        }
        Some(step)
    }
}

/// Takes a step outside of a stream's own callbacks.
unsafe fn go_on<F: HttpFilter>(entry: *mut Entry<F>, step: Option<Step>) {
    // SAFETY: the caller promises it; whatever is done is the last.
    unsafe {
        match step {
            None | Some(Step::Hold | Step::Wait(_)) => {}
            Some(Step::Continue) => abi::continue_decoding((*entry).envoy),
            Some(step @ (Step::Answer(_) | Step::Break)) => {
                take(entry, step, Phase::Outside);
            }
        }
    }
}

/// Does what is due on a worker, and looks at each of its streams if that is.
unsafe fn tick<F: HttpFilter>(worker: &Rc<Worker<F>>) {
    if worker.tick() == Sweep::Nothing {
        return;
    }
    let streams = worker.streams.borrow().clone();
    let mut steps = Vec::new();
    for entry in streams {
        // SAFETY: they are under way, and looking at one ends none.
        if let Some(step) = unsafe { look(entry, worker) } {
            steps.push((entry, step));
        }
    }
    for (entry, step) in steps {
        // Another one's end may have been this one's.
        if worker.streams.borrow().contains(&entry) {
            // SAFETY: it is still under way.
            unsafe { go_on(entry, Some(step)) };
        }
    }
}

/// What is to be done with a stream after a tick.
unsafe fn look<F: HttpFilter>(entry: *mut Entry<F>, worker: &Worker<F>) -> Option<Step> {
    // SAFETY: the caller promises it.
    unsafe {
        if F::WAITS && (*entry).waiting.is_some() {
            return resume(entry, Wake::Tick);
        }
        let mut host = SweepContext::of(worker.handle(), Handle::Stream((*entry).envoy), StreamId);
        let step = match ask(entry, |filter, stream| filter.look(stream, &mut host)) {
            Ok(step) => step,
            Err(Lost::Panicked) if !(*entry).is_answered => F::orphaned().into(),
            Err(_) => return None,
        };
        // To go on is not to be let go on: nothing is held back by a look.
        matches!(step, Step::Answer(_) | Step::Break).then_some(step)
    }
}

/// Takes a step on a stream. Nothing of `entry` may be touched after it: Envoy may have ended the stream.
unsafe fn take<F: HttpFilter>(entry: *mut Entry<F>, step: Step, phase: Phase) -> u32 {
    match step {
        Step::Continue => Phase::CONTINUE,
        Step::Hold | Step::Wait(_) => Phase::HOLD,
        Step::Answer(reply) => {
            let mut answer = Answer::from(*reply);
            // SAFETY: the caller promises it.
            unsafe {
                show(entry, &mut answer);
                send((*entry).envoy, &answer);
            }
            phase.over()
        }
        Step::Break => {
            // SAFETY: the caller promises it.
            unsafe { abi::reset_stream((*entry).envoy, abi::LOCAL_RESET, Buffer::EMPTY) };
            phase.over()
        }
    }
}

/// Shows the filter its own answer, unless another has begun: Envoy sends it on the same way, but past this module.
unsafe fn show<F: HttpFilter>(entry: *mut Entry<F>, answer: &mut Answer) {
    // SAFETY: the caller promises it.
    unsafe {
        if (*entry).is_answered || (*entry).is_broken {
            return;
        }
        (*entry).is_answered = true;
        let len = answer.body.len();
        let handle = Handle::Answered((*entry).envoy, &raw mut *answer);
        let _ = ask(entry, |filter, stream| {
            let mut host = ResponseContext::new(handle);
            filter.response_headers(stream, &mut host, len == 0);
            if len > 0 {
                filter.response_body(stream, &mut host, len, true);
            }
        });
    }
}

unsafe fn send(envoy: abi::Filter, answer: &Answer) {
    let status = answer.status().unwrap_or(500);
    let mut headers: Vec<Header> = answer
        .others()
        .map(|(name, value)| Header::of(name, value))
        .collect();
    let (body, details) = (Buffer::of(&answer.body), Buffer::of(answer.details.as_bytes()));
    // SAFETY: the caller promises that the stream is under way; the slices are there for the call.
    unsafe { abi::send_response(envoy, status, headers.as_mut_ptr(), headers.len(), body, details) };
}
