//! Envoy's admin port.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::client::plain_http;

/// Asks one Envoy.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    addr: SocketAddr,
}

impl Admin {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What `GET path` says, whatever its status.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String)> {
        // A connection of its own each time: tests on one gateway may run on different runtimes, and a pooled
        // connection ends with the runtime that made it.
        let client = plain_http().timeout(Duration::from_secs(10)).build()?;
        let response = client.get(format!("http://{}{path}", self.addr)).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// As [`Self::get`], for an answer that must be 200.
    pub(crate) async fn text(&self, path: &str) -> Result<String> {
        let (status, text) = self.get(path).await?;
        ensure!(status == 200, "admin {path}: {status} {text}");
        Ok(text)
    }

    /// Whether all is initialised.
    pub(crate) async fn ready(&self) -> bool {
        self.get("/ready").await.is_ok_and(|(status, _)| status == 200)
    }

    /// The address that a listener really has.
    pub(crate) async fn listener(&self, name: &str) -> Option<SocketAddr> {
        let listeners: Value = serde_json::from_str(&self.text("/listeners?format=json").await.ok()?).ok()?;
        let listener = listeners["listener_statuses"]
            .as_array()?
            .iter()
            .find(|l| l["name"] == name)?;
        let socket = &listener["local_address"]["socket_address"];
        let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
        // One that is not bound yet says 0.
        (port != 0).then_some(SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port))
    }
}
