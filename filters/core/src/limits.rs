//! Limits: how much each subject may ask for. One table of rows, whose state workers share through a [`Store`](crate::state::Store).
//!
//! [`Table::reserve`] admits a request by every row that covers it, or by none; [`Reservation::settle`] corrects
//! what was reserved by what was used. Time, state and randomness come in as arguments.
//!
//! What holds:
//! - Never over: what a row admits, in any span of time, is at most its burst and its rate times the span, exactly:
//!   levels are whole numbers of a unit in which the leak of a nanosecond is whole too.
//! - A refusal consumes nothing, and tells when the same request would be admitted.
//! - Strangers cannot grow the store: what they choose, their address, falls into a fixed number of slots.

mod amounts;
mod answer;
mod ask;
mod backlog;
#[cfg(test)]
pub(crate) mod broken;
mod cell;
mod cover;
mod document;
pub mod estimate;
pub mod estimates;
pub mod fair;
mod fleet;
mod headers;
mod holds;
mod lease;
mod meter;
mod record;
mod refusal;
mod reserve;
mod returned;
mod settle;
mod share;
mod short;
mod slots;
mod subject;
mod table;
#[cfg(test)]
mod tests;

pub use crate::bound::Bound;
pub use amounts::{Amounts, Count};
pub use answer::unavailable;
pub use ask::{Ask, LimitStatus, Wait};
pub use backlog::Backlog;
pub use cover::{By, Cover};
pub use document::RawLimit;
pub(crate) use fair::Org;
pub(crate) use headers::{duration, moment};
pub use holds::Holds;
pub use lease::Lease;
pub use record::still_counts;
pub use refusal::{Code, Refusal};
pub use reserve::{Admitted, Denied, Reason, Refused};
pub use settle::{Hold, Reservation, Unsettled};
pub(crate) use share::{ShareRecord, Tally, store_key as share_key};
pub(crate) use short::{Note, Notes};
pub use subject::{Dimension, Per, Subject};
pub use table::{Mode, OnError, Place, Row, Table};
