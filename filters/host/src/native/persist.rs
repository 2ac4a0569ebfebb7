//! The journal that every worker writes to, and in it values that may outlive this process.

use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tollgate_core::state::Value;
use tollgate_journal::{Journal, LevelCell};

use super::metric::count;
use crate::metric::Family;

/// Values of which a restart will not begin with what they are: they are too long, or there is no more room.
pub(crate) const DROPPED: Family = Family::counters("tollgate_levels_dropped", &[]);

/// A journal, and how many there were before it, or ends of one.
type Current = (u64, Option<Arc<Journal>>);

static CURRENT: Mutex<Current> = Mutex::new((0, None));
/// Whether to look there.
static GENERATION: AtomicU64 = AtomicU64::new(0);

std::thread_local! {
    /// What this thread has seen there last.
    static SEEN: RefCell<Current> = const { RefCell::new((0, None)) };
}

/// Makes this the journal that all workers write to.
pub(super) fn begin(journal: &Arc<Journal>) {
    change(|current| *current = Some(Arc::clone(journal)));
}

/// It no longer is.
pub(super) fn end(journal: &Arc<Journal>) {
    // Another may have begun already.
    change(|current| {
        current.take_if(|current| Arc::ptr_eq(current, journal));
    });
}

fn change(then: impl FnOnce(&mut Option<Arc<Journal>>)) {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    then(&mut current.1);
    current.0 += 1;
    GENERATION.store(current.0, Ordering::Release);
}

/// With the journal, where there is one, and its generation.
pub(super) fn with<T>(then: impl FnOnce(&Arc<Journal>, u64) -> Option<T>) -> Option<T> {
    SEEN.with_borrow_mut(|seen| {
        if seen.0 != GENERATION.load(Ordering::Acquire) {
            seen.clone_from(&CURRENT.lock().unwrap_or_else(PoisonError::into_inner));
        }
        then(seen.1.as_ref()?, seen.0)
    })
}

/// A value's place in the journal of a generation.
pub(super) type Place = (u64, LevelCell);

/// Keeps what of a value may outlive this process.
pub(super) fn persist<V: Value>(key: &[u8], value: &V, place: &mut Option<Place>) {
    persist_bytes(key, || value.persistent(), place);
}

/// The same of a value as bytes.
pub(super) fn persist_bytes(key: &[u8], value: impl FnOnce() -> Option<Vec<u8>>, place: &mut Option<Place>) {
    with(|journal, generation| {
        if !journal.has_levels() {
            return None;
        }
        let value = value()?;
        place.take_if(|(of, _)| *of != generation);
        if place.is_none() {
            *place = journal.cell(key).map(|cell| (generation, cell));
        }
        let is_kept = place.as_mut().is_some_and(|(_, cell)| journal.put(cell, &value));
        if !is_kept {
            count(&DROPPED, 1);
        }
        Some(())
    });
}
