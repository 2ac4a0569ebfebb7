//! How a request ended, and what it is charged: what was reported, where that can be believed; else the larger of what is
//! known.
//!
//! What a model server received and did not answer to its end costs its input for each such attempt, and holds what was
//! reserved of the output for as long as the server may go on. What no server received costs nothing.

mod answer;
mod terms;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub use answer::{Answer, Head, Read};
pub use terms::Terms;

use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::flags::Flags;
use crate::limits::estimate::{Estimator, Sample};
use crate::limits::fair::Org;
use crate::limits::{Amounts, Backlog, Hold, Holds, Reservation};
use crate::spent::Spent;
use crate::state::Store;
use crate::usage::plausible::Plausible;
use crate::usage::record::{Outcome, Source, Used};
use crate::usage::{Usage, Volume};

/// What a request is settled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// How it ended.
    pub outcome: Outcome,
    /// What it is charged.
    pub used: Used,
    /// What becomes of its reservation.
    pub disposition: Disposition,
    /// What can be learned from it for the estimates of its organization and model.
    pub sample: Option<Sample>,
}

/// What becomes of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// No model server received the request: all of it is returned, the request as well.
    Cancel,
    /// It is corrected by what was used.
    Settle,
    /// The same, but a model server may be working on it still: what it may come to stays held for a time.
    Hold {
        /// What it may come to.
        max: Amounts,
        /// Whether it counts as a request in flight meanwhile: as far as anybody here knows, it may be one.
        in_flight: bool,
    },
}

/// Where settlements go that are not done yet.
#[derive(Debug)]
pub struct Pending<'a> {
    /// What the store did not take.
    pub backlog: &'a mut Backlog,
    /// What is held for a time.
    pub holds: &'a mut Holds,
    /// For how long, in nanoseconds.
    pub hold_for: u64,
}

impl Settlement {
    /// Carries it out: corrects what was reserved for an organization by what was used, at `now` (nanoseconds since 1970).
    pub fn carry_out(
        &self,
        org: &str,
        reservation: Reservation,
        store: &mut impl Store,
        pending: &mut Pending<'_>,
        now: u64,
    ) {
        let used = self.used.amounts();
        let settled = match &self.disposition {
            Disposition::Cancel => reservation.cancel(store, now),
            Disposition::Settle => reservation.settle(store, now, &used),
            Disposition::Hold { max, in_flight } => {
                let (settled, hold) = reservation.settle_in_part(store, now, &used, max, *in_flight);
                let until = now.saturating_add(pending.hold_for);
                let org = Org::named(org);
                let beyond = hold.and_then(|hold| pending.holds.keep(until, org, hold));
                if let Some(slots) = beyond.and_then(Hold::slots) {
                    pending.backlog.keep(slots.release(store, now));
                }
                settled
            }
        };
        pending.backlog.keep(settled);
    }
}

impl Pending<'_> {
    /// Tries again what the store did not take, and releases what has been held for its time.
    pub fn tick(&mut self, store: &mut impl Store, now: u64) {
        self.backlog.retry(store, now);
        while let Some(hold) = self.holds.over(now) {
            self.backlog.keep(hold.release(store, now));
        }
    }
}

/// Settles a request by how it ended. `spent` are attempts before the last, and perhaps that; the `estimator` of its
/// organization and model is asked for where what went by is all that is known.
pub fn settle<H: Exchange>(
    terms: &Terms,
    answer: Option<&Answer>,
    spent: Spent,
    host: &mut H,
    estimator: impl FnOnce(&mut H) -> Estimator,
) -> Settlement {
    let mut ending = Ending {
        terms,
        // Only attempts that may be repeated can have been.
        spent: if terms.repeats { spent } else { Spent::default() },
        host,
    };
    let settlement = ending.settlement(answer, estimator);
    Settlement {
        used: terms.charged(settlement.outcome, settlement.used),
        ..settlement
    }
}

/// What a request is charged if its gateway ends here: as if its client left at this moment.
pub fn so_far(terms: &Terms, answer: Option<&Answer>, estimator: &Estimator) -> Used {
    settle(terms, answer, Spent::default(), &mut UnderWay, |_| *estimator).used
}

/// A request that a model server has, as far as anybody knows.
struct UnderWay;

impl Exchange for UnderWay {
    fn client(&self) -> Option<IpAddr> {
        None
    }

    fn attempts(&self) -> u64 {
        1
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn details(&self) -> Option<Vec<u8>> {
        None
    }

    fn flags(&self) -> Flags {
        Flags::default()
    }
}

/// What an ending is judged by, beside the answer.
struct Ending<'a, H> {
    terms: &'a Terms,
    spent: Spent,
    host: &'a mut H,
}

