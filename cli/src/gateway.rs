//! `tollgate gateway`.

use anyhow::{Result, ensure};
use clap::Subcommand;

use crate::client::Client;
use crate::show;

/// What to do with gateways.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Those that have asked the server for the directory since it started: when, and which version they had.
    List,
}

impl Command {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        let Self::List = self;
        ensure!(
            client.is_remote(),
            "only a running server knows who asked it: say which, by --server"
        );
        let gateways = client.list_all("/v1/gateways").await?;
        let members = ["token", "address", "asked_at", "version", "is_current"];
        show::list(client, &gateways, &members)
    }
}
