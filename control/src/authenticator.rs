//! Authenticates requests: whose token it is, and how often an address may guess.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tollgate_core::key::KeyHash;

use crate::access::{Caller, has_form, invalid_token, is_valid, mint};
use crate::documents::{Role, Token};
use crate::network::network;
use crate::problem::Problem;
use crate::store::{Store, StoreError};
use crate::time;

/// Authenticates requests, and slows down addresses that guess.
pub(crate) struct Authenticator {
    failures: Mutex<HashMap<IpAddr, Failures>>,
    /// Tokens of gateways that were good when they were last seen, by their hashes.
    gateways: Mutex<BTreeMap<KeyHash, Token>>,
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
    /// Gateways' tokens that are remembered; beyond that all are forgotten.
    const GATEWAYS: usize = 1_000;

    pub(crate) fn new() -> Self {
        Self {
            failures: Mutex::default(),
            gateways: Mutex::default(),
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
        let hash = presented_hash(authorization);
        let token = match hash {
            Some(hash) => {
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
        if let Some(hash) = hash {
            self.remember_gateway(hash, good.as_ref());
        }
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

    /// The caller with a gateway's token that was good when it was last seen, for where the database can't be asked.
    pub(crate) fn known_gateway(
        &self,
        authorization: Option<&str>,
        address: Option<IpAddr>,
    ) -> Option<Caller> {
        let hash = authorization.and_then(presented_hash)?;
        let gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        let token = gateways.get(&hash).filter(|token| is_valid(token, time::now()))?;
        Some(Caller::from_token(token.clone(), address))
    }

    fn remember_gateway(&self, hash: KeyHash, good: Option<&Token>) {
        let mut gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        match good.filter(|token| token.role == Role::Gateway) {
            Some(token) => {
                if gateways.len() >= Self::GATEWAYS && !gateways.contains_key(&hash) {
                    gateways.clear();
                }
                gateways.insert(hash, token.clone());
            }
            None => drop(gateways.remove(&hash)),
        }
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

/// The hash of the token in an `authorization` header; `None` for what has no token's form: that was never made, and
/// nothing is looked up for it.
fn presented_hash(authorization: &str) -> Option<KeyHash> {
    let (scheme, token) = authorization.split_once(' ')?;
    let is_token = scheme.eq_ignore_ascii_case("bearer") && has_form(token.trim());
    is_token.then(|| KeyHash::of(token.trim().as_bytes()))
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
}
