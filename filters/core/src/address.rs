//! Addresses of clients, as they are told apart where something is counted.

use std::net::IpAddr;

/// Strangers choose their addresses, so what is counted of them has a fixed number of slots.
const SLOTS: u64 = 4096;

/// The network of one client, as a number: an IPv4 address, or an IPv6 /64, as one customer has at least that.
pub fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

/// The slot of a client.
pub fn slot(address: IpAddr) -> u16 {
    // Fibonacci hashing: neighbours spread.
    ((network(address).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % SLOTS) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_its_network_and_neighbours_spread() {
        let slot = |text: &str| slot(text.parse().unwrap());
        assert_eq!(slot("2001:db8::1"), slot("2001:db8::ffff:1"));
        assert_eq!(slot("::ffff:10.0.0.1"), slot("10.0.0.1"));
        let all: std::collections::BTreeSet<u16> = (0..10_000_u32)
            .map(|n| super::slot(IpAddr::V4(n.into())))
            .collect();
        assert!(
            all.len() > 3_500 && all.iter().all(|slot| u64::from(*slot) < SLOTS),
            "{}",
            all.len()
        );
    }
}
