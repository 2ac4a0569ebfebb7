//! Requests that are refused for what they are: an operator can limit them by key and by address, as each of them has
//! cost the gateway work, and its sender nothing.
//!
//! Cells are in a fixed number of slots. One that somebody else has in use is left to them: then a refusal goes
//! uncounted, and nobody is turned away for another's.

use core::num::NonZeroU32;

use serde::Deserialize;

use crate::address::network;
use crate::config::Rate;
use crate::error::{ApiError, Retry};
use crate::exchange::{Exchange, Host};
use crate::gcra::Throttle;
use crate::identity::Identity;
use crate::key::KeyTag;
use crate::state::{self, Clock, Keyspace, Value};

/// What Envoy calls the refusal by the limits of a request that no waiting makes pass: it counts as one for what it is.
pub const TOO_LARGE: &[u8] = b"tollgate_request_too_large_for_limit";

/// How many cells there are of each kind.
const SLOTS: u64 = 4096;

/// `refusals` as an operator writes them: what is left out is not limited.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
struct Account {
    scope: Scope,
    throttle: Throttle,
    tag: u64,
}

impl Policy {
    /// Whether anything is limited.
    pub const fn is_empty(&self) -> bool {
        self.key.is_none() && self.address.is_none()
    }

    /// Whether somebody may ask, or had too many refused. Where that can't be read they may.
    pub fn admit(&self, host: &mut impl Host, who: &Identity) -> Result<(), TooMany> {
        let Some(now) = self.now(host) else {
            return Ok(());
        };
        for account in self.accounts(host, who).into_iter().flatten() {
            let cell = state::read(host, account.cell()).unwrap_or_default();
            account.admit(cell, now)?;
        }
        Ok(())
    }

    /// One more was refused.
    pub fn count(&self, host: &mut impl Host, who: &Identity) {
        let Some(now) = self.now(host) else { return };
        for account in self.accounts(host, who).into_iter().flatten() {
            // At worst a refusal goes uncounted.
            let _ = state::update(host, account.cell(), |cell| ((), account.count(cell, now)));
        }
    }

    /// The time, where anything is limited.
    fn now(&self, host: &impl Clock) -> Option<u64> {
        if self.is_empty() { None } else { host.now() }
    }

    fn accounts(&self, host: &impl Exchange, who: &Identity) -> [Option<Account>; 2] {
        [self.key(&who.org, &who.key_id), self.address(host)]
    }

    /// The account of a key.
    fn key(&self, org: &str, key: &str) -> Option<Account> {
        let name = [org.as_bytes(), b"\0", key.as_bytes()].concat();
        Account::of(Scope::Key, self.key, &name)
    }

    /// The account of the client's address.
    fn address(&self, host: &impl Exchange) -> Option<Account> {
        self.address?;
        let address = network(host.client()?).to_le_bytes();
        Account::of(Scope::Address, self.address, &address)
    }
}

impl Account {
    fn of(scope: Scope, rate: Option<Rate>, name: &[u8]) -> Option<Self> {
        let rate = rate?;
        Some(Self {
            scope,
            throttle: Throttle::new(
                rate,
                NonZeroU32::new(u32::try_from(rate.amount()).unwrap_or(u32::MAX))?,
            ),
            tag: KeyTag::of(name, 0).number(),
        })
    }

    /// The name of its cell.
    fn cell(&self) -> String {
        let kind = match self.scope {
            Scope::Key => "key",
            Scope::Address => "address",
        };
        format!("{kind}-{}", self.tag % SLOTS)
    }

    /// Whether there is room for one more at `now`, by what the cell holds.
    fn admit(&self, cell: Option<Cell>, now: u64) -> Result<(), TooMany> {
        let Some(tat) = self.tat(cell, now) else {
            return Ok(());
        };
        match self.throttle.take(tat, now) {
            Ok(_) => Ok(()),
            Err(nanos) => Err(TooMany {
                scope: self.scope,
                millis: nanos.div_ceil(1_000_000),
            }),
        }
    }

    /// The cell with one more in it; `None` where it stays as it is.
    fn count(&self, cell: Option<Cell>, now: u64) -> Option<Cell> {
        let tat = self.throttle.take(self.tat(cell, now)?, now).ok()?;
        Some(Cell { tag: self.tag, tat })
    }

