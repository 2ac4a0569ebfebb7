//! Limits that gateways keep together. The rule is that of [`tollgate_shares`]; here is where its books are: in the control
//! plane's own database, or in Redis.

mod claim;
mod journal;
mod named;

use core::fmt;
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use tollgate_shares::{Answer, Message, Timing};

use crate::access::Caller;
use crate::log::say;
use crate::places::Places;
use crate::problem::Problem;
use crate::store::Store;
use claim::Claim;
use journal::Journal;
use named::Named;

/// Slots when books begin. In a small fleet each gateway has a large part of every limit without asking; with more gateways
/// there are more slots.
const PARTS: u32 = 4;
/// Messages and wants of one token in a second. A thousand gateways send four messages each while shares move.
const RATE: u32 = 20_000;
/// Longest wait for the database. A gateway has given up before, and asks again.
const DATABASE_WITHIN: Duration = Duration::from_secs(2);
/// The same for Redis, with all that comes before it is asked.
const REDIS_WITHIN: Duration = Duration::from_millis(250);
/// Longest wait for Redis itself: shorter, so that this is what is said.
const REDIS_ANSWERS_WITHIN: Duration = Duration::from_millis(200);

/// Where the books are.
#[derive(Clone, PartialEq, Eq)]
pub enum FleetStore {
    /// In the control plane's database.
    Database,
    /// In a Redis or Valkey: its address, which may have a password.
    Redis(String),
}

impl FleetStore {
    /// Reads `database`, or the address of a Redis; what was expected otherwise.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str =
            "expected `database`, `redis://USER:PASSWORD@HOST:PORT` or `redis+unix:///PATH`";
        match text.split_once("://") {
            None if text == "database" => Ok(Self::Database),
            Some(("redis" | "redis+unix", _)) => Ok(Self::Redis(text.to_owned())),
            Some(("rediss", _)) => {
                Err("Redis is not spoken to with TLS: put it behind `redis+unix` or a tunnel")
            }
            _ => Err(EXPECTED),
        }
    }
}

impl fmt::Debug for FleetStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "Database",
            Self::Redis(_) => "Redis([redacted])",
        })
    }
}

/// The coordinator of a fleet.
pub struct Fleet {
    claim: Claim,
    books: Books,
    places: Places,
    named: Named,
    /// Why the last message got no answer.
    trouble: Mutex<Option<String>>,
}

enum Books {
    Database(Journal),
    Redis(Box<tollgate_fleet::Books>),
}

impl Fleet {
    /// Books in that store, which is not asked yet. In Redis they are named after the database, so that two control planes
    /// may share one.
    pub fn open(store: &Arc<Store>, kept: FleetStore) -> Result<Self, tollgate_fleet::Error> {
        Ok(match kept {
            FleetStore::Database => Self::in_database(store),
            FleetStore::Redis(address) => {
                let claim = Claim::new(Arc::clone(store), claim::redis(&address));
                let books = tollgate_fleet::Books::new(tollgate_fleet::Config {
                    address,
                    name: format!("tollgate:{{{}}}", store.name()),
                    timing: Timing::FLEET,
                    parts: PARTS,
                    timeout: REDIS_ANSWERS_WITHIN,
                    survives: false,
                })?;
                Self::with(claim, Books::Redis(Box::new(books)))
            }
        })
    }

    /// Books in the control plane's database.
    pub(crate) fn in_database(store: &Arc<Store>) -> Self {
        let claim = Claim::new(Arc::clone(store), claim::DATABASE.to_owned());
        Self::with(claim, Books::Database(Journal::new(Arc::clone(store))))
    }

    fn with(claim: Claim, books: Books) -> Self {
        Self {
            claim,
            books,
            places: Places::new(RATE),
            named: Named::default(),
            trouble: Mutex::default(),
        }
    }

    /// Takes a message and answers it. `None` for a message that a later one has overtaken, and for a member's last. After
    /// an error nobody knows whether it was heard, and the member asks again.
    pub(crate) async fn receive(
        &self,
        caller: &Caller,
        mut message: Message,
    ) -> Result<Option<Answer>, Problem> {
        let invalid = |why: tollgate_shares::Invalid| Problem::invalid(&why.path, &why.found, why.expected);
        message.check().map_err(invalid)?;
        let token = caller.token_id().unwrap_or_default();
        let mut place = self.places.take(token, message.wants.len())?;
        self.named.note(token, &mut message)?;
        let within = match &self.books {
            Books::Database(_) => DATABASE_WITHIN,
            Books::Redis(_) => REDIS_WITHIN,
        };
        // What waits for others of its own token says nothing of the books.
        let begun = tokio::time::timeout(within, place.wait(message.wants.len())).await;
        begun.map_err(|_| Problem::too_many_messages())?;
        let answer = tokio::time::timeout(within, self.ask(message)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("there was no answer within {within:?}")));
        self.note(answer.as_ref().err());
        answer.map_err(Problem::no_books)
    }

    async fn ask(&self, message: Message) -> Result<Option<Answer>, String> {
        match &self.books {
            Books::Database(journal) => {
                // With the row that says who has them, it looks each time.
                self.claim.make(async || Ok(())).await?;
                journal.receive(message).await
            }
            Books::Redis(books) => {
                let anew = async || books.begin_anew().await.map_err(|error| error.to_string());
                self.claim.make(anew).await?;
                // Before Redis is asked. Whoever takes the books over after this look grants nothing for longer than a lease,
                // and the message was sent before.
                self.claim.check().await?;
                let answer = books.receive(&message).await;
                answer.map_err(|error| error.to_string())
            }
        }
    }

    /// Why the last message got no answer, where it got none.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Says each trouble once, and when it is over.
    fn note(&self, why: Option<&String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.as_ref() != why {
            match why {
                Some(why) => say(&format!("limits of the fleet are not kept: {why}")),
                None => say("limits of the fleet are kept again"),
            }
            *trouble = why.cloned();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_never_shown() {
        assert_eq!(FleetStore::parse("database"), Ok(FleetStore::Database));
        for address in ["redis://:secret@h:6379", "redis+unix:///run/redis.sock"] {
            let read = FleetStore::parse(address).unwrap();
            assert_eq!(read, FleetStore::Redis(address.to_owned()));
            assert!(!format!("{read:?}").contains(address));
        }
        for wrong in ["", "redis", "Database", "rediss://h", "http://h", "redis:h"] {
            assert!(FleetStore::parse(wrong).is_err(), "{wrong}");
        }
    }
}
