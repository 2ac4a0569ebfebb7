//! The callbacks and the host calls of `tollgate-gateway.wasm` with everything on (its budget test has their list),
//! with values that were made beforehand and as good as no work in between: what callbacks and host calls cost by themselves, the proxy's
//! work for each included.

use std::sync::Arc;

use tollgate_core::config::ConfigError;
use tollgate_core::reply::Reply;
use tollgate_core::state::{Clock as _, Store as _};
use tollgate_host::{
    Counter, Family, HttpFilter, LogContext, RequestContext, ResponseContext, RootContext, Step,
    StreamContext,
};

/// As long as a state of filters, a record of limits or one of usage: some 300 bytes.
const STATE: [u8; 300] = [b'x'; 300];
/// Those of the limits and of the router, as long as theirs are.
const ANSWER: [(&str, &str); 10] = [
    ("x-ratelimit-limit-requests", "4000000000"),
    ("x-ratelimit-remaining-requests", "3999999999"),
    ("x-ratelimit-reset-requests", "1ms"),
    ("x-ratelimit-limit-tokens", "4000000000"),
    ("x-ratelimit-remaining-tokens", "3999999500"),
    ("x-ratelimit-reset-tokens", "8ms"),
    ("ratelimit-policy", POLICY),
    ("ratelimit", POLICY),
    ("x-tollgate-model", "llama-70b"),
    ("x-tollgate-route", "primary"),
];
/// Eight limits.
const POLICY: &str = "\"key-requests\";q=4000000000;w=60, \"key-tokens\";q=4000000000;w=60, \
    \"key-output-tokens\";q=4000000000;w=60, \"key-concurrent\";q=1000000;qu=\"concurrent-requests\", \
    \"org-requests\";q=4000000000;w=60, \"org-tokens\";q=4000000000;w=60, \
    \"org-output-tokens\";q=4000000000;w=60, \"org-concurrent\";q=1000000;qu=\"concurrent-requests\"";

const REQUESTS: Family = Family::counters("bench_floor_chain", &[]);

/// Calls, and does nothing.
pub struct Floor {
    requests: Counter,
}

/// The key of a record that is the caller's own.
#[derive(Default)]
pub struct Stream(Vec<u8>);

impl HttpFilter for Floor {
    const NAME: &'static str = "floor";
    type Config = ();
    type Stream = Stream;

    fn check(_configuration: Vec<u8>) -> Result<(), Vec<ConfigError>> {
        Ok(())
    }

    fn start(_config: Arc<()>, _host: &mut RootContext) -> Result<Self, ConfigError> {
        let requests = Counter::define(&REQUESTS, &[]).map_err(ConfigError::unusable)?;
        Ok(Self { requests })
    }

    fn request_headers(&mut self, stream: &mut Stream, host: &mut RequestContext, _end: bool) -> Step {
        if let Ok(headers) = host.headers.read() {
            stream.0 = headers.get(b"authorization").unwrap_or(b"nobody").to_vec();
        }
        let _ = host.headers.remove(b"authorization");
        for (name, value) in [
            ("x-tollgate-org", "org-7"),
            ("x-tollgate-project", "project-7"),
            ("x-tollgate-key-id", "7f3kq9x2mzd4"),
            ("x-tollgate-tier", "standard"),
        ] {
            let _ = host.headers.add(name, value);
        }
        let _ = host.stream.set_state("tollgate.identity", &STATE);
        self.requests.increment();
        Step::Hold
    }

    fn request_body(
        &mut self,
        stream: &mut Stream,
        host: &mut RequestContext,
        _len: Option<usize>,
        end: bool,
    ) -> Step {
        if !end {
            return Step::Hold;
        }
        let _ = host.stream.now();
        let body = host.body.read().unwrap_or_default();
        // The bench checks that each model is answered by its own server.
        let model = if body.starts_with(br#"{"model":"llama-8b""#) {
            "llama-8b"
        } else {
            "llama-70b"
        };
        let _ = host.stream.get(b"breaker");
        for (name, value) in [
            ("x-tollgate-model", model),
            ("x-tollgate-target", model),
            ("x-tollgate-priority", "default"),
        ] {
            let _ = host.headers.add(name, value);
        }
        let _ = host.clear_route_cache();
        let _ = host.stream.now();
        rewrite(&mut host.stream, &stream.0);
        let _ = host.stream.now();
        self.requests.increment();
        Step::Continue
    }

    fn response_headers(&mut self, _stream: &mut Stream, host: &mut ResponseContext, _end: bool) -> Step {
        let _ = host.stream.now();
        let _ = host.headers.read();
        for (name, value) in ANSWER {
            let _ = host.headers.add(name, value);
        }
        Step::Continue
    }

    fn response_body(
        &mut self,
        _stream: &mut Stream,
        host: &mut ResponseContext,
        len: usize,
        _end: bool,
    ) -> Step {
        if len > 0 {
            let _ = host.body.read();
        }
        Step::Continue
    }

    fn log(&mut self, stream: &mut Stream, host: &mut LogContext) {
        let _ = host.stream.now();
        rewrite(&mut host.stream, &stream.0);
        let _ = host.stream.set_state("tollgate.usage", &STATE);
    }

    fn orphaned() -> Reply {
        Reply::document("bench", Vec::new())
    }
}

/// Reads and writes two records: the caller's own and one of all.
fn rewrite(host: &mut StreamContext, own: &[u8]) {
    for key in [own, b"all"] {
        let _ = host.get(key).and_then(|found| match found {
            Some((record, version)) => host.swap(key, &record, Some(version)),
            None => host.swap(key, &STATE, None),
        });
    }
}

#[cfg(target_arch = "wasm32")]
tollgate_host::export!(
    tollgate_host::Module<Floor>:
    request_headers, request_body, response_headers, response_body, log
);
