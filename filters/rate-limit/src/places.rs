//! Places among the requests that a model serves at once, shared among organizations.

use tollgate_core::limits::fair::{Capacity, Org, Owner, Verdict, release, store_key};
use tollgate_core::state::{StoreError, update_bytes};
use tollgate_host::Host;

use crate::owners::Owners;

/// A place that a request holds.
pub(crate) struct Place {
    key: Vec<u8>,
    org: Org,
}

/// Asks for a place; `None` where the organization has to slow down.
pub(crate) fn take(
    capacity: &Capacity,
    model: &str,
    org: &str,
    tier: &str,
    owners: &Owners,
    now: u64,
) -> Result<Option<Place>, StoreError> {
    let (key, org) = (store_key(model), Org::named(org));
    let mut verdict = Verdict::SlowDown;
    let stored = update_bytes(&mut Host, &key, |record| {
        let record = with_owner(owners, |owner| capacity.admit(record, org, tier, owner, now));
        verdict = record.0;
        ((), record.1)
    });
    match (verdict, stored) {
        (Verdict::Admit, Ok(())) => Ok(Some(Place { key, org })),
        // A mark of a refusal that was lost is made again by the next.
        (Verdict::SlowDown, _) => Ok(None),
        (Verdict::Admit, Err(error)) => Err(error),
    }
}

impl Place {
    /// Gives it back.
    pub(crate) fn free(&self, owners: &Owners, now: u64) -> Result<(), StoreError> {
        update_bytes(&mut Host, &self.key, |record| {
            (
                (),
                with_owner(owners, |owner| release(record, self.org, owner, now)),
            )
        })
    }
}

fn with_owner<T>(owners: &Owners, then: impl FnOnce(&Owner<'_>) -> T) -> T {
    then(&Owner {
        number: owners.number(),
        alive: &|number| owners.lives(number),
    })
}
