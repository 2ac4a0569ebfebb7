//! The job of `floor` on Tollgate's own host crate, and with no callback that it has no use for.

use std::sync::Arc;

use tollgate_core::config::ConfigError;
use tollgate_core::reply::Reply;
use tollgate_host::{HttpFilter, RequestContext, RootContext, Step};

/// Reads one header and sets one.
pub struct Floor;

impl HttpFilter for Floor {
    const NAME: &'static str = "floor";
    type Config = ();
    type Stream = ();

    fn check(_configuration: Vec<u8>) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }

    fn start(_config: Arc<()>, _host: &mut RootContext) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn request_headers(&mut self, _stream: &mut (), host: &mut RequestContext, _end: bool) -> Step {
        let credential = host.headers.read().ok().and_then(|headers| {
            headers
                .get(b"authorization")
                .map(|value| if value.is_empty() { "empty" } else { "given" })
        });
        // A header that can't be set leaves the request as it was: the bench's model server does not look.
        let _ = host.headers.set("x-floor", credential.unwrap_or("none"));
        Step::Continue
    }

    fn orphaned() -> Reply {
        Reply::document("bench", Vec::new())
    }
}

tollgate_host::export!(tollgate_host::Module<Floor>: request_headers);
