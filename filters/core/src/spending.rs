//! What requests spend of budgets, at this Envoy: from slices that the control plane grants it, so that no request asks
//! anybody. `docs/budgets.md` has the rule.
//!
//! ```text
//! workers ──reserve, settle──▶ purse of each budget ◀──reports, grants──▶ exchanger ◀──▶ control plane
//!    └──────────────of what they have too little──────────────────────────▶┘
//! ```
//!
//! Purses are in the store that workers share. The exchanger is one, on Envoy's main thread.

mod answer;
mod backlog;
mod exchanger;
mod message;
mod purse;
mod queue;
mod reserve;
#[cfg(test)]
mod tests;

pub use backlog::Backlog;
pub use exchanger::{Exchanger, Outside};
pub use purse::{Standing, lend};
pub use reserve::{Claim, Denied, Expense, Refused, Reservation, Settling, Unsettled, Verdict, reserve};

const MILLI: u64 = 1_000_000;

/// How long ago something was; a clock that was set back says nothing about that.
const fn since(then: u64, now: u64) -> u64 {
    match now.checked_sub(then) {
        Some(passed) => passed,
        None => u64::MAX,
    }
}

/// Milliseconds since 1970, as windows are named.
const fn millis(nanos: u64) -> i64 {
    // 2⁶⁴ nanoseconds are fewer.
    (nanos / MILLI) as i64
}
