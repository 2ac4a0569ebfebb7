//! A panic ends what it happened in, and not Envoy.

use core::panic::AssertUnwindSafe;
use std::panic::{catch_unwind, set_hook};

use crate::log::{Level, log};
use crate::metric::Family;
use crate::native::journal::{FAILURES, LOST, UNJOURNALED};
use crate::native::metric::{FLUSHES, count};
use crate::native::persist::DROPPED;

/// What every library counts. The flushes come last: what was counted before one is with Envoy after it.
pub(super) static FAMILIES: &[Family] = &[PANICS, LOST, FAILURES, UNJOURNALED, DROPPED, FLUSHES];
const PANICS: Family = Family::counters("tollgate_panics", &[]);

/// Has a panic say in Envoy's log where it was. Not with what: that may be a customer's.
pub fn report() {
    set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(|place| format!("{}:{}", place.file(), place.line()));
        let place = place.unwrap_or_default();
        log(Level::Error, &format!("tollgate: a panic at {place}"));
    }));
}

/// What `then` answers; `None` where it panics, which is counted.
pub(super) fn caught<T>(then: impl FnOnce() -> T) -> Option<T> {
    // What it was changing is dropped, or not used before it is whole again: `streams` sees to it.
    let caught = catch_unwind(AssertUnwindSafe(then));
    caught.map_err(|_| count(&PANICS, 1)).ok()
}
