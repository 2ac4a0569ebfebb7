//! How the document gets here: asked for from time to time, read in small steps, published to the workers. Whatever goes
//! wrong, the last good directory stays.
//!
//! ```text
//! idle ──it is time──▶ asking ──200──▶ working ──all is written and announced──▶ idle
//!   ▲                   │                │
//!   └─304, failed──────┘───rejected─────┘
//! ```
//!
//! A server that knows what changed is asked for that, and answers once something has: then it is asked again at once. One
//! that does not wait is asked every `refresh`, as any file server.

mod config;
mod etag;
mod job;
mod question;
mod unpack;

pub use config::{Config, Request};
pub use question::{Question, Response};

use self::etag::Etag;
use self::job::{Basis, Ending, Job};
use super::census::Census;
use super::publication::Published;
use crate::config::ConfigError;
use crate::state::{Clock, Store};

/// Longest slice of work between two looks at everything else; nanoseconds.
const SLICE: u64 = 20_000_000;
/// From a failed fetch to the next while there is no directory at all, as every request is refused meanwhile; nanoseconds.
const FIRST_RETRY: u64 = 1_000_000_000;
/// From one fetch to the next, at least, however often something changes; nanoseconds.
const SHORTEST: u64 = 100_000_000;
/// The longest complaint about a document, in bytes: what it holds is repeated there.
const MAX_COMPLAINT: usize = 4 << 10;

/// Whom to ask for the document, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// From one fetch to the next; nanoseconds.
    pub refresh: u64,
    /// Longest wait for the whole document; nanoseconds.
    pub timeout: u64,
    /// How long a server that knows what changed waits until something has; nanoseconds. `None` where it is not asked for that.
    pub watch: Option<u64>,
    /// Whether a directory without keys may follow one with keys.
    pub allow_empty: bool,
}

/// What a fetcher has done for it by a host `H`, beside what workers share and the time.
pub trait Outside<H> {
    /// A request that was sent.
    type Call: Copy + PartialEq;

