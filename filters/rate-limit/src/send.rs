//! How this Envoy's member and its slices of budgets reach the control plane.

use tollgate_host::{HttpCall, RootContext};

/// Sends a message to a cluster, with these headers.
pub(crate) fn send(
    host: &mut RootContext,
    (cluster, headers): (&str, Vec<(&'static str, String)>),
    message: &[u8],
    timeout_millis: u32,
) -> Result<HttpCall, String> {
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    host.send(cluster, &headers, message, timeout_millis)
        .map_err(|status| format!("cluster `{cluster}` cannot be called ({status:?})"))
}
