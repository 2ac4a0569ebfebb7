//! Leaves one identity for every request, so that the tenant-router can be measured without key-auth before it.

use std::sync::Arc;

use tollgate_core::config::ConfigError;
use tollgate_core::reply::Reply;
use tollgate_host::{HttpFilter, Level, RequestContext, RootContext, Step, log};

/// Filter state as key-auth leaves it: the configuration, byte by byte.
pub struct Identity(Arc<Vec<u8>>);

impl HttpFilter for Identity {
    const NAME: &'static str = "identity";
    type Config = Vec<u8>;
    type Stream = ();

    fn check(configuration: Vec<u8>) -> Result<Vec<u8>, Vec<ConfigError>> {
        Ok(configuration)
    }

    fn start(state: Arc<Vec<u8>>, _host: &mut RootContext) -> Result<Self, ConfigError> {
        Ok(Self(state))
    }

    fn request_headers(&mut self, _stream: &mut (), host: &mut RequestContext, _end: bool) -> Step {
        match host.stream.set_state("tollgate.identity", &self.0) {
            Ok(()) => Step::Continue,
            Err(status) => {
                log(Level::Error, &format!("bench: no identity was left: {status:?}"));
                Self::orphaned().into()
            }
        }
    }

    fn orphaned() -> Reply {
        // A run that meets this fails: it counts no answer but 200.
        Reply {
            status: 500,
            details: "bench_no_identity".into(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }
}

tollgate_host::export!(tollgate_host::Module<Identity>: request_headers);
