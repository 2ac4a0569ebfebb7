//! Requests that are refused for what they are: an operator can limit them by key and by address, as each of them has
//! cost the gateway work, and its sender nothing.
//!
//! Cells are in a fixed number of slots. One that somebody else has in use is left to them: then a refusal goes
//! uncounted, and nobody is turned away for another's.

use core::num::NonZeroU32;
use std::net::IpAddr;

use serde::Deserialize;

use crate::config::Rate;
use crate::error::{ApiError, Retry};
use crate::gcra::Quota;
use crate::key::KeyTag;

/// What Envoy calls the refusal by the limits of a request that no waiting makes pass: it counts as one for what it is.
pub const TOO_LARGE: &[u8] = b"tollgate_request_too_large_for_limit";

/// How many cells there are of each kind.
const SLOTS: u64 = 4096;

/// `refusals` of tenant-router's configuration: what is left out is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    key: Option<Rate>,
    address: Option<Rate>,
}

/// Whose refusals are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A key's.
    Key,
    /// An address's; an IPv6 client is its /64.
    Address,
}

/// One who has had too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    scope: Scope,
    millis: u64,
}

/// Where somebody's refusals are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    scope: Scope,
    quota: Quota,
    tag: u64,
}

impl Policy {
    /// Whether anything is limited.
    pub const fn is_empty(&self) -> bool {
        self.key.is_none() && self.address.is_none()
    }

    /// The account of a key.
    pub fn key(&self, org: &str, key: &str) -> Option<Account> {
        let name = [org.as_bytes(), b"\0", key.as_bytes()].concat();
        Account::of(Scope::Key, self.key, &name)
    }

    /// The account of an address.
    pub fn address(&self, address: impl FnOnce() -> Option<IpAddr>) -> Option<Account> {
        self.address?;
        let bits = match address()?.to_canonical() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        Account::of(Scope::Address, self.address, &bits.to_le_bytes())
    }
}

impl Account {
    fn of(scope: Scope, rate: Option<Rate>, name: &[u8]) -> Option<Self> {
        let rate = rate?;
        Some(Self {
            scope,
            quota: Quota::new(rate, NonZeroU32::new(rate.amount())?),
            tag: KeyTag::of(name, 0).number(),
        })
    }

    /// The name of its cell in the shared store.
    pub fn cell(&self) -> String {
        let kind = match self.scope {
            Scope::Key => "key",
            Scope::Address => "address",
        };
        format!("refused-{kind}-{}", self.tag % SLOTS)
    }

    /// Whether there is room for one more at `now`, by what the cell holds.
    pub fn admit(&self, cell: Option<&[u8]>, now: u64) -> Result<(), TooMany> {
        let Some(tat) = self.tat(cell, now) else {
            return Ok(());
        };
        match self.quota.take(tat, now) {
            Ok(_) => Ok(()),
            Err(nanos) => Err(TooMany {
                scope: self.scope,
                millis: nanos.div_ceil(1_000_000),
            }),
        }
    }

    /// The cell with one more in it; `None` where it stays as it is.
    pub fn count(&self, cell: Option<&[u8]>, now: u64) -> Option<[u8; 16]> {
        let next = self.quota.take(self.tat(cell, now)?, now).ok()?;
        let mut bytes = [0; 16];
        let (tag, tat) = bytes.split_at_mut(8);
        tag.copy_from_slice(&self.tag.to_le_bytes());
        tat.copy_from_slice(&next.to_le_bytes());
        Some(bytes)
    }

    /// What the cell says of this account; `None` where it is another's.
    fn tat(&self, cell: Option<&[u8]>, now: u64) -> Option<u64> {
        let Some((tag, rest)) = cell.and_then(<[u8]>::split_first_chunk) else {
            return Some(0);
        };
        let tat = rest.first_chunk().map_or(0, |tat| u64::from_le_bytes(*tat));
        match u64::from_le_bytes(*tag) == self.tag {
            true => Some(tat),
            // As good as unused.
            false => (tat <= now).then_some(0),
        }
    }
}

impl TooMany {
    /// What the client is told.
    pub fn answer(&self) -> ApiError {
        let whose = match self.scope {
            Scope::Key => "key",
            Scope::Address => "address",
        };
        ApiError {
            status: 429,
            kind: "requests",
            code: "rate_limit_exceeded",
            param: None,
            message: format!(
                "Too many requests from this {whose} were refused. Please mend them, and try again in {}.{:03}s.",
                self.millis / 1_000,
                self.millis % 1_000
            )
            .into(),
            retry: Retry::AfterMillis(self.millis),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn policy(json: &str) -> Policy {
        crate::config::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn so_many_are_refused_and_then_all_until_some_time_has_passed() {
        let account = policy(r#"{"key": "3/minute"}"#).key("acme", "k1").unwrap();
        let (mut cell, now) = (None, 1_000 * SECOND);
        for _ in 0..3 {
            assert_eq!(
                account.admit(cell.as_ref().map(<[u8; 16]>::as_slice), now),
                Ok(())
            );
            cell = account.count(cell.as_ref().map(<[u8; 16]>::as_slice), now);
        }
        let cell = cell.unwrap();
        let answer = account.admit(Some(&cell), now).unwrap_err().answer();
        assert_eq!(answer.retry, Retry::AfterMillis(20_000));
        assert!(answer.message.contains("from this key") && answer.message.contains("in 20.000s"));
        assert_eq!(account.count(Some(&cell), now), None);
        assert_eq!(account.admit(Some(&cell), now + 20 * SECOND), Ok(()));
    }

    #[test]
    fn nobody_is_turned_away_for_anothers() {
        let policy = policy(r#"{"key": "1/minute", "address": "1/minute"}"#);
        let (one, two) = (
            policy.key("acme", "k1").unwrap(),
            policy.key("acme", "k2").unwrap(),
        );
        let cell = one.count(None, 0).unwrap();
        // As if both had the same slot.
        assert!(one.admit(Some(&cell), 0).is_err() && two.admit(Some(&cell), 0).is_ok());
        assert_eq!(two.count(Some(&cell), 0), None);
        assert!(two.count(Some(&cell), 61 * SECOND).is_some());
        let address = |text: &str| policy.address(|| text.parse().ok());
        assert_eq!(address("2001:db8::1"), address("2001:db8::2"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
        assert_eq!(Policy::default().key("acme", "k1"), None);
    }
}
