//! Whose turn it is to write. The database takes one write at a time, and has no order among those that wait: here they
//! stand in a line, so that nobody waits behind a flood.
//!
//! A token has one write in the line, and its others wait for that one. Of all writes of confined tokens one is in the
//! line: a write of the platform waits for at most one of theirs, however many they send.

use core::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use crate::access::Caller;
use crate::problem::Problem;
use crate::queue::{Head, Queues};

/// So many writes of a confined token wait for its own; more are refused.
const MOST_WAITING: usize = 16;
/// Longest wait for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Whose turn it is.
pub(crate) struct Turns {
    /// The line: who holds it writes.
    line: Mutex<()>,
    /// Those of confined tokens come to the line one after another.
    confined: Mutex<()>,
    queues: Queues,
}

/// A turn to write. It ends when this is dropped: those of the platform that wait come first.
pub(crate) struct Turn<'t> {
    _line: MutexGuard<'t, ()>,
    _confined: Option<MutexGuard<'t, ()>>,
    _head: Option<Head>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            line: Mutex::default(),
            confined: Mutex::default(),
            queues: Queues::new(MOST_WAITING, Problem::too_many_writes),
        }
    }
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
        let head = match caller.token_id() {
            Some(token) => Some(self.queues.head(token, caller.is_confined()).await?),
            None => None,
        };
        let confined = match caller.is_confined() {
            true => Some(self.confined.lock().await),
            false => None,
        };
        Ok(Turn {
            _line: self.line.lock().await,
            _confined: confined,
            _head: head,
        })
    }
}
