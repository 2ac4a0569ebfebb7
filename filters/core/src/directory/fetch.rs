//! How the document gets here: asked for from time to time, read in small steps, published to the workers. Whatever goes
//! wrong, the last good directory stays.
//!
//! ```text
//! idle ──it is time──▶ asking ──200──▶ reading ──good──▶ publishing ──all is written──▶ idle
//!   ▲                   │                │
//!   └─304, failed──────┘───rejected─────┘
//! ```

mod config;

pub use config::Config;

use super::loader::{Loader, Progress};
use super::publication::{Publication, Published};
use super::table::Compiled;
use crate::config::ConfigError;
use crate::state::{Clock, Store};

/// Longest slice of work between two looks at everything else; nanoseconds.
const SLICE: u64 = 20_000_000;
/// From a failed fetch to the next while there is no directory at all, as every request is refused meanwhile; nanoseconds.
const FIRST_RETRY: u64 = 1_000_000_000;
/// Keys read between looks at the clock: about a millisecond.
const KEYS_A_STEP: usize = 1_000;

/// Whom to ask for the document, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// From one fetch to the next; nanoseconds.
    pub refresh: u64,
    /// Longest wait for the whole document; nanoseconds.
    pub timeout: u64,
    /// Whether a directory without keys may follow one with keys.
    pub allow_empty: bool,
}

/// What a fetcher has done for it by a host `H`, beside what workers share and the time.
pub trait Outside<H> {
    /// A request that was sent.
    type Call: Copy + PartialEq;

    /// Asks for the document, unless it still is the one of this `ETag`. `Err` says why it can't be asked for.
    fn ask(&mut self, host: &mut H, etag: Option<&str>) -> Result<Self::Call, String>;

    /// Has [`Fetcher::tick`] called more often while there is work.
    fn busy(&mut self, host: &mut H, busy: bool);

    /// Counts a fetch.
    fn count(&mut self, fetched: Fetched);

    /// The directory in force is so many seconds old.
    fn age(&mut self, seconds: u64);

    /// A directory with so many keys and organizations is in force.
    fn in_force(&mut self, keys: u64, orgs: u64);

    /// Tells the operator what is wrong.
    fn complain(&mut self, complaint: &str);
}

/// What came of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// Another document, which is in force now.
    Changed,
    /// The one that is in force.
    Unchanged,
    /// None: nobody answered, or with an error; or it could not be published.
    Failed,
    /// One that is wrong.
    Rejected,
}

/// What the document's server answered.
#[derive(Debug)]
pub struct Response<'a> {
    /// HTTP status; `None` where nobody answered.
    pub status: Option<&'a str>,
    /// `ETag` of the document.
    pub etag: Option<&'a str>,
}

/// The fetcher of an Envoy, of which there is one.
pub struct Fetcher<C> {
    plan: Plan,
    state: State<C>,
    /// When to ask again; nanoseconds since 1970.
    next_fetch: u64,
    /// `ETag` of the directory in force.
    etag: Option<String>,
    /// The last complaint, so that the operator hears it once.
    complaint: String,
}

enum State<C> {
    Idle,
    /// A request is in flight since then.
    Asking {
        call: C,
        since: u64,
    },
    Reading {
        loader: Loader,
        document: Document,
    },
    Publishing {
        publication: Publication,
        document: Document,
    },
}

/// What belongs to a document beside its text.
struct Document {
    etag: Option<String>,
    /// When it was asked for: from then on it may have changed again.
    asked_at: u64,
}

impl<C: Copy + PartialEq> Fetcher<C> {
    /// One that asks at its first tick.
    pub const fn new(plan: Plan) -> Self {
        Self {
            plan,
            state: State::Idle,
            next_fetch: 0,
            etag: None,
            complaint: String::new(),
        }
    }

    /// Asks when it is time, and works on what came.
    pub fn tick<H: Store + Clock>(&mut self, host: &mut H, outside: &mut impl Outside<H, Call = C>) {
        let Some(now) = host.now() else { return };
        if let Some(published) = Published::read(host) {
            outside.age(now.saturating_sub(published.confirmed_at) / 1_000_000_000);
            if published.confirmed_at > now {
                // The clock was set back. Counted from the future, the directory would stay young for ever.
                let _ = (Published {
                    confirmed_at: now,
                    ..published
                })
                .write(host);
            }
        }
        // The same for the next fetch.
        self.next_fetch = self.next_fetch.min(now.saturating_add(self.plan.refresh));
        self.state = match core::mem::replace(&mut self.state, State::Idle) {
            State::Idle if now >= self.next_fetch => self.ask(now, host, outside),
            // The proxy's own timeout answers first; this only guards against an answer that never comes.
            State::Asking { since, .. } if now.abs_diff(since) > self.plan.timeout.saturating_mul(2) => {
                self.fail("no answer came", host, outside);
                State::Idle
            }
            state @ (State::Idle | State::Asking { .. }) => state,
            busy => self.work(busy, now, host, outside),
        };
    }

    fn ask<H: Store + Clock>(
        &mut self,
        now: u64,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) -> State<C> {
        self.next_fetch = now.saturating_add(self.plan.refresh);
        match outside.ask(host, self.etag.as_deref()) {
            Ok(call) => State::Asking { call, since: now },
            Err(why) => {
                self.fail(&why, host, outside);
                State::Idle
            }
        }
    }

