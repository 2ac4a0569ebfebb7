//! What requests hold that were given up while a model server may still be working on them, until it can't be any more.
//! Kept by the VM, not by a configuration: a reload neither returns it early nor forgets it.

use core::cell::RefCell;
use std::collections::VecDeque;

use tollgate_core::limits::Hold;

/// Beyond this a hold is not kept: its places are free at once, and what else it holds leaks away at the rate of its
/// limits.
const MOST: usize = 16_384;

std::thread_local! {
    /// Each with the moment of its end, the earliest first.
    static HOLDS: RefCell<VecDeque<(u64, Hold)>> = const { RefCell::new(VecDeque::new()) };
}

/// Holds until then; gives back what there is no room for.
pub(crate) fn keep(until: u64, hold: Hold) -> Option<Hold> {
    HOLDS.with(|holds| match holds.try_borrow_mut() {
        Ok(mut holds) if holds.len() < MOST => {
            // Mostly the last: only a shorter hold after a reload comes before others.
            let at = holds.partition_point(|(end, _)| *end <= until);
            holds.insert(at, (until, hold));
            None
        }
        _ => Some(hold),
    })
}

/// The next one that is over.
pub(crate) fn over(now: u64) -> Option<Hold> {
    HOLDS.with(|holds| {
        let mut holds = holds.try_borrow_mut().ok()?;
        holds.front().filter(|(until, _)| *until <= now)?;
        holds.pop_front().map(|(_, hold)| hold)
    })
}
