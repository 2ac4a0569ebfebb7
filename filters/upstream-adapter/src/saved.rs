//! What an attempt has changed in the headers that all attempts of a request share.

use tollgate_core::adapt::{Change, SavedHeaders};
use tollgate_host::{RequestHeaders, Status};

/// Makes headers what they were before an attempt.
pub(crate) fn give_back(saved: &mut Option<SavedHeaders>, headers: &mut RequestHeaders) {
    for change in saved.take().iter().flat_map(SavedHeaders::changes) {
        // Out of reach are the headers of a request without a body; the next attempt then does this.
        let _ = apply(headers, change);
    }
}

/// Makes one change.
pub(crate) fn apply(headers: &mut RequestHeaders, change: Change<'_>) -> Result<(), Status> {
    match change {
        Change::Remove(name) => headers.remove(name.as_bytes()),
        Change::Set(name, value) => headers.set(name, value),
        Change::Add(name, value) => headers.add(name, value),
    }
}