    /// A call was answered, or nobody could be reached. `body` gives the document; `Err` says why it can't.
    pub fn answered<H: Store + Clock>(
        &mut self,
        answered: C,
        response: &Response<'_>,
        body: impl FnOnce() -> Result<Vec<u8>, String>,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) {
        let State::Asking { call, since } = self.state else {
            return;
        };
        if call != answered {
            return;
        }
        self.state = match response.status {
            Some("200") => match body() {
                Ok(body) => {
                    outside.busy(host, true);
                    State::Reading {
                        loader: Loader::new(body),
                        document: Document {
                            etag: response.etag.map(str::to_owned),
                            asked_at: since,
                        },
                    }
                }
                Err(why) => {
                    self.fail(
                        &format!("the document could not be taken over ({why})"),
                        host,
                        outside,
                    );
                    State::Idle
                }
            },
            Some("304") if self.etag.is_some() => {
                self.confirm(since, host, outside);
                State::Idle
            }
            Some(status) => {
                // Envoy answers 503 in the place of a server that it can't reach.
                self.fail(
                    &format!("the document's server, or Envoy in its place, answered with status {status}"),
                    host,
                    outside,
                );
                State::Idle
            }
            None => {
                self.fail(
                    "the document's server cannot be reached, or did not answer in time",
                    host,
                    outside,
                );
                State::Idle
            }
        };
    }

    /// Works until the slice is over or the document is done; at least one step, however slow the machine.
    fn work<H: Store + Clock>(
        &mut self,
        mut state: State<C>,
        start: u64,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) -> State<C> {
        loop {
            state = self.step(state, host, outside);
            let over = host.now().is_none_or(|now| now.abs_diff(start) >= SLICE);
            if over || matches!(state, State::Idle) {
                break;
            }
        }
        if matches!(state, State::Idle) {
            outside.busy(host, false);
        }
        state
    }

    fn step<H: Store + Clock>(
        &mut self,
        state: State<C>,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) -> State<C> {
        match state {
            State::Reading { loader, document } => match loader.step(KEYS_A_STEP) {
                Progress::More(loader) => State::Reading { loader, document },
                Progress::Done(directory) => match self.emptied(&directory, host) {
                    None => State::Publishing {
                        publication: Publication::new(directory),
                        document,
                    },
                    Some(error) => {
                        self.reject(&[error], host, outside);
                        State::Idle
                    }
                },
                Progress::Refused(errors) => {
                    self.reject(&errors, host, outside);
                    State::Idle
                }
            },
            State::Publishing {
                mut publication,
                document,
            } => match publication.step(host) {
                Ok(false) => State::Publishing {
                    publication,
                    document,
                },
                Ok(true) => self.finish(&publication, document, host, outside),
                Err(error) => {
                    self.forget();
                    let why = format!("the directory could not be shared with the workers ({error:?})");
                    self.fail(&why, host, outside);
                    State::Idle
                }
            },
            other => other,
        }
    }

    /// A document without keys is more likely a broken export than a farewell to every customer.
    fn emptied(&self, directory: &Compiled, host: &mut impl Store) -> Option<ConfigError> {
        let before = Published::read(host).map_or(0, |published| published.keys);
        (directory.keys() == 0 && before > 0 && !self.plan.allow_empty).then(|| {
            let problem = format!(
                "is empty, and the directory in force has {before}: nobody could call any more; set `allow_empty: true` \
                 of the fetcher if that is meant"
            );
            ConfigError::new("keys", problem)
        })
    }

    fn finish<H: Store + Clock>(
        &mut self,
        publication: &Publication,
        document: Document,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) -> State<C> {
        if let Err(error) = publication.announce(document.asked_at, host) {
            self.forget();
            let why = format!("the directory could not be announced to the workers ({error:?})");
            self.fail(&why, host, outside);
            return State::Idle;
        }
        let directory = publication.directory();
        self.etag = document.etag;
        self.complaint.clear();
        outside.count(Fetched::Changed);
        outside.in_force(directory.keys() as u64, directory.orgs() as u64);
        State::Idle
    }

    /// What is shared is part of one document and part of another: no 304 may confirm it.
    fn forget(&mut self) {
        self.etag = None;
    }

    /// The directory in force is still the document.
    fn confirm<H: Store + Clock>(
        &mut self,
        asked_at: u64,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) {
        outside.count(Fetched::Unchanged);
        self.complaint.clear();
        if let Some(published) = Published::read(host)
            && (Published {
                confirmed_at: asked_at,
                ..published
            })
            .write(host)
            .is_err()
        {
            self.fail(
                "the directory's age could not be shared with the workers",
                host,
                outside,
            );
        }
    }

    fn fail<H: Store + Clock>(&mut self, why: &str, host: &mut H, outside: &mut impl Outside<H, Call = C>) {
        outside.count(Fetched::Failed);
        if Published::read(host).is_none()
            && let Some(now) = host.now()
        {
            self.next_fetch = self.next_fetch.min(now.saturating_add(FIRST_RETRY));
        }
        let complaint = format!("directory: {why}; {}", in_force(host));
        self.complain(complaint, outside);
    }

    fn reject<H: Store + Clock>(
        &mut self,
        errors: &[ConfigError],
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) {
        outside.count(Fetched::Rejected);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let errors = errors.join("; ");
        let complaint = format!(
            "directory: the document is rejected; {}: {errors}",
            in_force(host)
        );
        self.complain(complaint, outside);
    }

    fn complain<H>(&mut self, complaint: String, outside: &mut impl Outside<H>) {
        if complaint != self.complaint {
            outside.complain(&complaint);
            self.complaint = complaint;
        }
    }
}

fn in_force(store: &mut impl Store) -> &'static str {
    match Published::read(store) {
        Some(_) => "the last good one stays in force",
        None => "none is in force, so every request is refused",
    }
}

#[cfg(test)]
mod tests;
