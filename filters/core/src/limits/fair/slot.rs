//! A request's slot in the capacity of its model.

use super::{Admission, Capacity, Org, release, store_key};
use crate::state::{Store, StoreError, update_bytes};
use crate::workers::Workers;

/// What one request holds of a model's capacity.
#[must_use = "a slot that is not released stays taken while its worker lives"]
#[derive(Debug)]
pub struct CapacitySlot {
    key: Vec<u8>,
    org: Org,
}

impl Capacity {
    /// Takes a slot at `now` (nanoseconds since 1970); `None` where the organization has to slow down.
    pub fn take(
        &self,
        store: &mut impl Store,
        workers: &Workers,
        (model, org, tier): (&str, &str, &str),
        now: u64,
    ) -> Result<Option<CapacitySlot>, StoreError> {
        let (key, org) = (store_key(model), Org::named(org));
        let mut admission = Admission::SlowDown;
        let stored = update_bytes(store, &key, |record| {
            let (found, record) = self.admit(record, org, tier, workers, now);
            admission = found;
            ((), record)
        });
        match (admission, stored) {
            (Admission::Admit, Ok(())) => Ok(Some(CapacitySlot { key, org })),
            // A mark of a refusal that was lost is made again by the next.
            (Admission::SlowDown, _) => Ok(None),
            (Admission::Admit, Err(error)) => Err(error),
        }
    }
}

impl CapacitySlot {
    /// Gives it back.
    pub fn release(&self, store: &mut impl Store, workers: &Workers, now: u64) -> Result<(), StoreError> {
        update_bytes(store, &self.key, |record| {
            ((), release(record, self.org, workers, now))
        })
    }
}
