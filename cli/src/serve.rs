//! `tollgate serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_control::connections::Most;
use tollgate_control::fleet::FleetStore;
use tollgate_control::restore::restore;
use tollgate_control::serve::{Settings, serve};
use tollgate_control::webhook::Webhook;
use tollgate_control::{Store, WriteQuota};

use crate::client::GlobalOptions;
use crate::out::{StdoutError, errln, outln};
use crate::private::warn_if_shared;

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
    /// Writes that the tokens of an organization may make in a day; one token half of them.
    #[arg(long, value_name = "N", default_value_t = WriteQuota::default().writes,
        value_parser = clap::value_parser!(u32).range(1..))]
    org_writes_per_day: u32,
    /// Megabytes (MiB) of the trail that they may take.
    #[arg(long, value_name = "N", default_value_t = (WriteQuota::default().bytes >> 20) as u32,
        value_parser = clap::value_parser!(u32).range(1..))]
    org_megabytes_per_day: u32,
    /// Connections at once; one more is closed.
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
    /// The same from one address (of IPv6, one /64).
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections_per_address: u32,
    /// Where to tell of budgets that reach a threshold, such as `https://hooks.example/tollgate`; nowhere without it.
    #[arg(
        long,
        env = "TOLLGATE_WEBHOOK",
        hide_env_values = true,
        requires = "webhook_secret"
    )]
    webhook: Option<String>,
    /// File of the secret that signs what is told, made where there is none.
    #[arg(long, env = "TOLLGATE_WEBHOOK_SECRET", requires = "webhook")]
    webhook_secret: Option<PathBuf>,
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

/// Lifts this process's own limit on open files, of which each connection is one, as far as the system lets it, and says where
/// that is not enough.
fn make_room_for(connections: u32) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// The database's, the listening socket, and some to spare.
    const OTHERS: u64 = 100;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let most = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let needed = u64::from(connections) + OTHERS;
    if let Some(most) = most.filter(|most| *most < needed) {
        errln!(
            "tollgate: {connections} connections need {needed} open files, and the system allows {most}: raise it \
             (`ulimit -n`), or lower --max-connections"
        );
    }
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected `IP:PORT`, such as `127.0.0.1:7700`".to_owned())
}

fn webhook_at(url: &str, secret: &Path) -> Result<Webhook> {
    let webhook = Webhook::new(url, secret)?;
    warn_if_shared(secret, "the webhook's secret");
    Ok(webhook)
}

impl Serve {
    pub(crate) async fn run(self, options: &GlobalOptions) -> Result<()> {
        // Not by clap, which would repeat a password that was mistyped.
        let fleet = FleetStore::parse(&self.fleet_store)
            .map_err(|expected| anyhow!("--fleet-store can't be used: {expected}"))?;
        make_room_for(self.max_connections);
        let quota = WriteQuota {
            writes: self.org_writes_per_day,
            bytes: u64::from(self.org_megabytes_per_day) << 20,
        };
        let store = Store::create(&options.database).await?;
        let store = Arc::new(store.with_write_quota(quota));
        options.warn_if_database_is_shared();
        if let Some(Err(error)) = first_token(&store).await? {
            errln!("tollgate: {LOST} ({error})");
        }
        let webhook = self.webhook.zip(self.webhook_secret);
        let settings = Settings {
            listen: self.listen,
            tls: self.tls_cert.zip(self.tls_key),
            signing: options.signing_key()?,
            connections: Most {
                in_all: self.max_connections as usize,
                from_one: self.max_connections_per_address as usize,
            },
            webhook: webhook
                .map(|(url, secret)| webhook_at(&url, &secret))
                .transpose()?,
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
