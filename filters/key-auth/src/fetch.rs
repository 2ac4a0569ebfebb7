//! The fetcher: one for an Envoy, on its main thread. It asks for the document, reads it in small steps, and
//! publishes it to the workers. Whatever goes wrong, the last good directory stays.

use tollgate_core::config::ConfigError;
use tollgate_core::directory::{Compiled, Loader, Progress};
use tollgate_host::{
    Buffer, Counter, Gauge, HeaderMap, HttpCall, Level, Map, Status, call_http, log, now_nanos, read_buffer,
    set_tick_period,
};

use crate::config::FetchConfig;
use crate::publish::{Publication, Published, keys_in_force};

/// Between looks at the clock.
const IDLE_TICK_MILLIS: u32 = 250;
/// While there is work: the main thread does it in slices and serves everything else in between.
const BUSY_TICK_MILLIS: u32 = 5;
/// Longest slice.
const SLICE_NANOS: u64 = 20_000_000;
/// From a failed fetch to the next while there is no directory at all: every request is refused meanwhile.
const FIRST_RETRY_NANOS: u64 = 1_000_000_000;
/// Keys read between looks at the clock: about a millisecond.
const KEYS_A_STEP: usize = 1_000;

/// One configuration of the fetcher.
pub struct Fetcher {
    config: FetchConfig,
    metrics: Metrics,
    state: State,
    /// When to ask again; nanoseconds since 1970.
    next_fetch: u64,
    /// `ETag` of the directory in force.
    etag: Option<String>,
    /// The last complaint, so that the log has it once.
    complaint: String,
}

