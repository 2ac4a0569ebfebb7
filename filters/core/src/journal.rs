//! What is known of a request while it is under way, so that it has its record even if its gateway is killed. A host that
//! keeps none asks for nothing, and nothing is made for it.

use crate::identity::Caller;
use crate::usage::record::{Outcome, Record};

/// Where it is kept.
pub trait Journal {
    /// Keeps what is known now, in place of what was known before. It is only made where somebody keeps it.
    fn keep(&mut self, _known: impl FnOnce() -> Known) {}
}

/// What is known of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Status of the answer; 0 where none has begun.
    pub status: u16,
    /// The members of its record, as they are if this is all.
    pub members: String,
}

impl Known {
    /// No more than whose it is.
    pub fn begun(who: Caller<'_>) -> Self {
        Self {
            status: 0,
            members: Record::before_limits(who, Outcome::Crashed).members(),
        }
    }
}
