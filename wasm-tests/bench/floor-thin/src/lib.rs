//! The job of `floor` on Tollgate's own host crate, and with no callback that it has no use for.

use tollgate_host::{Action, HeaderMap, Map, Module, set_header};

/// Reads one header and sets one.
pub struct Floor;

impl Module for Floor {
    type Stream = ();

    fn configure(_configuration: Vec<u8>) -> Option<Self> {
        Some(Self)
    }

    fn request_headers(&mut self, _stream: &mut (), _end: bool) -> Action {
        let credential = HeaderMap::read(Map::Request).ok().and_then(|headers| {
            headers
                .get(b"authorization")
                .map(|value| if value.is_empty() { "empty" } else { "given" })
        });
        // A header that can't be set leaves the request as it was: the bench's model server does not look.
        let _ = set_header(Map::Request, "x-floor", credential.unwrap_or("none"));
        Action::Continue
    }

    fn orphaned() -> Action {
        Action::Continue
    }
}

tollgate_host::export!(Floor: request_headers);
