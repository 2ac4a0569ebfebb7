//! What is written down of this process: the journal that every worker writes to, and in it values that may outlive us.

use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tollgate_core::state::Value;
use tollgate_journal::{Cell, Journal};

static JOURNAL: Mutex<Option<Arc<Journal>>> = Mutex::new(None);
/// How often that changed.
static CHANGES: AtomicU64 = AtomicU64::new(0);

std::thread_local! {
    /// What this thread knows of it, and as of which change.
    static KNOWN: RefCell<(u64, Option<Arc<Journal>>)> = const { RefCell::new((0, None)) };
}

/// Has everybody write to this one from now on.
pub(super) fn begin(journal: &Arc<Journal>) {
    change(|current| *current = Some(Arc::clone(journal)));
}

/// And no longer.
pub(super) fn end(journal: &Arc<Journal>) {
    // Another may have begun already.
    change(|current| {
        current.take_if(|current| Arc::ptr_eq(current, journal));
    });
}

fn change(then: impl FnOnce(&mut Option<Arc<Journal>>)) {
    then(&mut JOURNAL.lock().unwrap_or_else(PoisonError::into_inner));
    CHANGES.fetch_add(1, Ordering::Release);
}

/// With the journal, where there is one, and the number of the change that it came with.
pub(super) fn with<T>(then: impl FnOnce(&Arc<Journal>, u64) -> Option<T>) -> Option<T> {
    KNOWN.with_borrow_mut(|(change, journal)| {
        let now = CHANGES.load(Ordering::Acquire);
        if *change != now {
            *change = now;
            journal.clone_from(&JOURNAL.lock().unwrap_or_else(PoisonError::into_inner));
        }
        then(journal.as_ref()?, now)
    })
}

/// A value's place in the journal, and with which change that came.
pub(super) type Place = (u64, Cell);

/// Writes a value that may outlive this process to its place; one that has none gets one.
pub(super) fn write_down<V: Value>(key: &[u8], value: &V, place: &mut Option<Place>) {
    if V::DURABLE {
        write_bytes(key, || value.encode(), place);
    }
}

/// The same of a value as bytes.
pub(super) fn write_bytes(key: &[u8], value: impl FnOnce() -> Vec<u8>, place: &mut Option<Place>) {
    with(|journal, change| {
        if !journal.has_levels() {
            return None;
        }
        let cell = match place {
            Some((of, cell)) if *of == change => *cell,
            _ => journal.cell(key)?,
        };
        *place = Some((change, cell));
        journal.put(cell, &value());
        Some(())
    });
}
