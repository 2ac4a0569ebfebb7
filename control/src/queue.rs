//! Requests of tokens that wait. Of one token one is served at a time, and its others wait for that one, so that a token
//! which sends many at once has no more of what all share than one that sends few.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;

/// Tokens that are remembered, before those that ask nothing are forgotten.
const MOST_TOKENS: usize = 1_000;

/// A queue for each token.
pub(crate) struct Queues {
    most_waiting: usize,
    refusal: fn() -> Problem,
    tokens: std::sync::Mutex<HashMap<String, Arc<Token>>>,
}

struct Token {
    own: Arc<Mutex<()>>,
    /// Those that wait, and the one that does not, where so many may.
    places: Arc<Semaphore>,
}

/// The head of a token's queue, until it is dropped.
#[derive(Debug)]
pub(crate) struct Head {
    _own: OwnedMutexGuard<()>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Queues {
    /// Where it is bounded how many of a token wait, so many do; `refusal` is answered to more.
    pub(crate) fn new(most_waiting: usize, refusal: fn() -> Problem) -> Self {
        Self {
            most_waiting,
            refusal,
            tokens: std::sync::Mutex::default(),
        }
    }

    /// Waits until no other request of a token, by its id, is served.
    pub(crate) async fn head(&self, token: &str, is_bounded: bool) -> Result<Head, Problem> {
        let token = self.token(token);
        let place = match is_bounded {
            true => {
                let place = Arc::clone(&token.places).try_acquire_owned();
                Some(place.map_err(|_| (self.refusal)())?)
            }
            false => None,
        };
        Ok(Head {
            _own: Arc::clone(&token.own).lock_owned().await,
            _place: place,
        })
    }

    fn token(&self, id: &str) -> Arc<Token> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST_TOKENS {
            tokens.retain(|_, token| Arc::strong_count(token) + Arc::strong_count(&token.own) > 2);
        }
        let new = || {
            Arc::new(Token {
                own: Arc::default(),
                places: Arc::new(Semaphore::new(1 + self.most_waiting)),
            })
        };
        Arc::clone(tokens.entry(id.to_owned()).or_insert_with(new))
    }
}
