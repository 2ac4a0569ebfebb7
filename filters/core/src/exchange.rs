//! What a proxy tells of an exchange with a model server beside its headers: whether there was one, how often, and how it
//! went.

use crate::flags::Flags;

/// Who answered, where a model server did: Envoy's `response.code_details`.
const VIA_UPSTREAM: &[u8] = b"via_upstream";

/// What the proxy knows of an exchange. Each is asked for only where it matters, as asking is not free.
pub trait Exchange {
    /// How many attempts were begun (Envoy's `upstream.request_attempt_count`).
    fn attempts(&self) -> u64;

    /// Whether the last attempt had a connection: only then a model server received it.
    fn is_connected(&self) -> bool;

    /// Who answered (Envoy's `response.code_details`); `None` where that can't be told.
    fn details(&self) -> Option<Vec<u8>>;

    /// What the proxy noted of it.
    fn flags(&self) -> Flags;

    /// Whether a model server gave the answer. Those of the gateway and of the proxy come by the same way.
    fn is_answered(&self) -> bool {
        self.details().is_some_and(|details| details == VIA_UPSTREAM)
    }
}
