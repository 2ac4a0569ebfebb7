//! What a native library costs with nothing done in it: a filter that lets everything pass, and the callbacks and host calls
//! of the gateway.

use std::sync::Arc;

use tollgate_bench_floor_chain::Floor;
use tollgate_core::config::ConfigError;
use tollgate_core::reply::Reply;
use tollgate_host::{Absent, HttpFilter, RequestContext, RootContext, Step};

/// Lets everything pass.
pub struct Nothing;

impl HttpFilter for Nothing {
    const NAME: &'static str = "nothing";
    type Config = ();
    type Stream = ();

    fn check(_configuration: Vec<u8>) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }

    fn start(_config: Arc<()>, _host: &mut RootContext) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn request_headers(&mut self, _stream: &mut (), _host: &mut RequestContext, _end: bool) -> Step {
        Step::Continue
    }

    fn orphaned() -> Reply {
        Reply::document("bench", Vec::new())
    }
}

tollgate_host::export_native! {
    filters: { Nothing = Nothing, Floor = Floor }
    loggers: { Absent = Absent }
    singletons: { Absent = Absent }
}
