//! Which targets work, as all workers of an Envoy see it, and where the attempts of a request go.
//!
//! A target is asked or left alone by a [`Breaker`], which workers share. Each model at a target has one, and each
//! organization that may itself have caused failures there has one more. Models and targets are the catalogue's,
//! organizations the directory's, so no stranger makes their number grow.
//!
//! [`Order::choose`] takes a [`Permit`] for the first target that may be asked, and those that stand by for retries; an
//! [`Ending`] is what an answer says of the target that gave it.

mod breaker;
mod ending;
mod order;
mod permit;

pub use breaker::{Admission, Breaker, Policy};
pub use ending::{Ending, tag};
pub use order::{MAX_ATTEMPTS, Order, Wanted};
pub use permit::{Destination, Longest, Permit, back_off, publish};

#[cfg(test)]
mod tests;
