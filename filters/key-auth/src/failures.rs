//! How often one address may fail to authenticate.
//!
//! Only failures are limited: a valid key passes whatever else comes from its address, so nobody can lock out a
//! customer by sharing, or sharing a slot with, its address.

use std::net::IpAddr;

use tollgate_core::gcra::Quota;
use tollgate_host::{Status, create_shared, now_nanos, set_shared_if, shared};

/// Strangers choose addresses, so their cells share a fixed number of slots.
const SLOTS: u64 = 4096;

/// Whether one more failure from `address` is within the quota, shared by all workers. Where that can't be
/// told it is: the request is refused either way.
pub(crate) fn within(quota: &Quota, address: Option<IpAddr>) -> bool {
    let (Some(address), Ok(now)) = (address, now_nanos()) else {
        return true;
    };
    let key = format!("fail-{}", slot(address));
    // Another worker may write in between; each lost race means that it made progress.
    for _ in 0..8 {
        let found = shared(key.as_bytes());
        let (tat, cas) = match &found {
            Ok(Some((value, cas))) => (
                value.first_chunk().map_or(0, |tat| u64::from_le_bytes(*tat)),
                Some(*cas),
            ),
            Ok(None) => (0, None),
            Err(_) => return true,
        };
        let Ok(next) = quota.take(tat, now) else {
            return false;
        };
        let next = next.to_le_bytes();
        let written = match cas {
            Some(cas) => set_shared_if(key.as_bytes(), &next, cas),
            None => create_shared(key.as_bytes(), &next),
        };
        if written != Err(Status::CasMismatch) {
            return true;
        }
    }
    true
}

fn slot(address: IpAddr) -> u64 {
    let bits = match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        // One customer has a /64 at least: its addresses are one.
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    };
    // Fibonacci hashing: neighbours spread.
    (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % SLOTS
}
