//! Metrics whose updates reach the proxy together. All that is counted does here, so these do nothing of their own.

use super::metric::{Counter, Gauge, Histogram};
use crate::metric::Family;
use crate::status::Result;

/// A [`Counter`] that is handed over when it is flushed, at the latest.
#[derive(Debug)]
pub struct BatchedCounter(Counter);

/// A [`Gauge`] that is moved when it is flushed, at the latest.
#[derive(Debug)]
pub struct BatchedGauge(Gauge);

/// A [`Histogram`] that is handed over when it is flushed, at the latest.
#[derive(Debug)]
pub struct BatchedHistogram(Histogram);

impl BatchedCounter {
    /// As [`Counter::define`].
    pub fn define(family: &'static Family, labels: &[&str]) -> Result<Self> {
        Counter::define(family, labels).map(Self)
    }

    /// Adds so many.
    pub fn add(&mut self, count: u64) {
        self.0.add(count);
    }

    /// Hands over what was added.
    pub const fn flush(&mut self) {}
}

impl BatchedGauge {
    /// As [`Gauge::define`].
    pub fn define(family: &'static Family) -> Result<Self> {
        Gauge::define(family).map(Self)
    }

    /// Moves it by so much.
    pub fn add(&mut self, by: i64) {
        self.0.add(by);
    }

    /// Hands over by how much it moved.
    pub const fn flush(&mut self) {}
}

impl BatchedHistogram {
    /// As [`Histogram::define`].
    pub fn define(family: &'static Family) -> Result<Self> {
        Histogram::define(family).map(Self)
    }

    /// Notes one number.
    pub fn record(&mut self, number: u64) {
        self.0.record(number);
    }

    /// Hands over what was noted.
    pub const fn flush(&mut self) {}
}
