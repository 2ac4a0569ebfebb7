//! What a proxy tells of a request beside its headers: who sent it, and whether there was an exchange with a model server,
//! how often, and how it went.

use std::net::IpAddr;

use crate::flags::Flags;
use crate::journal::Journal;
use crate::state::{Clock, Store};
use crate::trace::Trace;

/// Who answered, where a model server did: Envoy's `response.code_details`.
const VIA_UPSTREAM: &[u8] = b"via_upstream";

/// All that core asks of a host for a request.
pub trait Host: Store + Clock + Exchange + Trace + Journal {}

impl<T: Store + Clock + Exchange + Trace + Journal> Host for T {}

/// A claim that is there, and no text or out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadableClaim;

/// What the proxy knows of a request. Each is asked for only where it matters, as asking is not free.
pub trait Exchange {
    /// The client's address, as the proxy determined it from the connection and the proxies it trusts; `None` where it can't
    /// be told.
    fn client(&self) -> Option<IpAddr>;

    /// A claim of the token that the proxy verified before, of which it keeps the claims under this name; `None` where there
    /// is no such token or claim.
    fn claim(&self, _token: &str, _name: &str) -> Result<Option<String>, UnreadableClaim> {
        Ok(None)
    }

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
