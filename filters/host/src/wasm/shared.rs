//! Data that all workers share: one map for each `vm_id`, which outlives a reload of the configuration.
//!
//! There is no delete and no expiry, so a key that a stranger can choose must map into a fixed number of slots.

use tollgate_core::state::{StoreError, Value};

use super::abi;
use super::memory::receive;
use super::status::check;
use crate::status::Status;

/// The version of a value that there is none of. Envoy compares versions only where there is a value, and none has this
/// one: it counts them up from 1, and would take years to get here.
const NONE: u32 = u32::MAX;
/// Of a write that is to be made whatever is there.
const ANY: u32 = 0;

/// A value and its version; `None` where none was ever written.
pub(crate) fn get(key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
    let mut version = 0;
    // SAFETY: the pointers and lengths are of a live slice and live locals.
    let value = receive(|data, len| unsafe {
        abi::proxy_get_shared_data(key.as_ptr(), key.len(), data, len, &raw mut version)
    });
    match value {
        Ok(value) => Ok(Some((value, version))),
        Err(Status::NotFound) => Ok(None),
        Err(_) => Err(StoreError::Failed),
    }
}

/// Writes a value if it still has this version, or, for `None`, if there still is none.
pub(crate) fn swap(key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
    match set(key, value, version.unwrap_or(NONE)) {
        Ok(()) => Ok(true),
        Err(Status::CasMismatch) => Ok(false),
        Err(_) => Err(StoreError::Failed),
    }
}

/// Writes a value, whatever is there.
pub(crate) fn put(key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    set(key, value, ANY).map_err(|_| StoreError::Failed)
}

/// A value and its version, read from its bytes; no value with a version is one that can't be read.
pub(crate) fn load<V: Value>(key: &[u8]) -> Result<(Option<V>, Option<u32>), StoreError> {
    let (bytes, version) = get(key)?.unzip();
    Ok((bytes.and_then(|bytes| V::decode(&bytes)), version))
}

/// [`swap`] of a value.
pub(crate) fn exchange<V: Value>(key: &[u8], value: V, version: Option<u32>) -> Result<bool, StoreError> {
    swap(key, &value.encode(), version)
}

/// Writes a value, whatever is there.
pub(crate) fn write<V: Value>(key: &[u8], value: V) -> Result<(), StoreError> {
    put(key, &value.encode())
}

fn set(key: &[u8], value: &[u8], version: u32) -> Result<(), Status> {
    // SAFETY: the pointers and lengths are of live slices.
    check(unsafe {
        abi::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version)
    })
}
