//! What became of a request, and what a test may expect of it.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::exchange::Dir;
use crate::flow::{Arrived, Flow};
use crate::headers::Headers;
use crate::host::{Counts, LocalReply};
use crate::hostcall::Hostcall;
use crate::vm::Trap;
use crate::world::{LogLine, World};

/// What became of a request. The `expect_…` methods fail the test with the whole story when it went another
/// way.
#[must_use = "an outcome that nobody looks at tests nothing"]
pub struct Outcome {
    request: Arrived,
    response: Arrived,
    local: Option<LocalReply>,
    reset: bool,
    held: bool,
    trap: Option<Trap>,
    filter_state: BTreeMap<Vec<u8>, Vec<u8>>,
    route_cache_cleared: u32,
    counts: Counts,
    log: Vec<LogLine>,
}

/// The request as the upstream had it.
#[derive(Clone, Copy)]
pub struct Forwarded<'a> {
    outcome: &'a Outcome,
    headers: &'a Headers,
}

/// The answer as the client had it.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    outcome: &'a Outcome,
    headers: &'a Headers,
}

impl Outcome {
    pub(crate) fn of(world: &World, flow: &Flow, held: bool) -> Self {
        let exchange = flow.exchange.borrow();
        let log = world.log();
        Self {
            request: flow.out[Dir::Request as usize].clone(),
            response: flow.out[Dir::Response as usize].clone(),
            local: flow.local.clone(),
            reset: flow.reset,
            held,
            trap: flow.vms().iter().find_map(crate::vm::Vm::trap),
            filter_state: exchange.filter_state.clone(),
            route_cache_cleared: exchange.route_cache_cleared,
            counts: flow.counts.clone(),
            log: log.into_iter().rev().take(20).rev().collect(),
        }
    }

