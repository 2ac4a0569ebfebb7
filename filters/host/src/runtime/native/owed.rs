//! Request headers that an attempt is to give back, and can't: Envoy forgets it after it has answered the request, or made
//! the next attempt, and shows it no headers then. Who meets the request next on this worker has it done: the next
//! attempt, or a filter of the listener before Envoy answers or logs.

use core::cell::RefCell;
use core::ffi::c_void;
use std::collections::{BTreeMap, VecDeque};

use crate::native::change::Change;
use crate::native::{Handle, abi, headers};

/// What is owed to a request.
struct Owed {
    request: Vec<u8>,
    changes: Vec<Change>,
}

/// An attempt that is not forgotten yet.
struct Attempt {
    /// The entry, and what has its filter give back on the stream of another.
    entry: *mut c_void,
    give_back: unsafe fn(*mut c_void, abi::Filter),
}

/// Nobody may come for it where no filter of ours stands in the listener; the oldest go then.
const MAX: usize = 1_000;

std::thread_local! {
    static OWED: RefCell<VecDeque<Owed>> = const { RefCell::new(VecDeque::new()) };
    /// By their requests; more than one where Envoy has not forgotten those before.
    static ATTEMPTS: RefCell<BTreeMap<Vec<u8>, Vec<Attempt>>> = const { RefCell::new(BTreeMap::new()) };
}

/// The request's own id, by which it is met again.
fn id(filter: abi::Filter) -> Option<Vec<u8>> {
    headers::get(Handle::Stream(filter), 0, "x-request-id")
        .ok()
        .flatten()
}

/// An attempt begins; the id of its request.
pub(super) fn begin(
    filter: abi::Filter,
    entry: *mut c_void,
    give_back: unsafe fn(*mut c_void, abi::Filter),
) -> Option<Vec<u8>> {
    let request = id(filter)?;
    ATTEMPTS.with_borrow_mut(|attempts| {
        let attempts = attempts.entry(request.clone()).or_default();
        attempts.push(Attempt { entry, give_back });
    });
    Some(request)
}

/// An attempt is forgotten, and owes this to its request.
pub(super) fn end(request: Vec<u8>, entry: *mut c_void, changes: Vec<Change>) {
    ATTEMPTS.with_borrow_mut(|attempts| {
        if let Some(of_request) = attempts.get_mut(&request) {
            of_request.retain(|attempt| attempt.entry != entry);
            if of_request.is_empty() {
                attempts.remove(&request);
            }
        }
    });
    if changes.is_empty() {
        return;
    }
    OWED.with_borrow_mut(|owed| {
        if owed.len() == MAX {
            owed.pop_front();
        }
        owed.push_back(Owed { request, changes });
    });
}

/// Gives a request what is owed to it.
pub(super) fn pay(filter: abi::Filter) {
    let nothing = OWED.with_borrow(VecDeque::is_empty) && ATTEMPTS.with_borrow(BTreeMap::is_empty);
    if nothing {
        return;
    }
    let Some(request) = id(filter) else {
        return;
    };
    ATTEMPTS.with_borrow(|attempts| {
        for attempt in attempts.get(&request).into_iter().flatten() {
            // SAFETY: it is under way on this thread, until `end` takes it out.
            unsafe { (attempt.give_back)(attempt.entry, filter) };
        }
    });
    let handle = Handle::Stream(filter);
    OWED.with_borrow_mut(|owed| {
        owed.retain(|one| {
            if one.request != request {
                return true;
            }
            for change in &one.changes {
                // As of every change at this point: there is nobody left to tell.
                let _ = match change {
                    Change::Set(name, value) => headers::set(handle, 0, name, value),
                    Change::Add(name, value) => headers::add(handle, 0, name, value),
                    Change::Remove(name) => headers::remove(handle, 0, name),
                };
            }
            false
        });
    });
}
