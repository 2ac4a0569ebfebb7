//! Metrics whose updates reach the proxy together: each one would cost a crossing of its own.

use super::metric::{Counter, Gauge, Histogram};
use crate::metric::Family;
use crate::status::Result;

/// A [`Counter`] that is handed over when it is flushed.
#[derive(Debug)]
pub struct BatchedCounter {
    counter: Counter,
    count: u64,
}

/// A [`Gauge`] that is moved when it is flushed.
#[derive(Debug)]
pub struct BatchedGauge {
    gauge: Gauge,
    by: i64,
}

/// A [`Histogram`] that is handed over when it is flushed.
#[derive(Debug)]
pub struct BatchedHistogram {
    histogram: Histogram,
    noted: Vec<u64>,
}

/// Beyond so many numbers between two flushes their spread is known well enough.
const MAX: usize = 10_000;

impl BatchedCounter {
    /// As [`Counter::define`].
    pub fn define(family: &'static Family, labels: &[&str]) -> Result<Self> {
        Ok(Self {
            counter: Counter::define(family, labels)?,
            count: 0,
        })
    }

    /// Adds so many.
    pub fn add(&mut self, count: u64) {
        self.count = self.count.saturating_add(count);
    }

    /// Hands over what was added.
    pub fn flush(&mut self) {
        if self.count > 0 {
            self.counter.add(core::mem::take(&mut self.count));
        }
    }
}

impl BatchedGauge {
    /// As [`Gauge::define`].
    pub fn define(family: &'static Family) -> Result<Self> {
        Ok(Self {
            gauge: Gauge::define(family)?,
            by: 0,
        })
    }

    /// Moves it by so much.
    pub fn add(&mut self, by: i64) {
        self.by = self.by.saturating_add(by);
    }

    /// Hands over by how much it moved.
    pub fn flush(&mut self) {
        self.gauge.add(core::mem::take(&mut self.by));
    }
}

impl BatchedHistogram {
    /// As [`Histogram::define`].
    pub fn define(family: &'static Family) -> Result<Self> {
        Ok(Self {
            histogram: Histogram::define(family)?,
            noted: Vec::new(),
        })
    }

    /// Notes one number.
    pub fn record(&mut self, number: u64) {
        if self.noted.len() < MAX {
            self.noted.push(number);
        }
    }

    /// Hands over what was noted.
    pub fn flush(&mut self) {
        self.noted
            .drain(..)
            .for_each(|number| self.histogram.record(number));
    }
}
