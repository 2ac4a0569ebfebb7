//! Leaves one identity for every request, so that the tenant-router can be measured without key-auth before it.

use tollgate_core::reply::Reply;
use tollgate_host::{Action, Level, Module, answer, log, set_property};

/// Filter state as key-auth leaves it: the configuration, byte by byte.
pub struct Identity(Vec<u8>);

impl Module for Identity {
    type Stream = ();

    fn configure(configuration: Vec<u8>) -> Option<Self> {
        Some(Self(configuration))
    }

    fn request_headers(&mut self, _stream: &mut (), _end: bool) -> Action {
        match set_property("tollgate.identity", &self.0) {
            Ok(()) => Action::Continue,
            Err(status) => {
                log(Level::Error, &format!("bench: no identity was left: {status:?}"));
                Self::orphaned()
            }
        }
    }

    fn orphaned() -> Action {
        // A run that meets this fails: it counts no answer but 200.
        let reply = Reply {
            status: 500,
            details: "bench_no_identity".into(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        answer("bench", &reply)
    }
}

tollgate_host::export!(Identity: request_headers);