impl<H: Exchange> Ending<'_, H> {
    fn settlement(
        &mut self,
        answer: Option<&Answer>,
        estimator: impl FnOnce(&mut H) -> Estimator,
    ) -> Settlement {
        let Some(answer) = answer else {
            // The client left first.
            return match self.received() {
                0 => unsent(Outcome::Refused),
                attempts => self.unanswered(Outcome::NoAnswer, attempts, true),
            };
        };
        // Zero is one whose head could not be read.
        if matches!(answer.status, 0 | 200..300) {
            return self.answered(answer, estimator);
        }
        if self.host.attempts() == 0 {
            return unsent(Outcome::Refused);
        }
        if !self.is_the_proxys_own() {
            let reported = answer.reader.usage().filter(|_| answer.status >= 400);
            if let Some(usage) = reported.filter(|usage| self.is_plausible(answer, usage)) {
                return self.refused_with(usage);
            }
            // A model server that refuses has written nothing, nor has one that sends elsewhere.
            let settlement = self.unanswered(Outcome::Failed, self.spent.before_last(true), false);
            return match answer.is_late_refusal() {
                false => settlement,
                true => self.worked(settlement),
            };
        }
        match self.received() {
            0 => unsent(Outcome::Failed),
            attempts => self.unanswered(Outcome::Failed, attempts, true),
        }
    }

    /// Attempts that a model server received and did not answer.
    fn unanswered(&self, outcome: Outcome, attempts: u64, may_run: bool) -> Settlement {
        if attempts == 0 {
            return Settlement {
                disposition: Disposition::Settle,
                ..unsent(outcome)
            };
        }
        let usage = Usage {
            input: attempts.saturating_mul(self.terms.input()),
            audio_seconds: attempts.saturating_mul(self.terms.heard()),
            // Whoever leaves has them made all the same.
            pictures: match outcome {
                Outcome::NoAnswer => attempts.saturating_mul(self.terms.pictures()),
                _ => 0,
            },
            ..Usage::default()
        };
        Settlement {
            outcome,
            used: self.terms.used(&usage, Source::Estimated),
            disposition: self.hold(&usage, may_run),
            sample: None,
        }
    }

    /// A refusal of what a model has written already, such as an answer that is not of the form that was asked for.
    fn refused_with(&self, usage: Usage) -> Settlement {
        let before = self.spent.before_last(true);
        let usage = Usage {
            input: usage
                .input
                .saturating_add(before.saturating_mul(self.terms.input())),
            ..usage
        };
        Settlement {
            outcome: Outcome::Failed,
            used: self.terms.used(&usage, Source::Reported),
            disposition: match before {
                0 => Disposition::Settle,
                _ => self.hold(&usage, false),
            },
            sample: None,
        }
    }

    /// A refusal so late that a model may have written all that it was asked for: nobody is charged for that, but it is held.
    fn worked(&self, settlement: Settlement) -> Settlement {
        let usage = Usage {
            input: settlement.used.input_tokens.saturating_add(self.terms.input()),
            ..Usage::default()
        };
        Settlement {
            disposition: self.hold(&usage, false),
            ..settlement
        }
    }

    /// An answer that began with success.
    fn answered(&mut self, answer: &Answer, estimator: impl FnOnce(&mut H) -> Estimator) -> Settlement {
        let whole = answer.is_whole || answer.reader.finished();
        let before = self.spent.before_last(whole);
        if !answer.is_errored && answer.is_none(whole) {
            let settlement = self.unanswered(Outcome::Failed, before.saturating_add(1), false);
            return match before {
                // It is over.
                0 => Settlement {
                    disposition: Disposition::Settle,
                    ..settlement
                },
                _ => settlement,
            };
        }
        let reported = answer.reader.usage();
        let believed = reported.filter(|usage| self.is_plausible(answer, usage));
        let (usage, source, sample) = match believed {
            Some(usage) => self.reported(answer, whole, usage, estimator),
            None => self.estimated(answer, whole, reported, estimator),
        };
        let seconds = answer.reader.audio_seconds();
        let usage = Usage {
            input: usage
                .input
                .saturating_add(before.saturating_mul(self.terms.input())),
            audio_seconds: match seconds {
                0 if reported.is_none() => self.terms.heard(),
                0 => 0,
                // As with tokens, one that says too much is no reason to pay less than what was reserved.
                _ if seconds > self.terms.sound.max => self.terms.sound.reserved,
                _ => seconds,
            },
            pictures: match answer.is_errored || (!whole && self.host.flags().upstream_broke()) {
                true => 0,
                false => self.terms.pictures(),
            },
            ..usage
        };
        let source = if before > 0 { Source::Estimated } else { source };
        // A model server that says what went wrong has ended its work.
        let over = whole || answer.is_errored;
        Settlement {
            outcome: match whole {
                _ if answer.is_errored => Outcome::Errored,
                true => Outcome::Complete,
                false => Outcome::Aborted,
            },
            used: Used {
                distrusted: believed != reported
                    || answer.reader.unusable()
                    || seconds > self.terms.sound.max,
                ..self.terms.used(&usage, source)
            },
            disposition: if over && before == 0 {
                Disposition::Settle
            } else {
                self.hold(&usage, !over)
            },
            sample,
        }
    }

    /// Tokens of an answer that reported `usage`.
    fn reported(
        &mut self,
        answer: &Answer,
        whole: bool,
        usage: Usage,
        estimator: impl FnOnce(&mut H) -> Estimator,
    ) -> (Usage, Source, Option<Sample>) {
        if whole && !answer.is_errored {
            let Volume { events, bytes, .. } = answer.reader.volume();
            let sample = Sample {
                input: usage.input,
                output: usage.output,
                streamed: self.terms.stream.then_some((events, bytes)),
            };
            return (usage, Source::Reported, Some(sample));
        }
        // What it reported until it broke off, and what went by since.
        match self.written(answer, answer.reader.unreported(), estimator) {
            0 => (usage, Source::Reported, None),
            since => {
                let least = answer.reader.unreported().least;
                let output = self.terms.capped(usage.output.saturating_add(since));
                let output = output.max(usage.output.saturating_add(least));
                (Usage { output, ..usage }, Source::Estimated, None)
            }
        }
    }

    /// Tokens of an answer that reported nothing, or what is not believed, by what went by.
    fn estimated(
        &mut self,
        answer: &Answer,
        whole: bool,
        disbelieved: Option<Usage>,
        estimator: impl FnOnce(&mut H) -> Estimator,
    ) -> (Usage, Source, Option<Sample>) {
        let written = self.written(answer, answer.reader.volume(), estimator);
        // One that says too much is no reason to pay less than what was reserved.
        let least = written.max(self.terms.reserved.output);
        let usage = Usage {
            input: self.terms.input(),
            output: match disbelieved {
                Some(usage) if usage.output > least => least,
                _ => written,
            },
            ..Usage::default()
        };
        // Its tokens are none that anybody counts.
        let sample = (whole && !self.terms.writes_text()).then_some(Sample {
            input: 0,
            output: 0,
            streamed: None,
        });
        (usage, Source::Estimated, sample)
    }

    /// An estimate of the tokens that went by and were not reported. A cap bounds the estimate, and not what is seen to go by:
    /// there are servers that know no such cap.
    fn written(
        &mut self,
        answer: &Answer,
        unreported: Volume,
        estimator: impl FnOnce(&mut H) -> Estimator,
    ) -> u64 {
        if !self.terms.writes_text() {
            return 0;
        }
        let Volume {
            events,
            bytes,
            text,
            least,
        } = answer.unread.and(unreported);
        let estimator = estimator(self.host);
        let estimate = if events > 0 {
            // By its text where an event holds many tokens.
            estimator.produced(events, bytes).max(estimator.written(text))
        } else {
            // Much of a short body is not text; the client's cap bounds what is.
            estimator.written(bytes)
        };
        self.terms.capped(estimate).max(least)
    }

    /// Whether what the model server reported can be so.
    fn is_plausible(&self, answer: &Answer, usage: &Usage) -> bool {
        let plausible = Plausible {
            demand: &self.terms.demand,
            reserved_output: self.terms.reserved.output,
            context_window: self.terms.context_window,
            volume: answer.reader.reported_of(),
        };
        plausible.is(usage)
    }

    /// What is held of a request that used this much. `may_run` if a model server may be at work on its last attempt.
    fn hold(&self, usage: &Usage, may_run: bool) -> Disposition {
        Disposition::Hold {
            max: self.terms.max(usage),
            // Not where it was the model server that ended it.
            in_flight: may_run && !self.host.flags().upstream_broke(),
        }
    }

    /// Attempts that a model server received.
    fn received(&self) -> u64 {
        self.spent.before_last(false) + u64::from(self.host.is_connected())
    }

    /// Whether a model server was answered for that had not answered, or not to its end: by Envoy, or by the router
    /// where it was silent for too long. Otherwise the router answers in the place of an answer.
    fn is_the_proxys_own(&self) -> bool {
        let Some(details) = self.host.details() else {
            return false;
        };
        match details.strip_prefix(b"tollgate_direct_") {
            Some(fault) => fault == Fault::Silent.name().as_bytes(),
            None => details != b"via_upstream",
        }
    }
}

/// What no model server received.
const fn unsent(outcome: Outcome) -> Settlement {
    Settlement {
        outcome,
        used: Used::NOTHING,
        disposition: Disposition::Cancel,
        sample: None,
    }
}
