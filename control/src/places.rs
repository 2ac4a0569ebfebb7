//! Who may wait for an answer. Of one gateway's token so many messages wait at a time, and so much is taken in a second, so that
//! one which somebody stole fills no line in which others stand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant};

use crate::problem::Problem;

/// So many messages of one token may wait. A thousand gateways that share one have some twenty under way.
const MOST: usize = 128;
/// So much of one token is under way: messages, and what is in them.
const MOST_UNDER_WAY: u32 = 2_048;
/// Tokens that are remembered, before those of which nothing waits and all of the rate is back are forgotten.
const MOST_TOKENS: usize = 1_000;

/// How many messages of each token wait, and how much of its rate is used.
#[derive(Debug)]
pub(crate) struct Places {
    /// A token's messages and what is in them, in a second; twice as much at once.
    rate: u32,
    tokens: Mutex<HashMap<String, Token>>,
}

#[derive(Debug)]
struct Token {
    waiting: usize,
    /// When all of its rate is back.
    whole_at: Instant,
    /// What of it is in the lines in which others stand.
    under_way: Arc<Semaphore>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'p> {
    places: &'p Places,
    token: String,
    under_way: Arc<Semaphore>,
    begun: Option<OwnedSemaphorePermit>,
}

impl Place<'_> {
    /// Waits until not too much of the token is under way, in messages and what is in them: other tokens' wait behind no more.
    pub(crate) async fn wait(&mut self, things: usize) {
        let much = u32::try_from(things)
            .unwrap_or(u32::MAX)
            .saturating_add(1)
            .min(MOST_UNDER_WAY);
        // It is never closed.
        self.begun = Arc::clone(&self.under_way).acquire_many_owned(much).await.ok();
    }
}

impl Places {
    /// Of each token so much passes in a second: messages, and what is in them.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate,
            tokens: Mutex::default(),
        }
    }

    /// A place for one more message of a token, in which so many things are; 429 where too many wait, or too much came.
    pub(crate) fn take(&self, token: &str, things: usize) -> Result<Place<'_>, Problem> {
        self.take_at(token, things, Instant::now())
    }

    fn take_at(&self, id: &str, things: usize, now: Instant) -> Result<Place<'_>, Problem> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST_TOKENS {
            tokens.retain(|_, token| token.waiting > 0 || token.whole_at > now);
        }
        let new = Token {
            waiting: 0,
            whole_at: now,
            under_way: Arc::new(Semaphore::new(MOST_UNDER_WAY as usize)),
        };
        let token = tokens.entry(id.to_owned()).or_insert(new);
        let much = Duration::from_secs(1).saturating_mul(u32::try_from(things).unwrap_or(u32::MAX));
        let whole_at = token.whole_at.max(now) + (Duration::from_secs(1) + much) / self.rate.max(1);
        if token.waiting >= MOST || whole_at.duration_since(now) > Duration::from_secs(2) {
            return Err(Problem::too_many_messages());
        }
        token.waiting += 1;
        token.whole_at = whole_at;
        Ok(Place {
            places: self,
            token: id.to_owned(),
            under_way: Arc::clone(&token.under_way),
            begun: None,
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut tokens = self.places.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = tokens.get_mut(&self.token) {
            token.waiting = token.waiting.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_so_many_places_and_gets_them_back() {
        let places = Places::new(1_000_000);
        let mut taken: Vec<_> = (0..MOST).map(|_| places.take("a", 0).unwrap()).collect();
        assert_eq!(places.take("a", 0).unwrap_err().status, 429);
        assert!(places.take("b", 0).is_ok());
        taken.pop();
        drop(places.take("a", 0).unwrap());
    }

    #[test]
    fn a_token_says_so_much_in_a_second() {
        let (places, begun) = (Places::new(100), Instant::now());
        let passed = |things: usize, after: u64| {
            let now = begun + Duration::from_millis(after);
            (0..1_000)
                .take_while(|_| places.take_at("a", things, now).is_ok())
                .count()
        };
        // Two seconds' worth at once, and from then on what comes back.
        assert_eq!([passed(9, 0), passed(9, 100), passed(9, 600)], [20, 1, 5]);
        assert_eq!(passed(0, 60_000), 200);
        assert!(places.take_at("b", 199, begun).is_ok());
        assert!(places.take_at("c", 200, begun).is_err());
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let (places, begun) = (Places::new(100), Instant::now());
        for token in 0..MOST_TOKENS {
            drop(places.take_at(&token.to_string(), 0, begun).unwrap());
        }
        let later = begun + Duration::from_secs(1);
        let _place = places.take_at("a", 0, later).unwrap();
        assert_eq!(places.tokens.lock().unwrap().len(), 1);
    }
}
