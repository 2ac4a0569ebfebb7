//! Authenticates requests: whose token it is, and how often an address may guess.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use tollgate_core::key::KeyHash;

use crate::access::{Caller, has_form, invalid_token, is_valid, mint};
use crate::documents::{Role, Token};
use crate::problem::Problem;
use crate::store::{Store, StoreError};
use crate::time;

/// Authenticates requests, and slows down addresses that guess.
pub(crate) struct Authenticator {
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

/// Wrong tokens from one address.
#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    since: i64,
}

impl Authenticator {
    /// So many wrong ones from one address in a window, in milliseconds.
    const MAX_FAILURES: u32 = 10;
    const WINDOW: i64 = 60_000;
    /// Addresses that are remembered; beyond that all are forgotten.
    const ADDRESSES: usize = 10_000;

    pub(crate) fn new() -> Self {
        Self {
            failures: Mutex::default(),
        }
    }

    /// The caller whose token this `authorization` header has, at this address; 401 or 429 otherwise.
    pub(crate) async fn authenticate(
        &self,
        store: &Store,
        authorization: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Caller, Problem> {
        let Some(authorization) = authorization else {
            return Err(Problem::unauthenticated(
                "send a token: `authorization: Bearer tg-token-…`",
            ));
        };
        let presented = authorization
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let presented = presented
            .map(|(_, token)| token.trim())
            // What is of another form was never made: nothing is looked up for it.
            .filter(|token| has_form(token));
        let token = match presented {
            Some(presented) => {
                let hash = KeyHash::of(presented.as_bytes());
                let found = store.by_sha256::<Token>(&hash).await?;
                // An index that was tampered with may find another's.
                found.filter(|found| KeyHash::parse(&found.document.sha256) == Some(hash))
            }
            None => None,
        };
        let now = time::now();
        let good = token
            .map(|token| token.document)
            .filter(|token| is_valid(token, now));
        // A good token always passes, whoever else guesses at its address.
        good.map(|token| Caller::from_token(token, address))
            .ok_or_else(|| {
                if let Some(address) = address.map(network) {
                    if let Some(seconds) = self.retry_after(address, now) {
                        return Problem::throttled(seconds);
                    }
                    self.record_failure(address, now);
                }
                invalid_token()
            })
    }

    /// Seconds that an address has to wait after too many wrong tokens.
    fn retry_after(&self, address: IpAddr, now: i64) -> Option<u64> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = failures
            .get(&address)
            .filter(|failures| failures.count >= Self::MAX_FAILURES)?;
        let left = failures
            .since
            .saturating_add(Self::WINDOW)
            .saturating_sub(now)
            .min(Self::WINDOW);
        (left > 0).then(|| left.unsigned_abs().div_ceil(1_000))
    }

    fn record_failure(&self, address: IpAddr, now: i64) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |failures: &Failures| !(0..Self::WINDOW).contains(&now.saturating_sub(failures.since));
        if failures.len() >= Self::ADDRESSES && !failures.contains_key(&address) {
            failures.retain(|_, failures| !is_over(failures));
            if failures.len() >= Self::ADDRESSES {
                failures.clear();
            }
        }
        let entry = failures
            .entry(address)
            .or_insert(Failures { count: 0, since: now });
        if is_over(entry) {
            *entry = Failures { count: 0, since: now };
        }
        entry.count += 1;
    }
}

/// Whom an address belongs to, as far as can be told: of IPv6 everybody has a /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

impl Store {
    /// As long as there has never been a token, one that may do everything; it is returned in clear once.
    pub async fn first_token(&self) -> Result<Option<String>, Problem> {
        let system = Caller::system();
        let mut write = self.begin(&system, "token.first", None).await?;
        if write.has_any::<Token>().await? {
            return Ok(None);
        }
        let (clear, token) = mint(Some("first".to_owned()), Role::Owner, None, None, system.name())
            .map_err(|error| Problem::unavailable(StoreError::Random(error).to_string()))?;
        write.create(&token).await?;
        write.commit("").await?;
        Ok(Some(clear))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends() {
        let (_, token) = mint(
            None,
            Role::Viewer,
            None,
            Some("2030-01-01T00:00:00Z".into()),
            "local",
        )
        .unwrap();
        let end = time::parse("", "2030-01-01T00:00:00Z").unwrap();
        assert!(is_valid(&token, end - 1) && !is_valid(&token, end));
        let unreadable = Token {
            expires_at: Some("never".into()),
            ..token.clone()
        };
        assert!(!is_valid(&unreadable, 0));
        assert!(!is_valid(
            &Token {
                revoked_at: Some(String::new()),
                ..token
            },
            0
        ));
    }

    #[test]
    fn who_guesses_waits_and_nobody_else() {
        let authenticator = Authenticator::new();
        let (guesser, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for _ in 0..Authenticator::MAX_FAILURES {
            assert_eq!(authenticator.retry_after(guesser, 0), None);
            authenticator.record_failure(guesser, 0);
        }
        assert_eq!(authenticator.retry_after(guesser, 0), Some(60));
        assert_eq!(authenticator.retry_after(other, 0), None);
        assert_eq!(authenticator.retry_after(guesser, Authenticator::WINDOW), None);
    }

    #[test]
    fn of_ipv6_a_network_guesses() {
        let network = |text: &str| super::network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