    /// What the cell says of this account; `None` where it is another's.
    fn tat(&self, cell: Option<Cell>, now: u64) -> Option<u64> {
        match cell {
            None => Some(0),
            Some(cell) if cell.tag == self.tag => Some(cell.tat),
            // As good as unused.
            Some(cell) => (cell.tat <= now).then_some(0),
        }
    }
}

/// What a slot holds: whose it is, and until when its refusals count. Little-endian, 8 bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    tag: u64,
    tat: u64,
}

impl Value for Cell {
    const KEYSPACE: Keyspace = Keyspace::REFUSALS;

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, tat) = bytes.split_first_chunk()?;
        Some(Self {
            tag: u64::from_le_bytes(*tag),
            tat: u64::from_le_bytes(tat.try_into().ok()?),
        })
    }

    fn encode(&self) -> Vec<u8> {
        [self.tag.to_le_bytes(), self.tat.to_le_bytes()].concat()
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
                "Too many requests from this {whose} were refused. Please fix the requests, and try again in {}.{:03}s.",
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
    use crate::state::fake::{Told, Worker};

    const SECOND: u64 = 1_000_000_000;

    fn policy(json: &str) -> Policy {
        crate::config::from_json(json.as_bytes()).unwrap()
    }

    fn who(key: &str) -> Identity {
        Identity::sample("acme", key)
    }

    #[test]
    fn so_many_are_refused_and_then_all_until_some_time_has_passed() {
        let policy = policy(r#"{"key": "3/minute"}"#);
        let mut workers = [Worker::at(1_000 * SECOND), Worker::default()];
        workers[1] = workers[0].clone();
        for worker in [0, 1, 0] {
            assert_eq!(policy.admit(&mut workers[worker], &who("k1")), Ok(()));
            policy.count(&mut workers[worker], &who("k1"));
        }
        let refused = |worker: &mut Worker| policy.admit(worker, &who("k1")).unwrap_err();
        let answer = refused(&mut workers[1]).answer();
        assert_eq!(answer.retry, Retry::AfterMillis(20_000));
        assert!(answer.message.contains("from this key") && answer.message.contains("in 20.000s"));
        assert_eq!(policy.admit(&mut workers[1], &who("k2")), Ok(()));
        // What is refused for its number is not counted once more.
        policy.count(&mut workers[0], &who("k1"));
        workers[0].pass(20 * SECOND);
        assert_eq!(policy.admit(&mut workers[1], &who("k1")), Ok(()));
    }

    #[test]
    fn where_it_cannot_be_read_they_may_and_no_count_is_lost_to_others() {
        let policy = policy(r#"{"key": "2/minute"}"#);
        let mut one = Worker::at(SECOND);
        let other = one.clone();
        one.before_write(move || policy.count(&mut { other }, &who("k1")));
        policy.count(&mut one, &who("k1"));
        assert!(policy.admit(&mut one, &who("k1")).is_err());
        one.fail(true);
        assert_eq!(policy.admit(&mut one, &who("k1")), Ok(()));
        policy.count(&mut one, &who("k1"));
        let calls = one.calls();
        Policy::default().count(&mut one, &who("k1"));
        assert_eq!(one.calls(), calls, "nothing is limited");
    }

    #[test]
    fn nobody_is_turned_away_for_anothers() {
        let policy = policy(r#"{"key": "1/minute", "address": "1/minute"}"#);
        let (one, two) = (
            policy.key("acme", "k1").unwrap(),
            policy.key("acme", "k2").unwrap(),
        );
        let cell = one.count(None, 0);
        assert_eq!(cell.and_then(|cell| Cell::decode(&cell.encode())), cell);
        // As if both had the same slot.
        assert!(one.admit(cell, 0).is_err() && two.admit(cell, 0).is_ok());
        assert_eq!(two.count(cell, 0), None);
        assert!(two.count(cell, 61 * SECOND).is_some());
        let address = |text: &str| {
            let host = Worker::default();
            host.tell(Told {
                client: text.parse().ok(),
                ..Told::default()
            });
            policy.address(&host)
        };
        assert_eq!(address("2001:db8::1"), address("2001:db8::2"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
        assert_eq!(Policy::default().key("acme", "k1"), None);
    }
}
