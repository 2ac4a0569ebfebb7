//! Which callbacks were called on this thread, and which one is to fail.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

#[derive(Default)]
struct Calls {
    made: Vec<&'static str>,
    fails: Option<usize>,
}

std::thread_local! {
    static CALLS: RefCell<Calls> = RefCell::default();
}

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes a call; whether it is to do what it is for.
pub(crate) fn called(name: &'static str) -> bool {
    CALLS.with_borrow_mut(|calls| {
        calls.made.push(name);
        calls.fails != Some(calls.made.len() - 1)
    })
}

pub(crate) fn note(line: String) {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

/// The callbacks that were called on this thread since this was last asked, in order.
pub fn calls() -> Vec<&'static str> {
    CALLS.with_borrow_mut(|calls| core::mem::take(&mut calls.made))
}

/// Has the call at this place fail, counted from now on; or none.
pub fn fail(at: Option<usize>) {
    CALLS.with_borrow_mut(|calls| {
        calls.made.clear();
        calls.fails = at;
    });
}

/// The name of the call that is to fail, once it was made.
pub fn failing() -> Option<&'static str> {
    CALLS.with_borrow(|calls| calls.made.get(calls.fails?).copied())
}

/// What the library has written to Envoy's log.
pub fn logged() -> Vec<String> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
