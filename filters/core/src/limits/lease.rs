//! What this Envoy has of the fleet's limits at all, and until when: one value, which its member writes and workers read.

use super::record::SET_BACK;
use crate::state::{Keyspace, Store, StoreError, Value, read, update, write};

/// A lease. Layout, little-endian: 8 bytes for each number, and 4 for `parts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lease {
    /// Higher with each that has other parts than the one before: what was of a lower one is void.
    pub number: u64,
    /// The life of the member that it is of: explicit shares of another are void.
    pub life: u64,
    /// It is valid from here on; nanoseconds since 1970.
    pub from: u64,
    /// And until then.
    pub until: u64,
    /// It has one in so many of each limit of which it has no explicit share; none where this is zero.
    pub parts: u32,
    /// Nobody has used these since then; nanoseconds since 1970.
    pub since: u64,
}

impl Lease {
    /// What is in force; `None` where nothing ever was.
    pub(crate) fn read(store: &mut impl Store) -> Result<Option<Self>, StoreError> {
        read(store, "")
    }

    /// Puts it in force, with a higher number than any of another life. Where one that is not `own` is valid at `now`,
    /// nothing is changed: `false`.
    pub(crate) fn put(
        &mut self,
        store: &mut impl Store,
        now: u64,
        own: impl Fn(u64) -> bool,
    ) -> Result<bool, StoreError> {
        update(store, "", |stored: Option<Self>| {
            if let Some(before) = stored.filter(|before| before.life != self.life) {
                if before.is_valid(now) && !own(before.life) {
                    return (false, None);
                }
                self.number = self.number.max(before.number.saturating_add(1));
            }
            (true, Some(*self))
        })
    }

    /// All of every limit, for a tool that plays the only Envoy that there is.
    pub fn all(store: &mut impl Store) -> Result<(), StoreError> {
        let all = Self {
            number: 1,
            life: 1,
            from: 0,
            until: u64::MAX,
            parts: 1,
            since: 0,
        };
        write(store, "", all)
    }

    /// Whether it is valid: not if the clock was set back behind its beginning, as nobody knows by how much then.
    pub fn is_valid(&self, now: u64) -> bool {
        self.from.saturating_sub(SET_BACK) <= now && now < self.until
    }

    /// What is in force at `now`. Without it nothing of the fleet's limits may be used.
    pub(super) fn valid(store: &mut impl Store, now: u64) -> Result<Self, StoreError> {
        let lease = Self::read(store)?;
        lease
            .filter(|lease| lease.is_valid(now))
            .ok_or(StoreError::Failed)
    }
}

impl Value for Lease {
    const KEYSPACE: Keyspace = Keyspace::LEASE;

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, parts) = bytes.as_chunks::<8>();
        let [number, life, from, until, since] = numbers else {
            return None;
        };
        Some(Self {
            number: u64::from_le_bytes(*number),
            life: u64::from_le_bytes(*life),
            from: u64::from_le_bytes(*from),
            until: u64::from_le_bytes(*until),
            since: u64::from_le_bytes(*since),
            parts: u32::from_le_bytes(parts.try_into().ok()?),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let numbers = [self.number, self.life, self.from, self.until, self.since];
        let mut bytes: Vec<_> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.extend_from_slice(&self.parts.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Memory;

    const SECOND: u64 = 1_000_000_000;

    fn lease() -> Lease {
        Lease {
            number: 3,
            life: u64::MAX,
            from: 100 * SECOND,
            until: 110 * SECOND,
            parts: 64,
            since: 7,
        }
    }

    #[test]
    fn it_is_what_was_written_and_no_junk() {
        let mut store = Memory::default();
        assert_eq!(Lease::read(&mut store), Ok(None));
        assert_eq!(lease().put(&mut store, 0, |_| true), Ok(true));
        assert_eq!(Lease::read(&mut store), Ok(Some(lease())));
        let bytes = lease().encode();
        for cut in 0..bytes.len() {
            assert_eq!(Lease::decode(&bytes[..cut]), None);
        }
    }

    #[test]
    fn one_of_another_member_is_left_alone_while_it_is_valid() {
        let mut store = Memory::default();
        let mut first = lease();
        first.put(&mut store, 0, |_| false).unwrap();
        let mut other = Lease { life: 7, ..lease() };
        assert_eq!(other.put(&mut store, 105 * SECOND, |_| false), Ok(false));
        assert_eq!(Lease::read(&mut store), Ok(Some(first)));
        assert_eq!(first.put(&mut store, 105 * SECOND, |_| false), Ok(true));
        assert_eq!(other.put(&mut store, 110 * SECOND, |_| false), Ok(true));
        assert_eq!(Lease::read(&mut store), Ok(Some(Lease { number: 4, ..other })));
    }

    #[test]
    fn it_ends_and_a_clock_set_back_ends_it() {
        let valid = [98, 99, 100, 109, 110].map(|second| lease().is_valid(second * SECOND));
        assert_eq!(valid, [false, true, true, true, false]);
    }
}
