//! What an attempt has changed in the headers that all attempts of a request share.

use tollgate_core::adapt::{Change, Kept};
use tollgate_host::{Map, Status, add_header, remove_header, set_header};

/// Headers as they were, given back when this is dropped: with the stream at the latest, which Envoy ends before it
/// begins another attempt, answers by itself, or logs the request.
pub(crate) struct Lent(Kept);

impl Lent {
    /// Takes what `changes` will change. From here on it is given back, however far they get.
    pub(crate) fn new(kept: Kept) -> Self {
        Self(kept)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for change in self.0.changes() {
            // Out of reach are the headers of a request without a body; the next attempt then does this.
            let _ = apply(change);
        }
    }
}

/// Makes one change.
pub(crate) fn apply(change: Change<'_>) -> Result<(), Status> {
    match change {
        Change::Remove(name) => remove_header(Map::Request, name.as_bytes()),
        Change::Set(name, value) => set_header(Map::Request, name, value),
        Change::Add(name, value) => add_header(Map::Request, name, value),
    }
}
