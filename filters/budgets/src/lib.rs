//! A budget that several Envoys spend from: the ledger's rule, and a holder's slice. No I/O and no clock; integers only.
//!
//! A budget's amount is escrowed in slices. Each holder (one life of an Envoy) spends from its own slice and asks nobody; the
//! ledger counts the whole slice as gone until the holder has said what it spent of it, or gave back.
//!
//! ```text
//! Slice ── Report: granted, returned, spent so far; how much it wants ──▶ Book
//!       ◀── Answer: granted so far; how much it may keep ────────────────
//! ```
//!
//! Every number in a message is cumulative and never falls, and each side keeps the larger of what it knows and what it is
//! told. So a message may be lost, doubled, late or out of order and changes nothing that it should not. `docs/budgets.md`
//! has the rule, why it holds, and what is checked.

mod ledger;
mod message;
mod rules;
mod slice;

pub use ledger::{Account, Book, State, Terms, TooLarge, Totals};
pub use message::{Answer, MOST, Report};
pub use rules::{Mutation, Rules};
pub use slice::{Short, Slice};
