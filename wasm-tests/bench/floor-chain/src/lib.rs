//! The callbacks and the host calls of `tollgate-gateway.wasm` with everything on (its budget test has their list),
//! with values that were made beforehand and as good as no work in between: what callbacks and host calls cost by themselves, the proxy's
//! work for each included.

use tollgate_host::{
    Action, Buffer, Counter, HeaderMap, Map, Module, add_header, clear_route_cache, create_shared, now_nanos,
    read_buffer, remove_header, set_header, set_property, set_shared_if, shared,
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

/// Calls, and does nothing.
pub struct Floor {
    requests: Counter,
}

/// The key of a record that is the caller's own.
#[derive(Default)]
pub struct Stream(Vec<u8>);

impl Module for Floor {
    type Stream = Stream;

    fn configure(_configuration: Vec<u8>) -> Option<Self> {
        let requests = Counter::define("bench_floor_chain").ok()?;
        Some(Self { requests })
    }

    fn request_headers(&mut self, stream: &mut Stream, _end: bool) -> Action {
        if let Ok(headers) = HeaderMap::read(Map::Request) {
            stream.0 = headers.get(b"authorization").unwrap_or(b"nobody").to_vec();
        }
        let _ = remove_header(Map::Request, b"authorization");
        for (name, value) in [
            ("x-tollgate-org", "org-7"),
            ("x-tollgate-project", "project-7"),
            ("x-tollgate-key-id", "7f3kq9x2mzd4"),
            ("x-tollgate-tier", "standard"),
        ] {
            let _ = add_header(Map::Request, name, value);
        }
        let _ = set_property("tollgate.identity", &STATE);
        self.requests.increment();
        Action::Pause
    }

    fn request_body(&mut self, stream: &mut Stream, _len: usize, end: bool) -> Action {
        if !end {
            return Action::Pause;
        }
        let _ = now_nanos();
        let body = read_buffer(Buffer::RequestBody).unwrap_or_default();
        // The bench checks that each model is answered by its own server.
        let model = if body.starts_with(br#"{"model":"llama-8b""#) {
            "llama-8b"
        } else {
            "llama-70b"
        };
        let _ = shared(b"breaker");
        for (name, value) in [
            ("x-tollgate-model", model),
            ("x-tollgate-target", model),
            ("x-tollgate-priority", "default"),
        ] {
            let _ = set_header(Map::Request, name, value);
        }
        let _ = clear_route_cache();
        let _ = now_nanos();
        rewrite(&stream.0);
        let _ = now_nanos();
        self.requests.increment();
        Action::Continue
    }

    fn response_headers(&mut self, _stream: &mut Stream, _end: bool) -> Action {
        let _ = now_nanos();
        let _ = HeaderMap::read(Map::Response);
        for (name, value) in ANSWER {
            let _ = set_header(Map::Response, name, value);
        }
        Action::Continue
    }

    fn response_body(&mut self, _stream: &mut Stream, len: usize, _end: bool) -> Action {
        if len > 0 {
            let _ = read_buffer(Buffer::ResponseBody);
        }
        Action::Continue
    }

    fn log(&mut self, stream: &mut Stream) {
        let _ = now_nanos();
        rewrite(&stream.0);
        let _ = set_property("tollgate.usage", &STATE);
    }

    fn orphaned() -> Action {
        Action::Continue
    }
}

/// Reads and writes two records: the caller's own and one of all.
fn rewrite(own: &[u8]) {
    for key in [own, b"all"] {
        let _ = shared(key).and_then(|found| match found {
            Some((record, version)) => set_shared_if(key, &record, version),
            None => create_shared(key, &STATE),
        });
    }
}

tollgate_host::export!(Floor: request_headers, request_body, response_headers, response_body, log);