    /// The request reached the upstream in full.
    #[track_caller]
    pub fn expect_forwarded(&self) -> Forwarded<'_> {
        match &self.request.headers {
            Some(headers) if self.request.ended => Forwarded {
                outcome: self,
                headers,
            },
            _ => self.otherwise("the request was to reach the upstream"),
        }
    }

    /// A filter answered by itself with this status, and the upstream never heard of the request.
    #[track_caller]
    pub fn expect_refused(&self, status: u16) -> Answer<'_> {
        if self.local.is_none() || self.request.headers.is_some() {
            self.otherwise(&format!("a filter was to refuse with {status}"));
        }
        self.expect_response(status)
    }

    /// The client got a whole answer with this status, whoever made it.
    #[track_caller]
    pub fn expect_response(&self, status: u16) -> Answer<'_> {
        let wanted = status.to_string();
        match &self.response.headers {
            Some(headers) if self.response.ended && headers.text(":status") == Some(wanted) => Answer {
                outcome: self,
                headers,
            },
            _ => self.otherwise(&format!("the client was to get a whole {status}")),
        }
    }

    /// The response reached the client up to somewhere; the rest never came.
    #[track_caller]
    pub fn expect_broken(&self) -> &Self {
        if !self.reset || self.held {
            self.otherwise("the stream was to break");
        }
        self
    }

    /// A filter held the request or the response to the end.
    #[track_caller]
    pub fn expect_held(&self) -> &Self {
        if !self.held {
            self.otherwise("a filter was to hold the stream");
        }
        self
    }

    /// The module trapped. The VM must have been told to allow it.
    #[track_caller]
    pub fn expect_trap(&self) -> &Trap {
        match &self.trap {
            Some(trap) => trap,
            None => self.otherwise("the module was to trap"),
        }
    }

    /// What reached the client of the body.
    #[must_use]
    pub fn received(&self) -> Vec<u8> {
        self.response.chunks.concat()
    }

    /// What reached the client of the body, as it came. Empty chunks are left out.
    #[must_use]
    pub fn received_chunks(&self) -> Vec<&[u8]> {
        self.response
            .chunks
            .iter()
            .map(Vec::as_slice)
            .filter(|chunk| !chunk.is_empty())
            .collect()
    }

    /// What reached the upstream of the body.
    #[must_use]
    pub fn forwarded_body(&self) -> Vec<u8> {
        self.request.chunks.concat()
    }

    /// What a filter answered in the upstream's place: status, details and body; `None` where none did.
    #[must_use]
    pub fn local_reply(&self) -> Option<(u32, &str, &[u8])> {
        let local = self.local.as_ref()?;
        Some((local.status, &local.details, &local.body))
    }

    /// Filter state by its path, as `tollgate.identity`.
    #[must_use]
    pub fn filter_state(&self, path: &str) -> Option<&[u8]> {
        self.filter_state.get(path.as_bytes()).map(Vec::as_slice)
    }

    /// How often the route was to be chosen anew.
    #[must_use]
    pub fn route_cache_cleared(&self) -> u32 {
        self.route_cache_cleared
    }

    /// How often the filters made this host call for this request. For performance budgets, not for
    /// behaviour.
    #[must_use]
    pub fn hostcalls(&self, call: Hostcall) -> u64 {
        self.counts.get(&call).copied().unwrap_or(0)
    }

    /// How often the filters called the host for this request.
    #[must_use]
    pub fn crossings(&self) -> u64 {
        self.counts.values().sum()
    }

    #[track_caller]
    fn otherwise(&self, expected: &str) -> ! {
        panic!("{expected}, but:\n{self}")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(trap) = &self.trap {
            writeln!(f, "  {trap}")?;
        }
        if self.held {
            writeln!(f, "  a filter held it to the end")?;
        }
        if self.reset && !self.held {
            writeln!(f, "  the stream broke")?;
        }
        if let Some(local) = &self.local {
            writeln!(
                f,
                "  answered by a filter or by Envoy; details {:?}",
                local.details
            )?;
        }
        for (name, arrived) in [("upstream", &self.request), ("client", &self.response)] {
            let Some(headers) = &arrived.headers else {
                writeln!(f, "  the {name} got nothing")?;
                continue;
            };
            let all = if arrived.ended { "all of" } else { "a part of" };
            writeln!(f, "  the {name} got {all}\n{headers}")?;
            let body = arrived.chunks.concat();
            if !body.is_empty() {
                writeln!(f, "    {}", String::from_utf8_lossy(&body))?;
            }
        }
        writeln!(f, "  the log's end:")?;
        self.log.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! message {
    ($name:ident, $arrived:ident) => {
        impl $name<'_> {
            /// All headers.
            #[must_use]
            pub fn headers(&self) -> &Headers {
                self.headers
            }

            /// The header is there once, with this value.
            #[track_caller]
            pub fn header(&self, name: &str, value: impl AsRef<[u8]>) -> &Self {
                let found: Vec<&[u8]> = self.headers.all(name).collect();
                if found != [value.as_ref()] {
                    let wanted = String::from_utf8_lossy(value.as_ref()).into_owned();
                    self.outcome
                        .otherwise(&format!("`{name}` was to be {wanted:?} and nothing else"));
                }
                self
            }

            /// The header is not there.
            #[track_caller]
            pub fn no_header(&self, name: &str) -> &Self {
                if self.headers.get(name).is_some() {
                    self.outcome
                        .otherwise(&format!("there was to be no `{name}`"));
                }
                self
            }

            /// The trailer is there, with this value.
            #[track_caller]
            pub fn trailer(&self, name: &str, value: impl AsRef<[u8]>) -> &Self {
                let trailers = self.outcome.$arrived.trailers.as_ref();
                if trailers.and_then(|trailers| trailers.get(name)) != Some(value.as_ref()) {
                    self.outcome
                        .otherwise(&format!("there was to be a trailer `{name}`"));
                }
                self
            }

            /// The trailer is not there.
            #[track_caller]
            pub fn no_trailer(&self, name: &str) -> &Self {
                let trailers = self.outcome.$arrived.trailers.as_ref();
                if trailers.is_some_and(|trailers| trailers.get(name).is_some()) {
                    self.outcome
                        .otherwise(&format!("there was to be no trailer `{name}`"));
                }
                self
            }

            /// The body is this.
            #[track_caller]
            pub fn body(&self, body: impl AsRef<[u8]>) -> &Self {
                if self.bytes() != body.as_ref() {
                    let wanted = String::from_utf8_lossy(body.as_ref()).into_owned();
                    self.outcome
                        .otherwise(&format!("the body was to be {wanted:?}"));
                }
                self
            }

            /// The body's bytes.
            #[must_use]
            pub fn bytes(&self) -> Vec<u8> {
                self.outcome.$arrived.chunks.concat()
            }

            /// The body as JSON.
            #[must_use]
            #[track_caller]
            pub fn json(&self) -> Value {
                serde_json::from_slice(&self.bytes())
                    .unwrap_or_else(|_| self.outcome.otherwise("the body was to be JSON"))
            }
        }
    };
}

message!(Forwarded, request);
message!(Answer, response);

impl Answer<'_> {
    /// It is a JSON error with this `code`, in OpenAI's shape.
    #[track_caller]
    pub fn code(&self, code: &str) -> &Self {
        self.error_field("code", code)
    }

    /// It is a JSON error with this `type`, in OpenAI's or Anthropic's shape.
    #[track_caller]
    pub fn kind(&self, kind: &str) -> &Self {
        self.error_field("type", kind)
    }

    /// The error's `message`.
    #[must_use]
    #[track_caller]
    pub fn message(&self) -> String {
        self.json()["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The response code details, as `%RESPONSE_CODE_DETAILS%` shows them to an operator.
    #[track_caller]
    pub fn details(&self, details: &str) -> &Self {
        let found = self.outcome.local.as_ref().map(|local| local.details.as_str());
        if found != Some(details) {
            self.outcome
                .otherwise(&format!("the details were to be {details:?}"));
        }
        self
    }

    /// The gRPC status a filter gave with its answer.
    #[must_use]
    pub fn grpc_status(&self) -> Option<u32> {
        self.outcome.local.as_ref().and_then(|local| local.grpc_status)
    }

    #[track_caller]
    fn error_field(&self, field: &str, wanted: &str) -> &Self {
        if self.json()["error"][field] != wanted {
            self.outcome
                .otherwise(&format!("the error's {field} was to be {wanted:?}"));
        }
        self
    }
}
