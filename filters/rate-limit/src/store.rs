//! The store of the limits: Envoy's shared data.

use tollgate_core::limits::{Store, StoreError};
use tollgate_host::{Cas, Status, create_shared, set_shared_if, shared};

/// Values that all workers share.
pub(crate) struct Shared;

impl Store for Shared {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        match shared(key) {
            Ok(found) => Ok(found.map(|(value, cas)| (value, cas.number()))),
            Err(_) => Err(StoreError::Failed),
        }
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        let written = match version {
            Some(version) => set_shared_if(key, value, Cas::from_number(version)),
            None => create_shared(key, value),
        };
        match written {
            Ok(()) => Ok(true),
            Err(Status::CasMismatch) => Ok(false),
            Err(_) => Err(StoreError::Failed),
        }
    }
}

/// Changes one value; `None` leaves it as it is. Tries again when others were quicker.
pub(crate) fn update(
    key: &[u8],
    mut change: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
) -> Result<(), StoreError> {
    const ATTEMPTS: usize = 64;
    for _ in 0..ATTEMPTS {
        let (value, version) = Shared.get(key)?.unzip();
        let Some(changed) = change(value.as_deref()) else {
            return Ok(());
        };
        if Shared.swap(key, &changed, version)? {
            return Ok(());
        }
    }
    Err(StoreError::Contended)
}
