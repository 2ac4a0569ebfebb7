//! Settlements that the store did not take.

use super::reserve::Unsettled;
use crate::state::Store;

/// Settlements to be tried again.
#[derive(Debug, Default)]
pub struct Backlog(Vec<Unsettled>);

impl Backlog {
    /// Beyond this the store is gone for good, and so is what it held.
    const MAX: usize = 4_096;

    /// Keeps what did not succeed.
    pub fn keep(&mut self, settled: Result<(), Unsettled>) {
        if let Err(unsettled) = settled
            && self.0.len() < Self::MAX
        {
            self.0.push(unsettled);
        }
    }

    /// Tries each again.
    pub fn retry(&mut self, store: &mut impl Store) {
        for unsettled in core::mem::take(&mut self.0) {
            self.keep(unsettled.carry_out(store));
        }
    }
}
