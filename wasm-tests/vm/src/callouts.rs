//! Callouts as a test has them: it reads what was asked, and answers.

use std::ops::Deref;

use crate::calls::{GrpcRequest, HttpAnswer, HttpRequest};
use crate::status::Status;
use crate::vm::Vm;

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
