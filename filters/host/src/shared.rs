//! Data that all workers share: one map for each `vm_id`, which outlives a reload of the configuration.
//!
//! There is no delete and no expiry, so a key that a stranger can choose must map into a fixed number of slots.

use tollgate_core::state::{Clock, Store, StoreError};

use crate::abi;
use crate::clock::now_nanos;
use crate::memory::receive;
use crate::status::{Result, Status, check};

/// The version of a value: a write with it succeeds only while the value is still that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cas(u32);

/// Reads a value; `None` where none was ever written.
pub fn shared(key: &[u8]) -> Result<Option<(Vec<u8>, Cas)>> {
    let mut cas = 0;
    // SAFETY: the pointers and lengths are of a live slice and live locals.
    let value = receive(|data, len| unsafe {
        abi::proxy_get_shared_data(key.as_ptr(), key.len(), data, len, &raw mut cas)
    });
    match value {
        Ok(value) => Ok(Some((value, Cas(cas)))),
        Err(Status::NotFound) => Ok(None),
        Err(status) => Err(status),
    }
}

/// Writes a value, whatever is there.
pub fn set_shared(key: &[u8], value: &[u8]) -> Result<()> {
    // SAFETY: the pointers and lengths are of live slices.
    check(unsafe { abi::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), 0) })
}

/// Writes a value if there is none yet; otherwise `Err(CasMismatch)`.
pub fn create_shared(key: &[u8], value: &[u8]) -> Result<()> {
    // Envoy compares versions only where there is a value, and none has this one: it counts them up from 1, and
    // would take years to get here.
    set_shared_if(key, value, Cas(u32::MAX))
}

/// Writes a value if it still is the one that was read with `cas`; otherwise `Err(CasMismatch)`.
pub fn set_shared_if(key: &[u8], value: &[u8], cas: Cas) -> Result<()> {
    // SAFETY: the pointers and lengths are of live slices.
    check(unsafe { abi::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas.0) })
}

/// The proxy, as core asks it for shared values, the time, and what it knows of the current stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host;

impl Store for Host {
    fn get(&mut self, key: &[u8]) -> core::result::Result<Option<(Vec<u8>, u32)>, StoreError> {
        match shared(key) {
            Ok(found) => Ok(found.map(|(value, Cas(version))| (value, version))),
            Err(_) => Err(StoreError::Failed),
        }
    }

    fn swap(
        &mut self,
        key: &[u8],
        value: &[u8],
        version: Option<u32>,
    ) -> core::result::Result<bool, StoreError> {
        let written = match version {
            Some(version) => set_shared_if(key, value, Cas(version)),
            None => create_shared(key, value),
        };
        match written {
            Ok(()) => Ok(true),
            Err(Status::CasMismatch) => Ok(false),
            Err(_) => Err(StoreError::Failed),
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> core::result::Result<(), StoreError> {
        set_shared(key, value).map_err(|_| StoreError::Failed)
    }
}

impl Clock for Host {
    fn now(&self) -> Option<u64> {
        now_nanos().ok()
    }
}
