//! Callouts: what a module asked of a cluster, and the test's answer to it.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use crate::headers::Headers;
use crate::host::HttpAnswer;
use crate::status::Status;
use crate::vm::Vm;

/// An HTTP request to a cluster.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The cluster's name.
    pub cluster: String,
    /// With `:method`, `:path` and `:authority`.
    pub headers: Headers,
    /// Empty where there is none.
    pub body: Vec<u8>,
    /// Empty where there are none.
    pub trailers: Headers,
    /// Zero is none.
    pub timeout: Duration,
}

/// A unary gRPC request to a cluster.
#[derive(Clone, Debug)]
pub struct GrpcRequest {
    /// The cluster's name, or a serialised `envoy.config.core.v3.GrpcService`.
    pub target: Vec<u8>,
    /// As `envoy.service.ratelimit.v3.RateLimitService`.
    pub service: String,
    /// As `ShouldRateLimit`.
    pub method: String,
    /// Empty where there is none.
    pub metadata: Headers,
    /// The serialised message.
    pub message: Vec<u8>,
    /// Zero is none.
    pub timeout: Duration,
}

/// An HTTP callout that waits for its answer. Its request's fields can be read on it.
pub struct HttpCall {
    vm: Vm,
    token: u32,
    request: HttpRequest,
}

/// A gRPC callout that waits for its answer. Its request's fields can be read on it.
pub struct GrpcCall {
    vm: Vm,
    token: u32,
    request: GrpcRequest,
}

impl Deref for HttpCall {
    type Target = HttpRequest;

    fn deref(&self) -> &HttpRequest {
        &self.request
    }
}

impl Deref for GrpcCall {
    type Target = GrpcRequest;

    fn deref(&self) -> &GrpcRequest {
        &self.request
    }
}

impl HttpCall {
    pub(crate) fn new(vm: Vm, token: u32, request: HttpRequest) -> Self {
        Self { vm, token, request }
    }

    /// Answers with a status, more headers and a body.
    #[track_caller]
    pub fn answer(self, status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        self.answer_with_trailers(status, headers, body, &[]);
    }

    /// The same, with trailers.
    #[track_caller]
    pub fn answer_with_trailers(
        self,
        status: u16,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
        trailers: &[(&str, &str)],
    ) {
        let status = status.to_string();
        let all = std::iter::once((":status", status.as_str())).chain(headers.iter().copied());
        let answer = HttpAnswer {
            headers: all.collect(),
            body: body.as_ref().to_vec(),
            trailers: (!trailers.is_empty()).then(|| trailers.iter().copied().collect()),
        };
        self.vm.http_answered(self.token, Ok(answer));
    }

    /// Nobody listens, or no host is healthy. Envoy's client makes a 503 answer of that.
    #[track_caller]
    pub fn unreachable(self) {
        self.answer(503, &[("content-type", "text/plain")], "upstream connect error");
    }

    /// The timeout passed. Envoy's client makes a 504 answer of that. The clock moves on.
    #[track_caller]
    pub fn time_out(self) {
        self.vm.world().advance(self.timeout);
        self.answer(504, &[("content-type", "text/plain")], "upstream request timeout");
    }

    /// The call broke in the middle: the module is called back with no headers.
    #[track_caller]
    pub fn fail(self) {
        self.vm.http_answered(
            self.token,
            Err((Status::BrokenConnection as u32, "reset".to_owned())),
        );
    }
}

impl GrpcCall {
    pub(crate) fn new(vm: Vm, token: u32, request: GrpcRequest) -> Self {
        Self { vm, token, request }
    }

    /// Answers with a serialised message.
    #[track_caller]
    pub fn answer(self, message: impl AsRef<[u8]>) {
        self.vm.grpc_answered(self.token, Ok(message.as_ref().to_vec()));
    }

    /// Fails with a gRPC status code (14 where nobody listens) and its message.
    #[track_caller]
    pub fn fail(self, code: u32, message: &str) {
        self.vm.grpc_answered(self.token, Err((code, message.to_owned())));
    }
}

/// One VM's unanswered callouts, by token, with the root context each belongs to.
#[derive(Default)]
pub(crate) struct Pending {
    http: BTreeMap<u32, (u32, HttpRequest)>,
    grpc: BTreeMap<u32, (u32, GrpcRequest)>,
    last_http: u32,
    last_grpc: u32,
}

impl Pending {
    pub(crate) fn add_http(&mut self, root: u32, request: HttpRequest) -> u32 {
        self.last_http += 1;
        self.http.insert(self.last_http, (root, request));
        self.last_http
    }

    /// Unary calls have odd tokens in Envoy; streams the even ones.
    pub(crate) fn add_grpc(&mut self, root: u32, request: GrpcRequest) -> u32 {
        self.last_grpc += 1;
        let token = self.last_grpc * 2 - 1;
        self.grpc.insert(token, (root, request));
        token
    }

    pub(crate) fn take_http(&mut self, token: u32) -> Option<(u32, HttpRequest)> {
        self.http.remove(&token)
    }

    pub(crate) fn take_grpc(&mut self, token: u32) -> Option<(u32, GrpcRequest)> {
        self.grpc.remove(&token)
    }

    pub(crate) fn http_of(&self, root: u32) -> Vec<(u32, HttpRequest)> {
        of_root(&self.http, root)
    }

    pub(crate) fn grpc_of(&self, root: u32) -> Vec<(u32, GrpcRequest)> {
        of_root(&self.grpc, root)
    }

    /// Envoy cancels what a root context still waits for when it goes.
    pub(crate) fn cancel(&mut self, root: u32) {
        self.http.retain(|_, (owner, _)| *owner != root);
        self.grpc.retain(|_, (owner, _)| *owner != root);
    }
}

fn of_root<T: Clone>(calls: &BTreeMap<u32, (u32, T)>, root: u32) -> Vec<(u32, T)> {
    let own = calls.iter().filter(|(_, (owner, _))| *owner == root);
    own.map(|(token, (_, request))| (*token, request.clone()))
        .collect()
}
