//! How often one address may fail to authenticate.
//!
//! Only failures are limited: a valid key passes whatever else comes from its address, so nobody can lock out a
//! customer by sharing, or sharing a slot with, its address.

use std::net::IpAddr;

use crate::address::slot;
use crate::gcra::Throttle;
use crate::state::{Clock, Keyspace, Store, Value, update};

/// When a slot's throttle is whole again: nanoseconds since 1970.
#[derive(Clone)]
struct Whole(u64);

impl Value for Whole {
    const KEYSPACE: Keyspace = Keyspace::FAILED_AUTH;

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(u64::from_le_bytes).map(Self)
    }

    fn encode(&self) -> Vec<u8> {
        self.0.to_le_bytes().into()
    }
}

/// Whether one more failure from `address` is within the throttle, shared by all workers; it is counted then. Where that
/// can't be told it is: the request is refused either way.
pub fn within(host: &mut (impl Store + Clock), throttle: &Throttle, address: Option<IpAddr>) -> bool {
    let (Some(address), Some(now)) = (address, host.now()) else {
        return true;
    };
    let counted = update(host, slot(address).to_string(), |whole| {
        match throttle.take(whole.map_or(0, |Whole(at)| at), now) {
            Ok(next) => (true, Some(Whole(next))),
            Err(_) => (false, None),
        }
    });
    counted.unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU32;

    use super::*;
    use crate::config::Rate;
    use crate::state::fake::Worker;

    #[test]
    fn so_many_fail_and_then_one_a_second() {
        let throttle = Throttle::new(Rate::PER_SECOND, NonZeroU32::new(3).unwrap());
        let address = "10.0.0.1".parse().ok();
        let mut host = Worker::at(1_000_000_000_000);
        let passed = (0..10).filter(|_| within(&mut host, &throttle, address)).count();
        assert_eq!(passed, 3);
        host.pass(1_000_000_000);
        assert!(within(&mut host, &throttle, address) && !within(&mut host, &throttle, address));
        assert!(within(&mut host, &throttle, "10.0.0.2".parse().ok()));
        assert!(within(&mut host, &throttle, None));
        host.stop_clock();
        assert!(within(&mut host, &throttle, address));
    }
}
