//! What one worker knows under one configuration of a filter, and its streams.

use core::any::Any;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::panics::caught;
use super::ticker::Bell;
use crate::context::RootContext;
use crate::filter::{HttpFilter, Sweep};
use crate::log::{Level, log};
use crate::native::metric::Exporter;
use crate::native::{Handle, abi, journal};
use crate::runtime::Waiting;

/// One configuration of a filter, the same for all workers.
pub struct Root<F: HttpFilter> {
    pub(super) id: u64,
    pub(super) config: Arc<F::Config>,
    /// Whether Envoy has forgotten it.
    pub(super) ended: Arc<AtomicBool>,
    pub(super) exporter: Exporter,
}

/// A stream.
pub struct Entry<F: HttpFilter> {
    pub(super) envoy: abi::Filter,
    /// Its place among its worker's.
    pub(super) at: usize,
    pub(super) worker: Option<Rc<Worker<F>>>,
    pub(super) stream: F::Stream,
    /// Of an attempt, its request's id.
    pub(super) request: Option<Vec<u8>>,
    /// Of a request, what the journal has of it.
    pub(super) journaled: Option<Rc<journal::Request>>,
    /// Of a request that waits.
    pub(super) waiting: Option<Waiting>,
    /// Whether an answer came from elsewhere.
    pub(super) is_answered: bool,
    /// Whether a callback of it panicked.
    pub(super) is_broken: bool,
}

/// One worker's part of a [`Root`].
pub(super) struct Worker<F: HttpFilter> {
    config: Arc<F::Config>,
    /// `None` where it can't start.
    pub(super) filter: RefCell<Option<F>>,
    /// Every stream under way; each knows its place.
    pub(super) streams: RefCell<Vec<*mut Entry<F>>>,
    bell: Arc<Bell>,
    /// The stream on which the bell hangs.
    hung: Cell<*mut Entry<F>>,
    /// How often it wants to be woken, in milliseconds; zero for never.
    period: Cell<u32>,
    /// When it does next.
    due: Cell<Option<Instant>>,
}

/// A [`Worker`] of any filter.
trait Ends {
    /// Ends it, once its configuration has and no stream is left. Whether it did.
    fn end(&self) -> bool;
}

/// How many configurations have ended.
static ENDED: AtomicU64 = AtomicU64::new(0);

/// A worker of a configuration, and whether that has ended.
struct Joined {
    id: u64,
    ended: Arc<AtomicBool>,
    worker: Rc<dyn Any>,
    ends: Rc<dyn Ends>,
}

std::thread_local! {
    /// Those of this thread. Looked up once per stream.
    static WORKERS: RefCell<Vec<Joined>> = const { RefCell::new(Vec::new()) };
    /// What [`ENDED`] was when those that had ended were last let go.
    static LET_GO: Cell<u64> = const { Cell::new(0) };
}

impl<F: HttpFilter> Root<F> {
    /// Envoy has forgotten it: each worker lets it go before its next stream.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        ENDED.fetch_add(1, Ordering::Release);
    }
}

impl<F: HttpFilter> Worker<F> {
    /// This thread's; it begins with its first stream.
    pub(super) fn of(root: &Root<F>) -> Option<Rc<Self>> {
        WORKERS.with(|workers| {
            let mut workers = workers.try_borrow_mut().ok()?;
            let ended = ENDED.load(Ordering::Acquire);
            if LET_GO.replace(ended) != ended {
                workers.retain(|joined| !joined.ended.load(Ordering::Acquire) || !joined.ends.end());
            }
            if let Some(found) = workers.iter().find(|joined| joined.id == root.id) {
                return Rc::clone(&found.worker).downcast().ok();
            }
            let worker = Rc::new(Self {
                config: Arc::clone(&root.config),
                filter: RefCell::new(None),
                streams: RefCell::new(Vec::new()),
                bell: Bell::new(),
                hung: Cell::new(core::ptr::null_mut()),
                period: Cell::new(0),
                due: Cell::new(None),
            });
            worker.start();
            workers.push(Joined {
                id: root.id,
                ended: Arc::clone(&root.ended),
                worker: Rc::clone(&worker) as Rc<dyn Any>,
                ends: Rc::clone(&worker) as Rc<dyn Ends>,
            });
            Some(worker)
        })
    }

    pub(super) const fn handle(&self) -> Handle {
        Handle::Worker(&raw const self.period)
    }

    const fn host(&self) -> RootContext {
        RootContext(self.handle())
    }

    /// Begins anew, in place of what it knew.
    pub(super) fn start(&self) {
        let started = caught(|| F::start(Arc::clone(&self.config), &mut self.host()));
        let filter = match started {
            Some(Ok(filter)) => Some(filter),
            Some(Err(error)) => {
                log(
                    Level::Error,
                    &format!("{}: a worker can't start: {error}", F::NAME),
                );
                None
            }
            None => None,
        };
        self.plan(Instant::now());
        if let Ok(mut place) = self.filter.try_borrow_mut() {
            *place = filter;
        }
    }

    fn plan(&self, now: Instant) {
        let period = Duration::from_millis(self.period.get().into());
        let due = (!period.is_zero()).then(|| now.checked_add(period));
        self.due.set(due.flatten());
    }

    /// Does what is due. Whether its streams are to be looked at.
    pub(super) fn tick(&self) -> Sweep {
        let now = Instant::now();
        if self.due.get().is_none_or(|due| now < due) {
            return Sweep::Nothing;
        }
        self.plan(now);
        let ticked = caught(|| match self.filter.try_borrow_mut().as_deref_mut() {
            Ok(Some(filter)) => filter.tick(&mut self.host()),
            _ => Sweep::Nothing,
        });
        ticked.unwrap_or_else(|| {
            self.start();
            Sweep::Nothing
        })
    }

    /// A stream begins.
    pub(super) fn add(&self, entry: *mut Entry<F>) {
        let at = {
            let mut streams = self.streams.borrow_mut();
            streams.push(entry);
            streams.len() - 1
        };
        // SAFETY: the stream is new, and nobody else has it.
        let entry_ref = unsafe { &mut *entry };
        entry_ref.at = at;
        if self.hung.get().is_null() {
            self.hung.set(entry);
            self.bell.hang(Some(entry_ref.envoy));
        }
    }

    /// A stream is over.
    pub(super) fn remove(&self, entry: *mut Entry<F>, at: usize) {
        let next = {
            let mut streams = self.streams.borrow_mut();
            if streams.get(at) != Some(&entry) {
                return;
            }
            streams.swap_remove(at);
            if let Some(moved) = streams.get(at) {
                // SAFETY: each of them is under way, and on this thread.
                unsafe { (**moved).at = at };
            }
            streams.last().copied()
        };
        if self.hung.get() == entry {
            self.hung.set(next.unwrap_or(core::ptr::null_mut()));
            // SAFETY: as above.
            self.bell.hang(next.map(|entry| unsafe { (*entry).envoy }));
        }
    }
}

impl<F: HttpFilter> Ends for Worker<F> {
    fn end(&self) -> bool {
        let over = self.streams.borrow().is_empty();
        if over {
            let _ = caught(|| {
                if let Ok(Some(mut filter)) = self.filter.try_borrow_mut().map(|mut filter| filter.take()) {
                    filter.ended(&mut self.host());
                }
            });
        }
        over
    }
}
