//! One limit for a whole fleet: this Envoy as a member of it. There is one for an Envoy, on its main thread. It tells the
//! control plane of what this Envoy's shares are too small for, and puts the answers into force for the workers, which
//! decide by them alone ([`crate::limits`]). `docs/fleet-protocol.md` has the protocol.

mod config;
mod demand;
mod membership;
mod parts;
mod steady;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use membership::{Exchanged, Membership, Outside};

use sha2::{Digest as _, Sha256};

use crate::state::Clock;

/// How often [`Membership::tick`] should be called; milliseconds.
pub const TICK_MILLIS: u32 = 80;
/// How often the clock is read for a number that no other start draws.
const DRAWS: usize = 64;

/// A number that no other start of an Envoy draws, where a host has no randomness: by what its clock says again and again,
/// to the nanosecond, and by what is `known` of it.
pub fn draw(clock: &impl Clock, known: &[u8]) -> u64 {
    let mut hash = Sha256::new().chain_update(known);
    for _ in 0..DRAWS {
        hash.update(clock.now().unwrap_or_default().to_le_bytes());
    }
    let hash = hash.finalize();
    let first = hash.first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(first)
}
