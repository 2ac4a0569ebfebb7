//! Whose turn it is to write. The database takes one write at a time, and has no order among those that wait: here they
//! stand in a line, so that nobody waits behind a flood.
//!
//! A token has one write in the line, and its others wait for that one. Of all writes of confined tokens one is in the
//! line, and of all exchanges of budgets one: a write of the platform waits for at most one of theirs each, however many they
//! send.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::access::Caller;
use crate::problem::Problem;

/// So many writes of a confined token wait for its own; more are refused.
const MOST_WAITING: usize = 16;
/// So many exchanges of one token are done at once, where they stand in no line.
const MOST_BESIDE: usize = 3;
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
    /// And so do gateways that spend budgets.
    spenders: Mutex<()>,
    tokens: std::sync::Mutex<HashMap<String, Arc<Token>>>,
}

/// A token's writes.
struct Token {
    own: Arc<Mutex<()>>,
    /// Those that wait, and the one that does not.
    places: Arc<Semaphore>,
    /// Its exchanges that stand in no line.
    beside: Arc<Semaphore>,
}

/// A turn to write. It ends when this is dropped: those of the platform that wait come first.
pub(crate) struct Turn<'t> {
    _line: Option<MutexGuard<'t, ()>>,
    _group: Option<MutexGuard<'t, ()>>,
    _own: Option<OwnedMutexGuard<()>>,
    _place: Option<OwnedSemaphorePermit>,
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

    /// Waits for the turn of an exchange of budgets. A token's come one after another, and so do those of all tokens: how many
    /// wait is bounded before.
    pub(crate) async fn take_to_spend(&self, caller: &Caller) -> Result<Turn<'_>, Problem> {
        let wait = async {
            let own = match caller.token_id() {
                Some(id) => Some(Arc::clone(&self.token(id).own).lock_owned().await),
                None => None,
            };
            let spenders = self.spenders.lock().await;
            Turn {
                _line: Some(self.line.lock().await),
                _group: Some(spenders),
                _own: own,
                _place: None,
            }
        };
        let turn = tokio::time::timeout(LONGEST_WAIT, wait).await;
        turn.map_err(|_| Problem::unavailable("too many writes wait, and nothing was changed"))
    }

    /// The same where exchanges stand in no line: of a token so many are done at once that others find a connection.
    pub(crate) async fn take_beside(&self, caller: &Caller) -> Result<Turn<'_>, Problem> {
        let beside = Arc::clone(&self.token(caller.token_id().unwrap_or_default()).beside);
        let place = tokio::time::timeout(LONGEST_WAIT, beside.acquire_owned()).await;
        let place = place.ok().and_then(Result::ok);
        let too_many = || Problem::unavailable("too many exchanges wait, and nothing was changed");
        Ok(Turn {
            _line: None,
            _group: None,
            _own: None,
            _place: Some(place.ok_or_else(too_many)?),
        })
    }

    async fn wait(&self, caller: &Caller) -> Result<Turn<'_>, Problem> {
        let (mut own, mut place) = (None, None);
        if let Some(id) = caller.token_id() {
            let token = self.token(id);
            if caller.is_confined() {
                let free = Arc::clone(&token.places).try_acquire_owned();
                place = Some(free.map_err(|_| Problem::too_many_writes())?);
            }
            own = Some(Arc::clone(&token.own).lock_owned().await);
        }
        let confined = match caller.is_confined() {
            true => Some(self.confined.lock().await),
            false => None,
        };
        Ok(Turn {
            _line: Some(self.line.lock().await),
            _group: confined,
            _own: own,
            _place: place,
        })
    }

    fn token(&self, id: &str) -> Arc<Token> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST_TOKENS {
            tokens.retain(|_, token| {
                Arc::strong_count(token) + Arc::strong_count(&token.own) + Arc::strong_count(&token.beside)
                    > 3
            });
        }
        let new = || {
            Arc::new(Token {
                own: Arc::default(),
                places: Arc::new(Semaphore::new(1 + MOST_WAITING)),
                beside: Arc::new(Semaphore::new(MOST_BESIDE)),
            })
        };
        Arc::clone(tokens.entry(id.to_owned()).or_insert_with(new))
    }
}
