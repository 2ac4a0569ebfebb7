//! How a request ended, and what it is charged: the larger of what is known.
//!
//! What a model server received and did not answer to its end costs its input for each such attempt, and holds what was
//! reserved of the output for as long as the server may go on. What no server received costs nothing.

use tollgate_core::fault::Fault;
use tollgate_core::limits::Amounts;
use tollgate_core::limits::estimate::Estimator;
use tollgate_core::spent::Spent;
use tollgate_core::usage::plausible::Plausible;
use tollgate_core::usage::record::{Outcome, Source, Used};
use tollgate_core::usage::{Produced, Usage};
use tollgate_host::{number, property};

use crate::filter::{Answer, Names, Open, RateLimit, pictures, writes_text};

/// How it ended.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) used: Used,
    /// No model server received it: all that was reserved is returned, the request as well.
    pub(crate) unsent: bool,
    /// What it may come to, where a model server may be working on it still.
    pub(crate) most: Option<Amounts>,
    /// Whether it may be at work on it still, as far as anybody here knows: its place among the requests under way stays
    /// taken as long as its output is held.
    pub(crate) under_way: bool,
}

impl Ended {
    const fn unsent(outcome: Outcome) -> Self {
        Self {
            outcome,
            used: Used::NOTHING,
            unsent: true,
            most: None,
            under_way: false,
        }
    }
}

impl RateLimit {
    /// How it ended. `spent` are attempts before the last, and perhaps that.
    pub(crate) fn ended(&mut self, open: &Open, spent: Spent) -> Ended {
        let Some(answer) = &open.answer else {
            // The client left first.
            return match spent.before_last(false) + received() {
                0 => Ended::unsent(Outcome::Refused),
                attempts => left(open, Outcome::NoAnswer, attempts),
            };
        };
        // Zero is one whose head could not be read.
        if matches!(answer.status, 0 | 200..300) {
            return self.answered(open, answer, spent);
        }
        if number(&["upstream", "request_attempt_count"]) == 0 {
            return Ended::unsent(Outcome::Refused);
        }
        if !is_envoys_own() {
            // A model server that refuses has written nothing, nor has one that sends elsewhere.
            return Ended {
                under_way: false,
                ..left(open, Outcome::Failed, spent.before_last(true))
            };
        }
        match spent.before_last(false) + received() {
            0 => Ended::unsent(Outcome::Failed),
            attempts => left(open, Outcome::Failed, attempts),
        }
    }

    /// An answer that began.
    fn answered(&mut self, open: &Open, answer: &Answer, spent: Spent) -> Ended {
        let whole = answer.whole || answer.reader.finished();
        if !answer.errored && answer.is_none(whole) {
            let before = spent.before_last(whole);
            let ended = left(open, Outcome::Failed, before.saturating_add(1));
            // It is over, but for those before.
            let most = ended.most.filter(|_| before > 0);
            return Ended {
                most,
                under_way: false,
                ..ended
            };
        }
        let said = answer.reader.usage();
        let believed = said.filter(|usage| is_plausible(open, answer, usage));
        let seconds = answer.reader.audio_seconds();
        let distrusted = answer.reader.unusable() || believed != said || seconds > open.sound.most;
        let (usage, source) = match believed {
            Some(usage) if whole && !answer.errored => {
                let produced = answer.reader.produced();
                let streamed = open.stream.then_some((produced.events, produced.bytes));
                let Names { who, model, .. } = &open.names;
                self.estimates
                    .learn(&who.org, model, &open.asked, &usage, streamed);
                (usage, Source::Reported)
            }
            // What it reported until it broke off, and what went by since.
            Some(usage) => match self.written(open, answer, answer.reader.unreported()) {
                0 => (usage, Source::Reported),
                since => {
                    let output = capped(open, usage.output.saturating_add(since)).max(usage.output);
                    (Usage { output, ..usage }, Source::Estimated)
                }
            },
            None => {
                if whole && !writes_text(open.names.endpoint) {
                    // Its tokens are none that anybody counts.
                    let Names { who, model, .. } = &open.names;
                    self.estimates
                        .learn(&who.org, model, &open.asked, &Usage::default(), None);
                }
                let (read, written) = (input(open), self.written(open, answer, answer.reader.produced()));
                // One that says too much is no reason to pay less than what was reserved.
                let more = said.is_some_and(|said| said.output > written.max(open.reserved.output));
                let usage = Usage {
                    input: read,
                    output: if more {
                        written.max(open.reserved.output)
                    } else {
                        written
                    },
                    ..Usage::default()
                };
                (usage, Source::Estimated)
            }
        };
        let before = spent.before_last(whole);
        let usage = Usage {
            input: usage.input.saturating_add(before.saturating_mul(input(open))),
            ..usage
        };
        let usage = Usage {
            audio_seconds: match seconds {
                0 if said.is_none() => heard(open),
                0 => 0,
                // As with tokens, one that says too much is no reason to pay less than what was reserved.
                _ if seconds > open.sound.most => open.sound.reserved,
                _ => seconds,
            },
            pictures: if whole && !answer.errored {
                pictures(open.names.endpoint, open.asked.answers)
            } else {
                0
            },
            ..usage
        };
        let source = if before > 0 { Source::Estimated } else { source };
        let outcome = match whole {
            _ if answer.errored => Outcome::Errored,
            true => Outcome::Complete,
            false => Outcome::Aborted,
        };
        Ended {
            outcome,
            used: Used {
                distrusted,
                ..used(open, usage, source)
            },
            unsent: false,
            // A model server that says what went wrong has ended its work.
            most: (before > 0 || !(whole || answer.errored)).then(|| most(open, &usage)),
            under_way: !whole && !answer.errored && !is_broken(),
        }
    }

