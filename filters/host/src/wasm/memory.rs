//! Memory that the host fills for us.

use std::alloc::{Layout, alloc};

use super::abi::RawStatus;
use super::status::check;
use crate::status::Result;

/// Memory of `size` bytes for the host to write into; null where there is none, which the host takes as failure.
/// Its owner is whoever the host then tells the address: `receive`.
pub fn allocate(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size) {
        // SAFETY: the layout's size is not zero.
        Ok(layout) if size > 0 => unsafe { alloc(layout) },
        _ => core::ptr::null_mut(),
    }
}

/// Makes a call that answers with memory from [`allocate`], and takes that over.
pub(crate) fn receive(call: impl FnOnce(*mut *mut u8, *mut usize) -> RawStatus) -> Result<Vec<u8>> {
    let (mut data, mut len) = (core::ptr::null_mut(), 0);
    check(call(&raw mut data, &raw mut len))?;
    if data.is_null() || len == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the host got `data` from `allocate(len)`, filled all of it and keeps no claim on it.
    Ok(unsafe { Vec::from_raw_parts(data, len, len) })
}
