//! What a row counts by. Each kind of limit is a meter: it judges a request, charges it, and says how it stands. A new kind
//! is another [`Bound`] with a meter of its own.

mod concurrent;
mod gcra;

use super::ask::{Ask, LimitStatus, Wait};
use super::record::LimitRecord;
use super::settle::Held;
use super::table::Hit;
use crate::bound::Bound;

/// One row's way to count, by its bound for one request.
trait Meter {
    /// How much the request takes.
    fn takes(&self, hit: &Hit<'_>, ask: &Ask<'_>) -> u64;

    /// The wait, if the row is over.
    fn wait(&self, record: &LimitRecord, hit: &Hit<'_>, ask: &Ask<'_>) -> Option<Wait>;

    /// Charges the request: what it holds, and how the row stands with it.
    fn charge(&self, record: &mut LimitRecord, hit: &Hit<'_>, ask: &Ask<'_>) -> (Held, Reading);

    /// How the row stands.
    fn read(&self, record: &LimitRecord, hit: &Hit<'_>, ask: &Ask<'_>) -> Reading;

    /// Adopts a bound that was changed in the configuration; whether that changed anything.
    fn adopt(&self, _record: &mut LimitRecord, _hit: &Hit<'_>) -> bool {
        false
    }
}

/// What a meter shows.
struct Reading {
    /// How much is used; in debt more than the bound.
    used: u64,
    /// How much may come at once.
    remaining: u64,
    /// Nanoseconds until all of it may.
    reset: u64,
}

/// Asks the meter of a bound.
macro_rules! ask_meter {
    ($hit:expr, $meter:ident => $answer:expr) => {
        match &$hit.bound {
            Bound::Rate($meter) => $answer,
            Bound::Max(max) => {
                let $meter = &concurrent::Max(*max);
                $answer
            }
        }
    };
}

impl Hit<'_> {
    /// How much of the row the request takes.
    pub(super) fn takes(&self, ask: &Ask<'_>) -> u64 {
        ask_meter!(self, meter => meter.takes(self, ask))
    }

    /// The wait, if the row is over.
    pub(super) fn judge(&self, record: &LimitRecord, ask: &Ask<'_>) -> Option<Wait> {
        ask_meter!(self, meter => meter.wait(record, self, ask))
    }

    /// Charges the row: what the request holds of it, and how it stands then.
    pub(super) fn charge(&self, record: &mut LimitRecord, ask: &Ask<'_>) -> (Held, LimitStatus) {
        let (held, reading) = ask_meter!(self, meter => meter.charge(record, self, ask));
        (held, self.status_of(&reading))
    }

    /// How the row stands.
    pub(super) fn status(&self, record: &LimitRecord, ask: &Ask<'_>) -> LimitStatus {
        let reading = ask_meter!(self, meter => meter.read(record, self, ask));
        self.status_of(&reading)
    }

    /// Goes over to a rate that was changed; whether there was one.
    pub(super) fn keep_new_rate(&self, record: &mut LimitRecord) -> bool {
        ask_meter!(self, meter => meter.adopt(record, self))
    }

    const fn status_of(&self, reading: &Reading) -> LimitStatus {
        LimitStatus {
            row: self.at,
            bound: self.bound,
            used: reading.used,
            remaining: reading.remaining,
            reset: reading.reset,
        }
    }
}
