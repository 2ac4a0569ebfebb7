//! Metrics of the whole Envoy; 0.1 µs an update. proxy-wasm has no labels: they are parts of the name, from which
//! `stats_tags` in `envoy/envoy.yaml` makes labels again.

use super::abi;
use super::status::check;
use crate::metric::{Family, Kind};
use crate::status::Result;

/// A number that only grows.
#[derive(Debug, Clone, Copy)]
pub struct Counter(u32);

/// A number that is set.
#[derive(Debug, Clone, Copy)]
pub struct Gauge(u32);

impl Counter {
    /// Defines one, or finds the one with these values of its labels.
    pub fn define(family: &'static Family, labels: &[&str]) -> Result<Self> {
        define(family, labels).map(Self)
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
    pub fn define(family: &'static Family) -> Result<Self> {
        define(family, &[]).map(Self)
    }

    /// Notes one.
    pub fn record(self, value: u64) {
        // SAFETY: no pointers.
        let _ = unsafe { abi::proxy_record_metric(self.0, value) };
    }
}

impl Gauge {
    /// Defines it, or finds the one of that name.
    pub fn define(family: &'static Family) -> Result<Self> {
        define(family, &[]).map(Self)
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

fn define(family: &Family, values: &[&str]) -> Result<u32> {
    let mut name = family.name.to_owned();
    for (label, value) in family.labels.iter().zip(values) {
        name.extend([".", label, ".", value]);
    }
    let kind = match family.kind {
        Kind::Counter => 0,
        Kind::Gauge => 1,
        Kind::Histogram => 2,
    };
    let mut id = 0;
    // SAFETY: the pointers and lengths are of a live slice and a live local.
    check(unsafe { abi::proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}
