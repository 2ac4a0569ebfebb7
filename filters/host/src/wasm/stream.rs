//! What proxy-wasm tells of a stream, and what it does with one.

use super::Handle;
use super::abi;
use super::clock::{set_effective_context, set_tick_period};
use super::memory::receive;
use super::status::check;
use crate::attribute::Attribute;
use crate::status::Result;

/// A stream, as the proxy knows it.
pub(crate) type StreamId = u32;

pub(crate) fn attribute(_handle: Handle, attribute: Attribute) -> Result<Vec<u8>> {
    property(match attribute {
        Attribute::ClientAddress => "source\0address",
        Attribute::Attempts => "upstream\0request_attempt_count",
        Attribute::UpstreamLocalAddress => "upstream\0local_address",
        Attribute::Status => "response\0code",
        Attribute::Details => "response\0code_details",
        Attribute::Flags => "response\0flags",
        Attribute::Began => "request\0time",
        Attribute::Duration => "request\0duration",
        Attribute::BytesIn => "request\0size",
        Attribute::BytesOut => "response\0size",
        Attribute::Cluster => "xds\0cluster_name",
        Attribute::Provider => "xds\0upstream_host_metadata\0filter_metadata\0tollgate\0provider",
    })
}

/// The name of the node. A module has no random numbers.
pub(crate) fn origin() -> Vec<u8> {
    property("node\0id").unwrap_or_default()
}

pub(crate) fn number(handle: Handle, wanted: Attribute) -> Option<u64> {
    let bytes = attribute(handle, wanted).ok()?;
    bytes.first_chunk().map(|eight| u64::from_le_bytes(*eight))
}

pub(crate) fn state(_handle: Handle, name: &str) -> Result<Vec<u8>> {
    property(name)
}

pub(crate) fn set_state(_handle: Handle, name: &str, value: &[u8]) -> Result<()> {
    // SAFETY: the pointers and lengths are of live slices.
    check(unsafe { abi::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// A claim of a verified token: Envoy's `jwt_authn` leaves them in its dynamic metadata.
pub(crate) fn claim(_handle: Handle, token: &str, name: &str) -> Result<Vec<u8>> {
    property(&format!(
        "metadata\0filter_metadata\0envoy.filters.http.jwt_authn\0{token}\0{name}"
    ))
}

/// What this configuration is for.
pub(crate) fn root_id() -> Vec<u8> {
    property("plugin_root_id").unwrap_or_default()
}

/// A property by its path, whose parts NULs separate.
fn property(path: &str) -> Result<Vec<u8>> {
    // SAFETY: the pointers and lengths are of a live slice and live locals of `receive`.
    receive(|data, len| unsafe { abi::proxy_get_property(path.as_ptr(), path.len(), data, len) })
}

pub(crate) fn clear_route_cache(_handle: Handle) -> Result<()> {
    let name = "clear_route_cache";
    // SAFETY: the pointers and lengths are of a live slice and live locals of `receive`.
    receive(|data, len| unsafe {
        abi::proxy_call_foreign_function(name.as_ptr(), name.len(), core::ptr::null(), 0, data, len)
    })
    .map(drop)
}

pub(crate) fn tick_every(_handle: Handle, millis: u32) -> Result<()> {
    set_tick_period(millis)
}

/// Has what follows be about a stream. `false` where it is gone.
pub(crate) fn enter(id: &StreamId) -> bool {
    set_effective_context(*id).is_ok()
}
