//! Workers that share a store and a clock: what they agree on is told as a story, without a proxy.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{Clock, Memory, Store, StoreError};
use crate::exchange::Exchange;
use crate::flags::Flags;

/// One of several workers; a clone is another one, with the same store and the same time.
#[derive(Clone, Default)]
pub(crate) struct Worker(Rc<Shared>);

#[derive(Default)]
struct Shared {
    memory: RefCell<Memory>,
    now: Cell<u64>,
    stopped: Cell<bool>,
    fails: Cell<bool>,
    calls: Cell<usize>,
    told: Cell<Told>,
    before_write: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl Worker {
    /// One whose clock says so; nanoseconds since 1970.
    pub(crate) fn at(now: u64) -> Self {
        let worker = Self::default();
        worker.0.now.set(now);
        worker
    }

    /// Time passes for all of them.
    pub(crate) fn pass(&self, nanos: u64) {
        self.0.now.set(self.0.now.get() + nanos);
    }

    /// Has the clock tell no time from here on.
    pub(crate) fn stop_clock(&self) {
        self.0.stopped.set(true);
    }

    /// Has the store fail from here on, or serve again.
    pub(crate) fn fail(&self, fails: bool) {
        self.0.fails.set(fails);
    }

    /// Has something happen between a worker's next read and the write that goes with it.
    pub(crate) fn before_write(&self, happens: impl FnOnce() + 'static) {
        *self.0.before_write.borrow_mut() = Some(Box::new(happens));
    }

    /// How often the store was asked so far.
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.get()
    }

    /// What the proxy says of the request from here on.
    pub(crate) fn tell(&self, told: Told) {
        self.0.told.set(told);
    }

    fn called(&self) -> Result<(), StoreError> {
        self.0.calls.set(self.0.calls.get() + 1);
        if self.0.fails.get() {
            return Err(StoreError::Failed);
        }
        Ok(())
    }
}

impl Store for Worker {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        self.called()?;
        self.0.memory.borrow_mut().get(key)
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        self.called()?;
        let happens = self.0.before_write.borrow_mut().take();
        if let Some(happens) = happens {
            happens();
        }
        self.0.memory.borrow_mut().swap(key, value, version)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.called()?;
        self.0.memory.borrow_mut().put(key, value)
    }
}

impl Clock for Worker {
    fn now(&self) -> Option<u64> {
        (!self.0.stopped.get()).then(|| self.0.now.get())
    }
}

/// What the proxy says of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    pub(crate) flags: Flags,
    pub(crate) attempts: u64,
    pub(crate) details: Option<&'static str>,
    pub(crate) connected: bool,
}

impl Exchange for Worker {
    fn attempts(&self) -> u64 {
        self.0.told.get().attempts
    }

    fn is_connected(&self) -> bool {
        self.0.told.get().connected
    }

    fn details(&self) -> Option<Vec<u8>> {
        self.0.told.get().details.map(Into::into)
    }

    fn flags(&self) -> Flags {
        self.0.told.get().flags
    }
}
