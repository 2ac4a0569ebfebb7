//! What a holder and the ledger tell each other. Amounts are in the budget's unit: requests, tokens, or millionths of the
//! currency.

use serde::{Deserialize, Serialize};

/// No number in a message is larger: 2^53, which every reader of JSON keeps exactly.
pub const MOST: u64 = 1 << 53;

/// A holder's, about one window of one budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Report {
    /// All that it was granted so far, as far as it knows.
    pub granted: u64,
    /// All that it gave back so far.
    pub returned: u64,
    /// All that it spent so far.
    pub spent: u64,
    /// How much it would like to have unspent, what is reserved for requests under way included.
    pub want: u64,
    /// How much it has to have unspent to be of use: a request waits for it.
    pub need: u64,
    /// It is over: `spent` is final, and it holds nothing any more.
    pub done: bool,
}

impl Report {
    /// Whether its numbers can be so.
    pub fn is_plausible(&self) -> bool {
        let all = [self.granted, self.returned, self.spent, self.want, self.need];
        all.iter().all(|number| *number <= MOST)
    }
}

/// The ledger's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// All that the holder was granted so far.
    pub granted: u64,
    /// How much of it the holder may keep unspent; it gives back what is beyond and not reserved.
    pub keep: u64,
    /// The window's amount, a raise included.
    pub amount: u64,
    /// What all holders have spent of it, as far as they said.
    pub spent: u64,
}