    /// Asks for the document. `Err` says why it can't be asked for.
    fn ask(&mut self, host: &mut H, question: &Question<'_>) -> Result<Self::Call, String>;

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

/// The fetcher of an Envoy, of which there is one.
pub struct Fetcher<C> {
    plan: Plan,
    state: State<C>,
    /// When to ask again; nanoseconds since 1970.
    next_fetch: u64,
    /// Of the directory in force.
    etag: Option<Etag>,
    /// What changes can be made to.
    basis: Option<Basis>,
    /// When a whole document was last asked for, and taken over.
    whole_at: u64,
    /// Whether ticks come more often than else.
    is_busy: bool,
    /// The last complaint, so that the operator hears it once.
    complaint: String,
}

enum State<C> {
    Idle,
    Asking(Asked<C>),
    Working(Box<Job>, Answer),
}

/// A request in flight.
#[derive(Clone, Copy)]
struct Asked<C> {
    call: C,
    /// When it was sent.
    since: u64,
    /// How long the server was asked to wait; nanoseconds.
    wait: u64,
}

/// What belongs to an answer beside its text.
struct Answer {
    etag: Option<Etag>,
    /// When it was asked for: from then on it may have changed again.
    asked_at: u64,
    is_changes: bool,
}

impl<C: Copy + PartialEq> Fetcher<C> {
    /// One that asks at its first tick.
    pub const fn new(plan: Plan) -> Self {
        Self {
            plan,
            state: State::Idle,
            next_fetch: 0,
            etag: None,
            basis: None,
            whole_at: 0,
            is_busy: false,
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
            State::Asking(asked) if now.abs_diff(asked.since) > self.patience(asked.wait) => {
                self.fail("no answer came", host, outside);
                State::Idle
            }
            State::Working(job, answer) => self.work(*job, answer, now, host, outside),
            state => state,
        };
        self.pace(now, host, outside);
    }

    /// How long an answer is waited for.
    fn patience(&self, wait: u64) -> u64 {
        self.plan.timeout.saturating_add(wait).saturating_mul(2)
    }

    /// Ticks come quickly while there is work, and where it is time to ask.
    fn pace<H: Store + Clock>(&mut self, now: u64, host: &mut H, outside: &mut impl Outside<H, Call = C>) {
        let busy = match self.state {
            State::Idle => self.next_fetch <= now,
            State::Asking(_) => false,
            State::Working(..) => true,
        };
        if busy != self.is_busy {
            self.is_busy = busy;
            outside.busy(host, busy);
        }
    }

    fn ask<H: Store + Clock>(
        &mut self,
        now: u64,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) -> State<C> {
        self.next_fetch = now.saturating_add(self.plan.refresh);
        let after = self.basis.as_ref().map(|basis| basis.version.as_str());
        let wait = self.plan.watch.filter(|_| after.is_some());
        let question = Question {
            etag: self.etag.as_ref().map(Etag::text),
            after,
        };
        match outside.ask(host, &question) {
            Ok(call) => State::Asking(Asked {
                call,
                since: now,
                wait: wait.unwrap_or_default(),
            }),
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
        let State::Asking(asked) = self.state else {
            return;
        };
        if asked.call != answered {
            return;
        }
        self.state = State::Idle;
        let now = host.now().unwrap_or(asked.since);
        match response.status {
            Some("200") => self.take(asked, response, body, host, outside),
            Some("304") if self.etag.is_some() => {
                self.confirm(asked.since, host, outside);
                // A file server knows nothing of waiting. One that waits may count a little differently.
                if asked.wait > 0 && now.saturating_sub(asked.since) >= asked.wait / 2 {
                    self.next_fetch = now;
                }
            }
            Some(status) => {
                // Envoy answers 503 in the place of a server that it can't reach.
                self.fail(
                    &format!("the document's server, or Envoy in its place, answered with status {status}"),
                    host,
                    outside,
                );
            }
            None => {
                self.fail(
                    "the document's server cannot be reached, or did not answer in time",
                    host,
                    outside,
                );
            }
        }
        // The first slice at once: for a change that is all of it.
        if let State::Working(job, answer) = core::mem::replace(&mut self.state, State::Idle) {
            self.state = self.work(*job, answer, now, host, outside);
        }
        self.pace(now, host, outside);
    }

    /// Begins to work on a document, or on changes.
    fn take<H: Store + Clock>(
        &mut self,
        asked: Asked<C>,
        response: &Response<'_>,
        body: impl FnOnce() -> Result<Vec<u8>, String>,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) {
        let (body, is_gzip) = match body().and_then(|body| Ok((body, response.is_gzip()?))) {
            Ok(taken) => taken,
            Err(why) => {
                let why = format!("the document could not be taken over ({why})");
                return self.fail(&why, host, outside);
            }
        };
        let etag = response.etag.map(Etag::new);
        let is_changes = response.is_changes();
        let basis = if is_changes {
            match self.basis_of(asked, etag.as_ref()) {
                Ok(basis) => Some(basis),
                Err(error) => return self.reject(&[error], true, host, outside),
            }
        } else {
            None
        };
        let answer = Answer {
            etag,
            asked_at: asked.since,
            is_changes,
        };
        let job = Job::new(body, is_gzip, basis, self.plan.allow_empty);
        self.state = State::Working(Box::new(job), answer);
    }

    /// What changes are made to, if they were asked for and lead somewhere.
    fn basis_of(&mut self, asked: Asked<C>, etag: Option<&Etag>) -> Result<Basis, ConfigError> {
        let basis = self.basis.take().filter(|_| asked.wait > 0);
        let Some(basis) = basis else {
            return Err(ConfigError::new("", "what changed was not asked for"));
        };
        match etag.and_then(Etag::version) {
            None => Err(ConfigError::new(
                "",
                "the answer has no `ETag` of 1 to 256 visible characters that names the new version",
            )),
            // It would be made again, and again.
            Some(version) if version == basis.version => Err(ConfigError::new(
                "",
                "the answer's `ETag` names the version that was in force before",
            )),
            Some(_) => Ok(basis),
        }
    }

    /// Works until the slice is over or the document is done; at least one step, however slow the machine.
    fn work<H: Store + Clock>(
        &mut self,
        mut job: Job,
        answer: Answer,
        start: u64,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) -> State<C> {
        loop {
            match job.step(answer.asked_at, host) {
                Ok(more) => job = more,
                Err(Ending::Done(generation, census)) => {
                    outside.count(Fetched::Changed);
                    outside.in_force(census.keys(), census.orgs() as u64);
                    self.finish(generation, census, answer, host);
                    return State::Idle;
                }
                Err(Ending::Refused(errors)) => {
                    self.reject(&errors, answer.is_changes, host, outside);
                    return State::Idle;
                }
                Err(Ending::Failed(why)) => {
                    self.forget();
                    self.fail(&why, host, outside);
                    return State::Idle;
                }
            }
            if host.now().is_none_or(|now| now.abs_diff(start) >= SLICE) {
                return State::Working(Box::new(job), answer);
            }
        }
    }

    fn finish(&mut self, generation: u64, census: Census, answer: Answer, host: &impl Clock) {
        self.complaint.clear();
        self.etag = answer.etag;
        let version = self.etag.as_ref().and_then(Etag::version);
        let version = version.filter(|_| self.plan.watch.is_some());
        self.basis = version.map(|version| Basis {
            version: version.to_owned(),
            generation,
            census,
        });
        // A server that sends all of it whatever it is asked must not be asked all the time.
        let again = answer.asked_at.saturating_sub(self.whole_at) < self.plan.refresh;
        if !answer.is_changes {
            self.whole_at = answer.asked_at;
        }
        if self.basis.is_some() && (answer.is_changes || !again) {
            let now = host.now().unwrap_or(answer.asked_at);
            let soonest = answer.asked_at.saturating_add(SHORTEST);
            // The clock may have been set back meanwhile.
            self.next_fetch = soonest.clamp(now, now.saturating_add(SHORTEST));
        }
    }

    /// What is shared is part of one document and part of another: no 304 may confirm it.
    fn forget(&mut self) {
        self.etag = None;
        self.basis = None;
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

    /// An answer is wrong. After changes that are, the whole document is asked for.
    fn reject<H: Store + Clock>(
        &mut self,
        errors: &[ConfigError],
        is_changes: bool,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) {
        outside.count(Fetched::Rejected);
        let what = if is_changes {
            self.forget();
            "the changes are rejected, and the whole document is asked for next"
        } else {
            "the document is rejected"
        };
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let errors = errors.join("; ");
        let mut complaint = format!("directory: {what}; {}: {errors}", in_force(host));
        complaint.truncate(complaint.floor_char_boundary(MAX_COMPLAINT));
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
