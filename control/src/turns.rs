//! Whose turn it is to write. The database takes one write at a time, and has no order among those that wait: here they
//! stand in a line, so that nobody waits behind a flood.
//!
//! A token has one write in the line, and its others wait for that one. Of all writes of confined tokens one is in the
//! line: a write of the platform waits for at most one of theirs, however many they send.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::access::Caller;
use crate::problem::Problem;

/// So many writes of a confined token wait for its own; more are refused.
const MOST_WAITING: usize = 16;
/// Longest wait for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Tokens that are remembered, before those that write nothing are forgotten.
const MOST_TOKENS: usize = 1_000;

/// Whose turn it is.
#[derive(Default)]
pub(crate) struct Turns {
    /// The line: who holds it writes.
    line: Mutex<()>,
    /// Those of confined tokens come to the line one after another.
    confined: Mutex<()>,
    tokens: std::sync::Mutex<HashMap<String, Arc<Token>>>,
}

/// A token's writes.
struct Token {
    own: Arc<Mutex<()>>,
    /// Those that wait, and the one that does not.
    places: Arc<Semaphore>,
}

/// A turn to write. It ends when this is dropped: those of the platform that wait come first.
pub(crate) struct Turn<'t> {
    _line: MutexGuard<'t, ()>,
    _confined: Option<MutexGuard<'t, ()>>,
    _own: Option<(OwnedMutexGuard<()>, Option<OwnedSemaphorePermit>)>,
}

impl Turns {
    /// Waits for a caller's turn. Fails where too many of a confined token wait already, and where it takes too long.
    pub(crate) async fn take(&self, caller: &Caller) -> Result<Turn<'_>, Problem> {
        let turn = tokio::time::timeout(LONGEST_WAIT, self.wait(caller)).await;
        turn.unwrap_or_else(|_| {
            Err(match caller.is_confined() {
                true => Problem::too_many_writes(),
                false => Problem::unavailable("too many writes wait, and nothing was changed"),
            })
        })
    }

    async fn wait(&self, caller: &Caller) -> Result<Turn<'_>, Problem> {
        let own = match caller.token_id() {
            Some(id) => {
                let token = self.token(id);
                let place = match caller.is_confined() {
                    true => {
                        let place = Arc::clone(&token.places).try_acquire_owned();
                        Some(place.map_err(|_| Problem::too_many_writes())?)
                    }
                    false => None,
                };
                Some((Arc::clone(&token.own).lock_owned().await, place))
            }
            None => None,
        };
        let confined = match caller.is_confined() {
            true => Some(self.confined.lock().await),
            false => None,
        };
        Ok(Turn {
            _line: self.line.lock().await,
            _confined: confined,
            _own: own,
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
                places: Arc::new(Semaphore::new(1 + MOST_WAITING)),
            })
        };
        Arc::clone(tokens.entry(id.to_owned()).or_insert_with(new))
    }
}
