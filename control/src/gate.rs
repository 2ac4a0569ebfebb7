//! Finds out who asks: whose token it is, and how often an address may guess.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use tollgate_core::key::KeyHash;

use crate::access::{Caller, PREFIX, is_good, mint, not_good};
use crate::documents::{Role, Token};
use crate::problem::Problem;
use crate::store::{Failure, Store};
use crate::time;

/// Finds out who asks.
pub(crate) struct Gate {
    failed: Mutex<HashMap<IpAddr, Failed>>,
}

/// Wrong tokens from one address.
#[derive(Clone, Copy)]
struct Failed {
    count: u32,
    since: i64,
}

impl Gate {
    /// So many wrong ones from one address in a window, in milliseconds.
    const MOST: u32 = 10;
    const WINDOW: i64 = 60_000;
    /// Addresses that are remembered; beyond that all are forgotten.
    const ADDRESSES: usize = 10_000;

    pub(crate) fn new() -> Self {
        Self {
            failed: Mutex::default(),
        }
    }

    /// Who presents this `authorization`, from this address.
    pub(crate) async fn caller(
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
            .filter(|token| token.starts_with(PREFIX));
        let token = match presented {
            Some(presented) => {
                store
                    .by_sha256::<Token>(&KeyHash::of(presented.as_bytes()))
                    .await?
            }
            None => None,
        };
        let now = time::now();
        let good = token
            .map(|token| token.document)
            .filter(|token| is_good(token, now));
        // A good token always passes, whoever else guesses at its address.
        good.map(|token| Caller::of(token, address)).ok_or_else(|| {
            if let Some(address) = address.map(network) {
                if let Some(seconds) = self.waits(address, now) {
                    return Problem::throttled(seconds);
                }
                self.note(address, now);
            }
            not_good()
        })
    }

    /// Seconds that an address is to wait.
    fn waits(&self, address: IpAddr, now: i64) -> Option<u64> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = failed.get(&address).filter(|failed| failed.count >= Self::MOST)?;
        let left = failed
            .since
            .saturating_add(Self::WINDOW)
            .saturating_sub(now)
            .min(Self::WINDOW);
        (left > 0).then(|| left.unsigned_abs().div_ceil(1_000))
    }

    fn note(&self, address: IpAddr, now: i64) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |failed: &Failed| !(0..Self::WINDOW).contains(&now.saturating_sub(failed.since));
        if failed.len() >= Self::ADDRESSES && !failed.contains_key(&address) {
            failed.retain(|_, failed| !is_over(failed));
            if failed.len() >= Self::ADDRESSES {
                failed.clear();
            }
        }
        let entry = failed.entry(address).or_insert(Failed { count: 0, since: now });
        if is_over(entry) {
            *entry = Failed { count: 0, since: now };
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
            .map_err(|error| Problem::unavailable(Failure::Random(error).to_string()))?;
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
        assert!(is_good(&token, end - 1) && !is_good(&token, end));
        let unreadable = Token {
            expires_at: Some("never".into()),
            ..token.clone()
        };
        assert!(!is_good(&unreadable, 0));
        assert!(!is_good(
            &Token {
                revoked_at: Some(String::new()),
                ..token
            },
            0
        ));
    }

    #[test]
    fn who_guesses_waits_and_nobody_else() {
        let gate = Gate::new();
        let (guesser, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        for _ in 0..Gate::MOST {
            assert_eq!(gate.waits(guesser, 0), None);
            gate.note(guesser, 0);
        }
        assert_eq!(gate.waits(guesser, 0), Some(60));
        assert_eq!(gate.waits(other, 0), None);
        assert_eq!(gate.waits(guesser, Gate::WINDOW), None);
    }

    #[test]
    fn of_ipv6_a_network_guesses() {
        let network = |text: &str| super::network(text.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }
}
