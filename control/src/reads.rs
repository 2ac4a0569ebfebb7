//! Who may read. The database has so many connections for reads, on which gateways, the platform and customers meet: of all
//! confined tokens a few read at a time, one of each, so that most connections are always there for the others.

use core::time::Duration;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;
use crate::queue::{Head, Queues};

/// Confined tokens that read at a time, of 16 connections.
const AT_ONCE: usize = 4;
/// So many reads of a confined token wait for its own; more are refused.
const MOST_WAITING: usize = 64;
/// Longest wait for a place.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Places for reads of confined tokens.
pub(crate) struct Reads {
    places: Arc<Semaphore>,
    queues: Queues,
}

/// A place to read, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reading {
    _place: OwnedSemaphorePermit,
    _head: Head,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            queues: Queues::new(MOST_WAITING, Problem::too_many_reads),
        }
    }
}

impl Reads {
    /// Waits for a place for a confined token, by its id. Fails where too many of it wait already, and where it takes too
    /// long.
    pub(crate) async fn take(&self, token: &str) -> Result<Reading, Problem> {
        let reading = tokio::time::timeout(LONGEST_WAIT, self.wait(token)).await;
        reading.unwrap_or_else(|_| Err(Problem::too_many_reads()))
    }

    async fn wait(&self, token: &str) -> Result<Reading, Problem> {
        let head = self.queues.head(token, true).await?;
        let place = Arc::clone(&self.places).acquire_owned().await;
        Ok(Reading {
            // Nobody closes it.
            _place: place.map_err(|_| Problem::too_many_reads())?,
            _head: head,
        })
    }
}