enum State {
    Idle,
    /// A request is under way since then.
    Asking {
        call: HttpCall,
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

struct Metrics {
    age: Gauge,
    keys: Gauge,
    orgs: Gauge,
    ok: Counter,
    unchanged: Counter,
    failed: Counter,
    rejected: Counter,
}

impl Metrics {
    fn define() -> Result<Self, Status> {
        let fetch = |result: &str| Counter::define(&format!("tollgate_directory_fetches.result.{result}"));
        Ok(Self {
            age: Gauge::define("tollgate_directory_age_seconds")?,
            keys: Gauge::define("tollgate_directory_keys")?,
            orgs: Gauge::define("tollgate_directory_orgs")?,
            ok: fetch("ok")?,
            unchanged: fetch("unchanged")?,
            failed: fetch("failed")?,
            rejected: fetch("rejected")?,
        })
    }
}

impl Fetcher {
    /// Makes one of its configuration; all that is wrong with it is reported.
    pub fn configure(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let config = FetchConfig::parse(json)?;
        Self::new(config).map_err(|status| vec![ConfigError::unusable(status)])
    }

    /// Sets the fetcher up; it asks at its first tick.
    pub fn new(config: FetchConfig) -> Result<Self, Status> {
        set_tick_period(IDLE_TICK_MILLIS)?;
        Ok(Self {
            config,
            metrics: Metrics::define()?,
            state: State::Idle,
            next_fetch: 0,
            etag: None,
            complaint: String::new(),
        })
    }

    /// Asks when it is time, and works on what came.
    pub fn tick(&mut self) {
        let Ok(now) = now_nanos() else { return };
        if let Some(published) = Published::read() {
            self.metrics
                .age
                .set(now.saturating_sub(published.confirmed_at) / 1_000_000_000);
            if published.confirmed_at > now {
                // The clock was set back. Counted from the future, the directory would stay young for ever.
                let _ = (Published {
                    confirmed_at: now,
                    ..published
                })
                .write();
            }
        }
        // The same for the next fetch.
        self.next_fetch = self.next_fetch.min(now.saturating_add(self.config.refresh));
        self.state = match core::mem::replace(&mut self.state, State::Idle) {
            State::Idle if now >= self.next_fetch => self.ask(now),
            // The proxy's own timeout answers first; this only guards against an answer that never comes.
            State::Asking { since, .. } if now.abs_diff(since) > 2 * self.longest_wait() => {
                self.fail("no answer came");
                State::Idle
            }
            state @ (State::Idle | State::Asking { .. }) => state,
            busy => self.work(busy, now),
        };
    }

    fn longest_wait(&self) -> u64 {
        u64::from(self.config.timeout_millis).saturating_mul(1_000_000)
    }

    fn ask(&mut self, now: u64) -> State {
        self.next_fetch = now.saturating_add(self.config.refresh);
        let mut headers = vec![
            (":method", "GET"),
            (":path", &self.config.path),
            (":authority", &self.config.authority),
            ("accept", "application/json"),
        ];
        if let Some(etag) = &self.etag {
            headers.push(("if-none-match", etag));
        }
        match call_http(&self.config.cluster, &headers, self.config.timeout_millis) {
            Ok(call) => State::Asking { call, since: now },
            Err(status) => {
                self.fail(&format!(
                    "cluster `{}` cannot be called ({status:?})",
                    self.config.cluster
                ));
                State::Idle
            }
        }
    }

    /// The document's server answered, or could not be reached.
    pub fn http_call_response(&mut self, answered: HttpCall) {
        let State::Asking { call, since } = self.state else {
            return;
        };
        if call != answered {
            return;
        }
        let headers = HeaderMap::read(Map::HttpCallResponse).ok();
        let header = |name: &[u8]| headers.as_ref()?.text(name);
        self.state = match header(b":status") {
            Some("200") => match read_buffer(Buffer::HttpCallBody) {
                Ok(body) => {
                    let document = Document {
                        etag: header(b"etag").map(str::to_owned),
                        asked_at: since,
                    };
                    self.busy(true);
                    State::Reading {
                        loader: Loader::new(body),
                        document,
                    }
                }
                Err(status) => {
                    self.fail(&format!("the document could not be taken over ({status:?})"));
                    State::Idle
                }
            },
            Some("304") if self.etag.is_some() => {
                self.confirm(since);
                State::Idle
            }
            Some(status) => {
                // Envoy answers 503 in the place of a server that it can't reach.
                self.fail(&format!(
                    "the document's server, or Envoy in its place, answered with status {status}"
                ));
                State::Idle
            }
            None => {
                self.fail("the document's server cannot be reached, or did not answer in time");
                State::Idle
            }
        };
    }

    /// Works until the slice is over or the document is done; at least one step, however slow the machine.
    fn work(&mut self, mut state: State, start: u64) -> State {
        loop {
            state = self.step(state);
            let over = now_nanos().map_or(true, |now| now.abs_diff(start) >= SLICE_NANOS);
            if over || matches!(state, State::Idle) {
                break;
            }
        }
        if matches!(state, State::Idle) {
            self.busy(false);
        }
        state
    }

    fn step(&mut self, state: State) -> State {
        match state {
            State::Reading { loader, document } => match loader.step(KEYS_A_STEP) {
                Progress::More(loader) => State::Reading { loader, document },
                Progress::Done(directory) => match self.emptied(&directory) {
                    None => State::Publishing {
                        publication: Publication::new(directory),
                        document,
                    },
                    Some(error) => {
                        self.reject(&[error]);
                        State::Idle
                    }
                },
                Progress::Refused(errors) => {
                    self.reject(&errors);
                    State::Idle
                }
            },
            State::Publishing {
                mut publication,
                document,
            } => match publication.step() {
                Ok(false) => State::Publishing {
                    publication,
                    document,
                },
                Ok(true) => self.finish(&publication, document),
                Err(status) => {
                    self.forget();
                    self.fail(&format!(
                        "the directory could not be shared with the workers ({status:?})"
                    ));
                    State::Idle
                }
            },
            other => other,
        }
    }

    /// A document without keys is more likely a broken export than a farewell to every customer.
    fn emptied(&self, directory: &Compiled) -> Option<ConfigError> {
        let before = keys_in_force();
        (directory.keys() == 0 && before > 0 && !self.config.allow_empty).then(|| {
            let problem = format!(
                "is empty, and the directory in force has {before}: nobody could call any more; set `allow_empty: true` \
                 of the fetcher if that is meant"
            );
            ConfigError::new("keys", problem)
        })
    }

    fn finish(&mut self, publication: &Publication, document: Document) -> State {
        if let Err(status) = publication.announce(document.asked_at) {
            self.forget();
            self.fail(&format!(
                "the directory could not be announced to the workers ({status:?})"
            ));
            return State::Idle;
        }
        let directory = publication.directory();
        self.metrics.ok.increment();
        self.metrics.keys.set(directory.keys() as u64);
        self.metrics.orgs.set(directory.orgs() as u64);
        self.etag = document.etag;
        self.complaint.clear();
        let (keys, orgs) = (directory.keys(), directory.orgs());
        log(
            Level::Info,
            &format!("directory: {keys} keys of {orgs} organizations are in force"),
        );
        State::Idle
    }

    /// What is shared is part of one document and part of another: no 304 may confirm it.
    fn forget(&mut self) {
        self.etag = None;
    }

    /// The directory in force is still the document.
    fn confirm(&mut self, asked_at: u64) {
        self.metrics.unchanged.increment();
        self.complaint.clear();
        if let Some(published) = Published::read()
            && (Published {
                confirmed_at: asked_at,
                ..published
            })
            .write()
            .is_err()
        {
            self.fail("the directory's age could not be shared with the workers");
        }
    }

    fn fail(&mut self, why: &str) {
        self.metrics.failed.increment();
        if Published::read().is_none()
            && let Ok(now) = now_nanos()
        {
            self.next_fetch = self.next_fetch.min(now.saturating_add(FIRST_RETRY_NANOS));
        }
        self.complain(format!("directory: {why}; {}", in_force()));
    }

    fn reject(&mut self, errors: &[ConfigError]) {
        self.metrics.rejected.increment();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let errors = errors.join("; ");
        self.complain(format!(
            "directory: the document is rejected; {}: {errors}",
            in_force()
        ));
    }

    fn complain(&mut self, complaint: String) {
        if complaint != self.complaint {
            log(Level::Error, &complaint);
            self.complaint = complaint;
        }
    }

    fn busy(&self, busy: bool) {
        // Were it refused, work would go on at the old pace.
        let _ = set_tick_period(if busy { BUSY_TICK_MILLIS } else { IDLE_TICK_MILLIS });
    }
}

fn in_force() -> &'static str {
    match Published::read() {
        Some(_) => "the last good one stays in force",
        None => "none is in force, so every request is refused",
    }
}