    /// An estimate of the tokens that went by and were not reported, up to the cap.
    fn written(&mut self, open: &Open, answer: &Answer, unreported: Produced) -> u64 {
        if !writes_text(open.names.endpoint) {
            return 0;
        }
        let events = answer.unread.events.saturating_add(unreported.events);
        let bytes = answer.unread.bytes.saturating_add(unreported.bytes);
        let estimator = self.estimates.of(&open.names.who.org, &open.names.model);
        capped(
            open,
            if open.stream {
                estimator.produced(events, bytes)
            } else {
                // Much of a short body is not text; the client's cap bounds what is.
                estimator.written(bytes)
            },
        )
    }
}

impl Answer {
    /// Whether it is none of its endpoint: no model has written it. `whole` if all of it has come.
    fn is_none(&self, whole: bool) -> bool {
        let is_empty = || {
            let read = self.unread == Produced::default() && !self.reader.finished();
            read && self.form.is_empty(self.reader.produced())
        };
        self.form.is_page() || (whole && is_empty())
    }
}

/// Attempts that a model server received and did not answer.
fn left(open: &Open, outcome: Outcome, attempts: u64) -> Ended {
    if attempts == 0 {
        return Ended {
            outcome,
            used: Used::NOTHING,
            unsent: false,
            most: None,
            under_way: false,
        };
    }
    let usage = Usage {
        input: attempts.saturating_mul(input(open)),
        audio_seconds: attempts.saturating_mul(heard(open)),
        ..Usage::default()
    };
    Ended {
        outcome,
        used: used(open, usage, Source::Estimated),
        unsent: false,
        most: Some(most(open, &usage)),
        under_way: !is_broken(),
    }
}

/// What one attempt has read, where nobody says: as estimated, and no less than the bytes make it by themselves, as what
/// was learned of other requests may be less.
fn input(open: &Open) -> u64 {
    let by_bytes = Estimator::default().estimate(&open.asked).input;
    open.reserved.input.max(by_bytes)
}

/// Seconds of sound that a model server has heard, where it is paid by them and does not say.
fn heard(open: &Open) -> u64 {
    match open.price {
        Some(price) if price.audio_second > 0 => open.sound.usual,
        _ => 0,
    }
}

/// Whether what the model server reported can be so.
fn is_plausible(open: &Open, answer: &Answer, usage: &Usage) -> bool {
    let plausible = Plausible {
        asked: &open.asked,
        reserved_output: open.reserved.output,
        context_window: open.context_window,
        produced: answer.reader.reported_of(),
    };
    plausible.is(usage)
}

/// No answer is longer than what caps it, whatever its bytes look like.
fn capped(open: &Open, tokens: u64) -> u64 {
    match open.asked.max_output {
        Some(_) => tokens.min(open.reserved.output),
        None => tokens,
    }
}

/// What it may come to: all the output and sound that was reserved.
fn most(open: &Open, usage: &Usage) -> Amounts {
    let usage = Usage {
        output: usage.output.max(open.reserved.output),
        audio_seconds: usage.audio_seconds.max(open.sound.reserved),
        ..*usage
    };
    used(open, usage, Source::Estimated).amounts()
}

fn used(open: &Open, usage: Usage, source: Source) -> Used {
    Used {
        input_tokens: usage.input,
        output_tokens: usage.output,
        cached_tokens: usage.cached,
        reasoning_tokens: usage.reasoning,
        cache_written_tokens: usage.cache_written,
        cache_written_1h_tokens: usage.cache_written_1h,
        audio_seconds: usage.audio_seconds,
        pictures: usage.pictures,
        cost_micros: open.price.map(|price| price.cost(&usage)),
        source,
        distrusted: false,
    }
}

/// Whether a model server received the last attempt: only then there was a connection.
fn received() -> u64 {
    let address = property(&["upstream", "local_address"]);
    u64::from(address.is_ok_and(|address| !address.is_empty()))
}

/// Upstream reset, connection terminated, protocol error: `UR`, `UC` and `UPE` of Envoy's flags.
const BROKEN: u64 = 1 << 4 | 1 << 6 | 1 << 23;

/// Whether it was the model server that ended it.
fn is_broken() -> bool {
    number(&["response", "flags"]) & BROKEN != 0
}

/// Whether a model server was answered for that had not answered, or not to its end: by Envoy, or by the router where
/// it was silent for too long. Otherwise the router answers in the place of an answer.
fn is_envoys_own() -> bool {
    let Ok(details) = property(&["response", "code_details"]) else {
        return false;
    };
    match details.strip_prefix(b"tollgate_direct_") {
        Some(fault) => fault == Fault::Silent.name().as_bytes(),
        None => details != b"via_upstream",
    }
}
