//! A host without a proxy: a store of its own, the time that was said, and notes of what was decided.

use core::net::IpAddr;

use tollgate_core::budget::Budgets;
use tollgate_core::exchange::Exchange;
use tollgate_core::flags::Flags;
use tollgate_core::journal::Journal;
use tollgate_core::limits::Lease;
use tollgate_core::spending::lend;
use tollgate_core::state::{Clock, Memory, Store, StoreError};
use tollgate_core::trace::{Note, Trace};

/// A gateway that has seen no request yet.
pub(super) struct Host {
    memory: Memory,
    now: u64,
    client: Option<IpAddr>,
    pub(super) notes: Vec<Note>,
}

impl Host {
    /// At this time, for a client of this address.
    pub(super) fn new(now: u64, client: Option<IpAddr>, budgets: &Budgets) -> Self {
        let mut memory = Memory::default();
        // As if there were no other Envoy, and nothing was spent. A store in memory takes it.
        let _ = Lease::all(&mut memory);
        for budget in budgets.terms() {
            let _ = lend(&mut memory, budget);
        }
        Self {
            memory,
            now,
            client,
            notes: Vec::new(),
        }
    }
}

impl Store for Host {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        self.memory.get(key)
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        self.memory.swap(key, value, version)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.memory.put(key, value)
    }
}

impl Clock for Host {
    fn now(&self) -> Option<u64> {
        Some(self.now)
    }
}

impl Exchange for Host {
    fn client(&self) -> Option<IpAddr> {
        self.client
    }

    fn attempts(&self) -> u64 {
        0
    }

    fn is_connected(&self) -> bool {
        false
    }

    fn details(&self) -> Option<Vec<u8>> {
        None
    }

    fn flags(&self) -> Flags {
        Flags::default()
    }
}

impl Trace for Host {
    fn note(&mut self, note: impl FnOnce() -> Note) {
        self.notes.push(note());
    }
}

impl Journal for Host {}
