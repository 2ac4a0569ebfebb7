//! Callouts as the host knows them: what a module asked of a cluster, and what came back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::headers::Headers;

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

/// What came back from an HTTP callout.
pub(crate) struct HttpAnswer {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<Headers>,
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
