//! `tollgate serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_control::Store;
use tollgate_control::fleet::FleetStore;
use tollgate_control::restore::restore;
use tollgate_control::serve::{Settings, serve};

use crate::client::GlobalOptions;
use crate::out::{StdoutError, errln, outln};

/// Run the control plane: the API, and the directory for gateways.
#[derive(Args)]
pub(crate) struct Serve {
    /// Where to listen. Other machines reach it only with TLS.
    #[arg(long, env = "TOLLGATE_LISTEN", default_value = "127.0.0.1:7700", value_parser = listen)]
    listen: SocketAddr,
    /// Certificate chain, a PEM file.
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, a PEM file.
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Where the books are of limits that gateways keep together: `database`, or the address of a Redis or Valkey, such as
    /// `redis://USER:PASSWORD@HOST:6379`. All servers have the same.
    #[arg(
        long,
        env = "TOLLGATE_FLEET_STORE",
        hide_env_values = true,
        value_name = "STORE",
        default_value = "database"
    )]
    fleet_store: String,
}

/// Make the database, and print the first token, which may do everything; `serve` does the same at its first start.
pub(crate) async fn init(options: &GlobalOptions) -> Result<()> {
    let store = Store::create(&options.database).await?;
    match first_token(&store).await? {
        Some(printed) => printed.context(LOST),
        None => {
            errln!("There is a database already, and its first token was shown then.");
            Ok(())
        }
    }
}

/// Put a backup in the place of the database, while the server is stopped.
#[derive(Args)]
pub(crate) struct Restore {
    /// The backup: a file that SQLite's `.backup` made.
    backup: PathBuf,
}

impl Restore {
    pub(crate) async fn run(self, options: &GlobalOptions) -> Result<()> {
        match restore(&options.database, &self.backup).await? {
            Some(before) => errln!(
                "Restored. The database of before is `{}`; remove it when you are sure.",
                before.display()
            ),
            None => errln!("Restored."),
        }
        Ok(())
    }
}

/// What to do without it.
const LOST: &str = "the first token is lost; make another on this machine, from the same --database: tollgate token \
                    create --role owner --name NAME";

/// Makes the first token, if there is none yet, and says whether it could be printed.
async fn first_token(store: &Store) -> Result<Option<Result<(), StdoutError>>> {
    let token = store.first_token().await?;
    Ok(token.map(|token| {
        errln!("# The first token: it may do everything. It is shown this once and kept nowhere.");
        outln!("{token}")
    }))
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected `IP:PORT`, such as `127.0.0.1:7700`".to_owned())
}

impl Serve {
    pub(crate) async fn run(self, options: &GlobalOptions) -> Result<()> {
        // Not by clap, which would repeat a password that was mistyped.
        let fleet = FleetStore::parse(&self.fleet_store)
            .map_err(|expected| anyhow!("--fleet-store can't be used: {expected}"))?;
        let store = Arc::new(Store::create(&options.database).await?);
        options.warn_if_database_is_shared();
        if let Some(Err(error)) = first_token(&store).await? {
            errln!("tollgate: {LOST} ({error})");
        }
        let settings = Settings {
            listen: self.listen,
            tls: self.tls_cert.zip(self.tls_key),
            signing: options.signing_key()?,
            fleet,
        };
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        };
        let ready = |at| errln!("tollgate: serving at {at}");
        Ok(serve(store, settings, ready, stop).await?)
    }
}
