//! May they, now? What a worker decides of a request's limits: whether it passes and what it may use, and at its end what
//! it did use.
//!
//! [`Limiter::admit`] reserves with every limit and takes a slot of the model, or refuses and holds nothing;
//! [`Limiter::finish`] settles and makes the usage record. Whoever carries it out reads and writes what they say.

mod admit;
mod config;
mod finish;
#[cfg(test)]
mod tests;

pub use admit::{InFlight, Rejection, Request};
pub use config::Config;
pub use finish::{Finished, record_of_another};

use std::sync::Arc;

use crate::limits::estimates::Estimates;
use crate::limits::{Backlog, Holds};
use crate::settlement::Pending;
use crate::spending;
use crate::state::{Clock, Store, StoreError};
use crate::workers::Workers;

/// The limits of one configuration, and what one worker knows beside them.
#[derive(Debug)]
pub struct Limiter {
    config: Arc<Config>,
    workers: Workers,
    estimates: Estimates,
    /// Settlements that the store did not take.
    backlog: Backlog,
    /// The same of what was spent of budgets.
    spending: spending::Backlog,
}

impl Limiter {
    /// One that knows nothing yet.
    pub fn new(config: Arc<Config>, workers: Workers) -> Self {
        Self {
            config,
            workers,
            estimates: Estimates::default(),
            backlog: Backlog::default(),
            spending: spending::Backlog::default(),
        }
    }

    /// What it decides by.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is due every second: tells others that this worker lives, shares estimates, tries again what the store did not
    /// take, and releases what was held for its time. `Err` if the workers cannot hear of each other.
    pub fn tick(&mut self, host: &mut (impl Store + Clock), holds: &mut Holds) -> Result<(), StoreError> {
        let heard = self.workers.tick(host);
        let now = host.now();
        self.spending.retry(host);
        self.estimates.tick(host, now.unwrap_or(0) / 1_000_000_000);
        if let Some(now) = now {
            self.pending(holds).tick(host, now);
        }
        heard
    }

    /// Where settlements go that are not done yet.
    fn pending<'a>(&'a mut self, holds: &'a mut Holds) -> Pending<'a> {
        Pending {
            backlog: &mut self.backlog,
            holds,
            hold_for: self.config.abandoned_hold.nanos(),
        }
    }
}
