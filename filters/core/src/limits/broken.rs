//! Broken rules for shares, each of which a simulation has to notice.

use core::cell::Cell as Local;

use super::cell::Cell;
use crate::gcra::Quota;

/// A broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// What is used of a share stays the same part of it.
    Scaled,
    /// A larger burst comes full.
    Filled,
    /// What a larger burst lacks can be taken back by who was charged before.
    Returnable,
    /// A part that is given up goes on being used.
    PartsKept,
}

std::thread_local! {
    static BROKEN: Local<Option<Rule>> = const { Local::new(None) };
}

/// With a rule broken.
pub(crate) fn with<T>(rule: Rule, then: impl FnOnce() -> T) -> T {
    BROKEN.set(Some(rule));
    let result = then();
    BROKEN.set(None);
    result
}

pub(super) fn is(rule: Rule) -> bool {
    BROKEN.get() == Some(rule)
}

pub(super) fn change_share(cell: &mut Cell, quota: Quota) -> Option<u128> {
    match BROKEN.get()? {
        Rule::Scaled if cell.quota.capacity() > 0 => {
            cell.adopt(quota);
            Some(0)
        }
        Rule::Filled => {
            cell.quota = quota;
            Some(0)
        }
        _ => None,
    }
}

pub(super) fn counted(lacks: u128) -> u128 {
    if is(Rule::Returnable) { 0 } else { lacks }
}
