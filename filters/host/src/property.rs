//! Properties: what Envoy knows of a stream, and what filters tell each other.

use std::net::{IpAddr, SocketAddr};

use tollgate_core::exchange::Exchange;
use tollgate_core::flags::Flags;

use crate::abi;
use crate::memory::receive;
use crate::shared::Host;
use crate::status::{Result, check};

/// Reads a property by its path. It costs about as much as a header; a missing one is `Err(NotFound)`.
pub fn property(path: &[&str]) -> Result<Vec<u8>> {
    let path = path.join("\0");
    // SAFETY: the pointers and lengths are of a live slice and live locals of `receive`.
    receive(|data, len| unsafe { abi::proxy_get_property(path.as_ptr(), path.len(), data, len) })
}

/// A property that is a number; zero where there is none.
pub fn number(path: &[&str]) -> u64 {
    let bytes = property(path).ok();
    bytes
        .and_then(|bytes| bytes.first_chunk().map(|eight| u64::from_le_bytes(*eight)))
        .unwrap_or(0)
}

/// The client's address, as Envoy determined it from the connection and the proxies it trusts.
pub fn client_address() -> Option<IpAddr> {
    let address = property(&["source", "address"]).ok()?;
    let address: SocketAddr = core::str::from_utf8(&address).ok()?.parse().ok()?;
    Some(address.ip())
}

impl Exchange for Host {
    fn attempts(&self) -> u64 {
        number(&["upstream", "request_attempt_count"])
    }

    fn is_connected(&self) -> bool {
        property(&["upstream", "local_address"]).is_ok_and(|address| !address.is_empty())
    }

    fn details(&self) -> Option<Vec<u8>> {
        property(&["response", "code_details"]).ok()
    }

    fn flags(&self) -> Flags {
        Flags(number(&["response", "flags"]))
    }
}

/// Sets filter state that later filters read by the same name, and access logs as `FILTER_STATE(wasm.NAME)`.
pub fn set_property(name: &str, value: &[u8]) -> Result<()> {
    // SAFETY: the pointers and lengths are of live slices.
    check(unsafe { abi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Has Envoy choose the route again, by the headers as they are now.
pub fn clear_route_cache() -> Result<()> {
    let name = "clear_route_cache";
    // SAFETY: the pointers and lengths are of a live slice and live locals of `receive`.
    receive(|data, len| unsafe {
        abi::proxy_call_foreign_function(name.as_ptr(), name.len(), core::ptr::null(), 0, data, len)
    })
    .map(drop)
}
