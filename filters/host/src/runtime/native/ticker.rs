//! Time for workers. Envoy gives a dynamic module no timer on a worker, so a thread of ours rings: every worker that has a
//! stream through one of its streams, and the main thread through each configuration.
//!
//! A worker without streams is not rung. Nothing waits for it there: what it has to do comes before its next request.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use crate::native::abi;

/// Between two rings.
const PERIOD: Duration = Duration::from_millis(100);

/// A thing of Envoy's that any thread may use while it lives.
#[derive(Debug, Clone, Copy)]
struct Shared(abi::Scheduler);

// SAFETY: the ABI says so of schedulers. Each is taken out under the lock under which it is used, and then deleted.
unsafe impl Send for Shared {}

/// By what a worker is rung: the scheduler of one of its streams.
#[derive(Debug, Default)]
pub(super) struct Bell(Mutex<Option<Shared>>);

/// What the thread knows.
struct Ticker {
    /// Of the configurations, by their ids.
    configs: BTreeMap<u64, Shared>,
    bells: Vec<Weak<Bell>>,
    thread: Option<Running>,
}

/// The thread, and by what it is told to end.
struct Running {
    thread: JoinHandle<()>,
    is_over: Arc<AtomicBool>,
}

static TICKER: Mutex<Ticker> = Mutex::new(Ticker {
    configs: BTreeMap::new(),
    bells: Vec::new(),
    thread: None,
});
static ENDED: Condvar = Condvar::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bell {
    /// One that is rung once it hangs on a stream.
    pub(super) fn new() -> Arc<Self> {
        let bell = Arc::new(Self::default());
        lock(&TICKER).bells.push(Arc::downgrade(&bell));
        bell
    }

    /// Hangs it on a stream, or takes it off.
    pub(super) fn hang(&self, stream: Option<abi::Filter>) {
        // SAFETY: the stream lives, as this is called on its thread before it is forgotten.
        let scheduler = stream.map(|filter| Shared(unsafe { abi::scheduler_new(filter) }));
        let before = core::mem::replace(&mut *lock(&self.0), scheduler);
        if let Some(Shared(scheduler)) = before {
            // SAFETY: nobody else knows it any more.
            unsafe { abi::scheduler_delete(scheduler) };
        }
    }

    fn ring(&self) {
        if let Some(Shared(scheduler)) = &*lock(&self.0) {
            // SAFETY: it is deleted only after it was taken out under this lock, before its stream ends.
            unsafe { abi::scheduler_commit(*scheduler, 0) };
        }
    }
}

/// Has the main thread be rung for a configuration, from now on.
pub(super) fn add(id: u64, config: abi::FilterConfig) {
    // SAFETY: the configuration is being made.
    let scheduler = Shared(unsafe { abi::config_scheduler_new(config) });
    let mut ticker = lock(&TICKER);
    ticker.configs.insert(id, scheduler);
    if ticker.thread.is_none() {
        // Without it nothing is counted and no slow body is cut, and every request is served all the same.
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = std::thread::Builder::new()
            .name("tollgate".to_owned())
            .spawn(move || run(&told));
        ticker.thread = thread.ok().map(|thread| Running { thread, is_over });
    }
}

/// And no more. The thread ends with the last of them, so that the library may be unloaded.
pub(super) fn remove(id: u64) {
    let mut ticker = lock(&TICKER);
    if let Some(Shared(scheduler)) = ticker.configs.remove(&id) {
        // SAFETY: nobody else knows it any more.
        unsafe { abi::config_scheduler_delete(scheduler) };
    }
    let last = if ticker.configs.is_empty() {
        ticker.thread.take()
    } else {
        None
    };
    drop(ticker);
    if let Some(Running { thread, is_over }) = last {
        // It waits, or will look before it does: it had the lock until then.
        is_over.store(true, Ordering::Release);
        ENDED.notify_all();
        let _ = thread.join();
    }
}

fn run(is_over: &AtomicBool) {
    let mut ticker = lock(&TICKER);
    loop {
        ticker = ENDED
            .wait_timeout(ticker, PERIOD)
            .map_or_else(|poisoned| poisoned.into_inner().0, |(ticker, _)| ticker);
        if is_over.load(Ordering::Acquire) {
            return;
        }
        for Shared(scheduler) in ticker.configs.values() {
            // SAFETY: it is deleted only after it was taken out under this lock.
            unsafe { abi::config_scheduler_commit(*scheduler, 0) };
        }
        ticker.bells.retain(|bell| match bell.upgrade() {
            Some(bell) => {
                bell.ring();
                true
            }
            None => false,
        });
    }
}
