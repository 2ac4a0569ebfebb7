//! One limit across the fleet.
//!
//! Token buckets whose rates add up to at most `r` and bursts to at most `b` can't together pass more than `b + r × t` in
//! any span `t`. Each member (an Envoy) holds a share of a limit and decides by that alone; a coordinator moves shares to
//! where they are asked for. Nothing here reads a clock or sends: time and messages are arguments.
//!
//! `docs/fleet-protocol.md` has the rule, why it holds, and what happens when what fails.

mod apportion;
mod bucket;
mod check;
mod coordinator;
mod limit;
mod member;
mod message;
mod text;
mod timing;

pub use apportion::{Demand, apportion};
pub use bucket::{Allowance, Bucket};
pub use check::{BOUND, EXACT, Invalid};
pub use coordinator::{Coordinator, MAX_MEMBERS, MAX_SUBJECTS, RULE};
pub use limit::{Limit, Share, Time, micros};
pub use member::{Change, Member, Received};
pub use message::{
    Answer, Epoch, Grant, Incarnation, Key, MAX_WANTS, Message, Seq, SlotTerms, Terms, Version, Want,
};
pub use timing::{Mutation, Timing};
