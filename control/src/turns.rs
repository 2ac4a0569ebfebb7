//! Whose turn it is to write. The database takes one write at a time, and has no order among those that wait: here they
//! stand in a line, so that nobody waits behind a flood.
//!
//! A token has one write in the line, and its others wait for that one. Of all writes of confined tokens one is in the
//! line, and of all exchanges of budgets one: a write of the platform waits for at most one of theirs each, however many they
//! send.

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
    /// And so do gateways that spend budgets.
    spenders: Mutex<()>,
    queues: Queues,
}

/// A turn to write. It ends when this is dropped: those of the platform that wait come first.
pub(crate) struct Turn<'t> {
    _line: Option<MutexGuard<'t, ()>>,
    _group: Option<MutexGuard<'t, ()>>,
    _head: Option<Head>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            line: Mutex::default(),
            confined: Mutex::default(),
            spenders: Mutex::default(),
            queues: Queues::new(MOST_WAITING, Problem::too_many_writes),
        }
    }
}

impl Turns {
    /// Waits for a caller's turn. Fails where too many of a confined token wait already, and where it takes too long.
    pub(crate) async fn take(&self, caller: &Caller) -> Result<Turn<'_>, Problem> {
        let group = caller.is_confined().then_some(&self.confined);
        let turn = self.wait(caller, group, Some(&self.line));
        let turn = tokio::time::timeout(LONGEST_WAIT, turn).await;
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
        self.exchange(caller, Some(&self.spenders), Some(&self.line))
            .await
    }

    /// The same where exchanges stand in no line: of a token one is done at a time, so that others find a connection.
    pub(crate) async fn take_beside(&self, caller: &Caller) -> Result<Turn<'_>, Problem> {
        self.exchange(caller, None, None).await
    }

    async fn exchange<'t>(
        &'t self,
        caller: &Caller,
        group: Option<&'t Mutex<()>>,
        line: Option<&'t Mutex<()>>,
    ) -> Result<Turn<'t>, Problem> {
        let turn = tokio::time::timeout(LONGEST_WAIT, self.wait(caller, group, line)).await;
        turn.unwrap_or_else(|_| {
            Err(Problem::unavailable(
                "too many exchanges wait, and nothing was changed",
            ))
        })
    }

    async fn wait<'t>(
        &self,
        caller: &Caller,
        group: Option<&'t Mutex<()>>,
        line: Option<&'t Mutex<()>>,
    ) -> Result<Turn<'t>, Problem> {
        let head = match caller.token_id() {
            Some(token) => Some(self.queues.head(token, caller.is_confined()).await?),
            None => None,
        };
        let group = match group {
            Some(group) => Some(group.lock().await),
            None => None,
        };
        let line = match line {
            Some(line) => Some(line.lock().await),
            None => None,
        };
        Ok(Turn {
            _line: line,
            _group: group,
            _head: head,
        })
    }
}
