//! How a request ended, and what it is charged: the larger of what is known.
//!
//! What a model server received and did not answer to its end costs its input for each such attempt, and holds what was
//! reserved of the output for as long as the server may go on. What no server received costs nothing.

use tollgate_core::endpoint::Endpoint;
use tollgate_core::limits::Amounts;
use tollgate_core::limits::estimate::Estimator;
use tollgate_core::spent::Spent;
use tollgate_core::usage::plausible::Plausible;
use tollgate_core::usage::record::{Outcome, Source, Used};
use tollgate_core::usage::{Produced, Usage};
use tollgate_host::{number, property};

use crate::filter::{Answer, Names, Open, RateLimit, writes_text};

/// How it ended.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) used: Used,
    /// No model server received it: all that was reserved is returned, the request as well.
    pub(crate) unsent: bool,
    /// What it may come to, where a model server may be working on it still.
    pub(crate) most: Option<Amounts>,
}

impl Ended {
    const fn unsent(outcome: Outcome) -> Self {
        Self {
            outcome,
            used: Used::NOTHING,
            unsent: true,
            most: None,
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
        if answer.status < 400 {
            return self.answered(open, answer, spent);
        }
        if number(&["upstream", "request_attempt_count"]) == 0 {
            return Ended::unsent(Outcome::Refused);
        }
        if !is_envoys_own() {
            // A model server that refuses has written nothing.
            return left(open, Outcome::Failed, spent.before_last(true));
        }
        match spent.before_last(false) + received() {
            0 => Ended::unsent(Outcome::Failed),
            attempts => left(open, Outcome::Failed, attempts),
        }
    }

    /// An answer that began.
    fn answered(&mut self, open: &Open, answer: &Answer, spent: Spent) -> Ended {
        let whole = answer.whole || answer.reader.finished();
        let said = answer.reader.usage();
        let believed = said.filter(|usage| is_plausible(open, answer, usage));
        let distrusted = answer.reader.unusable() || believed != said;
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
            audio_seconds: answer.reader.audio_seconds(),
            pictures: if whole && !answer.errored {
                pictures(open)
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

/// Attempts that a model server received and did not answer.
fn left(open: &Open, outcome: Outcome, attempts: u64) -> Ended {
    if attempts == 0 {
        return Ended {
            outcome,
            used: Used::NOTHING,
            unsent: false,
            most: None,
        };
    }
    let usage = Usage {
        input: attempts.saturating_mul(input(open)),
        ..Usage::default()
    };
    Ended {
        outcome,
        used: used(open, usage, Source::Estimated),
        unsent: false,
        most: Some(most(open, &usage)),
    }
}

/// What one attempt has read, where nobody says: as estimated, and no less than the bytes make it by themselves, as what
/// was learned of other requests may be less.
fn input(open: &Open) -> u64 {
    let by_bytes = Estimator::default().estimate(&open.asked).input;
    open.reserved.input.max(by_bytes)
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

/// As many as were asked for, where pictures are made.
fn pictures(open: &Open) -> u64 {
    match open.names.endpoint {
        Endpoint::ImagesGenerations | Endpoint::ImagesEdits => u64::from(open.asked.answers),
        _ => 0,
    }
}

/// What it may come to: all the output that was reserved.
fn most(open: &Open, usage: &Usage) -> Amounts {
    let usage = Usage {
        output: usage.output.max(open.reserved.output),
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

/// Whether Envoy answered in place of a model server.
fn is_envoys_own() -> bool {
    property(&["response", "code_details"]).is_ok_and(|details| details != b"via_upstream")
}
