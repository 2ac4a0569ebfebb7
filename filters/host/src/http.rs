//! HTTP calls of our own, through one of Envoy's clusters.

/// Names a call until its answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpCall(pub(crate) u64);
