//! The whole thing on one machine, for people: `make run`, `make demo` and `make demo-fleet`.
//!
//! The repository's own `envoy/` configuration on a real Envoy, two stand-in model servers behind it, a control plane, and
//! keys made for this run alone. They are the same parts that the tests run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a tour that cannot go on ends by panicking, with a message that says why"
)]

mod acts;
mod control;
mod demo;
mod redis;
mod reload;
mod requests;
mod run;

use std::net::TcpListener;

use anyhow::{Context as _, Result, bail};
use tollgate_harness::{Cast, Gateway, Options};
use tollgate_models::ModelServer;

use control::Control;

pub use demo::{demo, demo_fleet};
pub use run::run;

/// Where everything listens, on 127.0.0.1; 0 is a free port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// The gateway's.
    pub gateway: u16,
    /// Envoy's admin.
    pub admin: u16,
    /// The control plane's.
    pub control: u16,
}

/// What runs. Dropped, all of it ends.
#[derive(Debug)]
pub struct Stack {
    /// Envoy.
    pub gateway: Gateway,
    /// The model server behind the cluster `llama`.
    pub llama: ModelServer,
    /// The model server behind the cluster `gpt-oss`.
    pub gpt_oss: ModelServer,
}

impl Stack {
    /// Starts model servers and gateway with the keys of `cast` in key-auth's file, as an operator writes them.
    ///
    /// # Errors
    /// A port is taken, Envoy or the module is missing, or Envoy does not come up: in a sentence for people.
    pub async fn start(ports: Ports, cast: &Cast) -> Result<Self> {
        // The three filters' files are what the tour edits.
        Self::with(ports, cast.write(Options::new().chain())).await
    }

    /// Starts them with the keys of a control plane, in the form that `TOLLGATE_FORM` says.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub(crate) async fn following(ports: Ports, control: &Control) -> Result<Self> {
        Self::with(ports, control.followed_by(Options::new()).await?).await
    }

    async fn with(ports: Ports, options: Options) -> Result<Self> {
        free(ports.gateway, "GATEWAY_PORT")?;
        free(ports.admin, "ADMIN_PORT")?;
        let llama = ModelServer::builder()
            .name("llama")
            .models(["llama-8b", "llama-70b"])
            .start()
            .await?;
        let gpt_oss = ModelServer::builder()
            .name("gpt-oss")
            .models(["gpt-oss-120b"])
            .start()
            .await?;
        let options = options.own_limits().ports(ports.gateway, ports.admin);
        let options = options.llama(llama.addr()).gpt_oss(gpt_oss.addr());
        let gateway = Gateway::try_start(options).await?;
        if let Some(why) = reload::refused(&gateway).await {
            bail!("a filter refuses its file in envoy/filters, is dist/ older than it? {why}");
        }
        Ok(Self {
            gateway,
            llama,
            gpt_oss,
        })
    }
}

/// Envoy itself would share a port with another Envoy of the same user, and each would get some of the requests.
fn free(port: u16, variable: &str) -> Result<()> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("port {port} is in use: stop what listens there, or choose another with {variable}=PORT")
        }
        Err(error) => {
            Err(error).with_context(|| format!("127.0.0.1:{port} can't be listened on ({variable})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_said_in_one_sentence() {
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = busy.local_addr().unwrap().port();
        let error = free(port, "GATEWAY_PORT").unwrap_err();
        let sentence = "is in use: stop what listens there, or choose another with GATEWAY_PORT=PORT";
        assert_eq!(format!("{error:#}"), format!("port {port} {sentence}"));
        drop(busy);
        free(port, "GATEWAY_PORT").unwrap();
    }
}
