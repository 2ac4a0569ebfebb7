//! Workers that share a store and a clock: what they agree on is told as a story, without a proxy.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::{Clock, Memory, Store, StoreError};
use crate::exchange::Exchange;
use crate::flags::Flags;
use crate::trace::{Note, Trace};

/// One of several workers; a clone is another one, with the same store and the same time.
#[derive(Clone, Default)]
pub(crate) struct Worker(Rc<Shared>);

#[derive(Default)]
struct Shared {
    memory: RefCell<Memory>,
    now: Cell<u64>,
    stopped: Cell<bool>,
    fails: Cell<bool>,
    refuses: Cell<bool>,
    calls: Cell<usize>,
    told: Cell<Told>,
    notes: RefCell<Vec<Note>>,
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

    /// Has the store take no write from here on, or take them again.
    pub(crate) fn refuse_writes(&self, refuses: bool) {
        self.0.refuses.set(refuses);
    }

    /// Sets the clock back.
    pub(crate) fn set_back(&self, nanos: u64) {
        self.0.now.set(self.0.now.get() - nanos);
    }

    /// Has something happen between a worker's next read and the write that goes with it.
    pub(crate) fn before_write(&self, happens: impl FnOnce() + 'static) {
        *self.0.before_write.borrow_mut() = Some(Box::new(happens));
    }

    /// How often the store was asked so far.
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.get()
    }

    /// Every value in the store that is not empty.
    pub(crate) fn filled(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.0.memory.borrow().filled()
    }

    /// What the proxy says of the request from here on.
    pub(crate) fn tell(&self, told: Told) {
        self.0.told.set(told);
    }

    /// What was decided since this was last asked.
    pub(crate) fn notes(&self) -> Vec<String> {
        let notes = self.0.notes.take();
        notes.iter().map(ToString::to_string).collect()
    }

    fn called(&self) -> Result<(), StoreError> {
        self.0.calls.set(self.0.calls.get() + 1);
        if self.0.fails.get() {
            return Err(StoreError::Failed);
        }
        Ok(())
    }

    fn written(&self) -> Result<(), StoreError> {
        self.called()?;
        if self.0.refuses.get() {
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
        self.written()?;
        let happens = self.0.before_write.borrow_mut().take();
        if let Some(happens) = happens {
            happens();
        }
        self.0.memory.borrow_mut().swap(key, value, version)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.written()?;
        self.0.memory.borrow_mut().put(key, value)
    }
}

impl crate::journal::Journal for Worker {}

impl Trace for Worker {
    fn note(&mut self, note: impl FnOnce() -> Note) {
        self.0.notes.borrow_mut().push(note());
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
    pub(crate) client: Option<IpAddr>,
    pub(crate) flags: Flags,
    pub(crate) attempts: u64,
    pub(crate) details: Option<&'static str>,
    pub(crate) connected: bool,
}

impl Exchange for Worker {
    fn client(&self) -> Option<IpAddr> {
        self.0.told.get().client
    }

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
