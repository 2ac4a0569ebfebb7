//! A control plane for a run, on SQLite, and the `tollgate` that speaks to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tollgate_harness::config::{key_auth_configuration, repository};
use tollgate_harness::control::{ControlPlane, program};
use tollgate_harness::tools::python;
use tollgate_harness::{Gateway, Options, net};

/// One, and the folder of its database. Dropped, both go.
#[derive(Debug)]
pub(crate) struct Control {
    plane: ControlPlane,
    folder: TempDir,
    program: PathBuf,
}

/// A key that it made.
#[derive(Debug)]
pub(crate) struct Key {
    /// By which it is known.
    pub(crate) id: String,
    /// What its holder sends.
    pub(crate) secret: String,
}

impl Control {
    /// Starts one with an empty database, at this port of 127.0.0.1.
    ///
    /// # Errors
    /// It does not start, or the program was not built; in a sentence for people.
    pub(crate) fn start(port: u16) -> Result<Self> {
        Self::with_books(port, None)
    }

    /// The same, with the books of the fleet's limits in this store.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub(crate) fn with_books(port: u16, store: Option<&str>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tollgate-control-").tempdir()?;
        let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self {
            plane: ControlPlane::with_books(&database, addr, store)?,
            program: program()?,
            folder,
        })
    }

    /// Makes the organizations of `envoy/filters/key-auth.yaml` that customers call from.
    ///
    /// # Errors
    /// It refuses.
    pub(crate) async fn tenants(&self) -> Result<()> {
        let configuration = key_auth_configuration();
        let orgs = members(&configuration["directory"]["inline"]["orgs"]);
        for (id, org) in orgs.filter(|(_, org)| org["status"] != "suspended") {
            let mut org = org.clone();
            let projects = org.as_object_mut().and_then(|org| org.remove("projects"));
            self.create("/v1/orgs", id, org).await?;
            for (project, spec) in members(&projects.unwrap_or_default()) {
                let path = format!("/v1/orgs/{id}/projects");
                self.create(&path, project, spec.clone()).await?;
            }
        }
        Ok(())
    }

    async fn create(&self, path: &str, id: &str, mut spec: Value) -> Result<()> {
        spec["id"] = json!(id);
        self.plane.post(path, &spec).await.map(drop)
    }

    /// Makes a key of the project `search`.
    ///
    /// # Errors
    /// It refuses.
    pub(crate) async fn key(&self, name: &str) -> Result<Key> {
        let body = json!({"org": "acme", "project": "search", "name": name});
        let made = self.plane.post("/v1/keys", &body).await?;
        let text = |member: &str| made[member].as_str().map(str::to_owned);
        Ok(Key {
            id: text("id").context("a key has an id")?,
            secret: text("secret").context("a key that was made is shown")?,
        })
    }

    /// A gateway whose directory comes from here.
    ///
    /// # Errors
    /// There is no token for it.
    pub(crate) async fn followed_by(&self, options: Options) -> Result<Options> {
        let token = self.plane.gateway_token().await?;
        Ok(options.watch(self.plane.addr(), &token))
    }

    /// A gateway whose directory comes from here, and which keeps its limits with others that ask here.
    ///
    /// # Errors
    /// There is no token for it.
    pub(crate) async fn member(&self, options: Options) -> Result<Options> {
        let token = self.plane.gateway_token().await?;
        let options = options.fleet(self.plane.addr(), &token);
        self.followed_by(options).await
    }

    /// Waits until each worker of a gateway knows this key; how many requests that took.
    ///
    /// # Errors
    /// The gateway has no directory after half a minute.
    pub(crate) async fn reaches(&self, gateway: &Gateway, key: &Key) -> Result<usize> {
        let mut asked = 0;
        let known = net::within(Duration::from_secs(30), async || {
            // Each over a connection of its own, and so by any worker.
            let asks = (0..16).map(|_| gateway.client().get("/v1/models").key(&key.secret).try_send());
            let replies = join_all(asks).await;
            asked += replies.len();
            let all = replies
                .iter()
                .all(|reply| reply.as_ref().is_ok_and(|reply| reply.status == 200));
            all.then_some(())
        });
        known
            .await
            .context("the gateway did not get its directory from the control plane")?;
        Ok(asked)
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.plane.addr())
    }

    /// Its owner's token.
    pub(crate) fn token(&self) -> &str {
        &self.plane.token
    }

    /// The program, as it is typed at the root of the repository.
    pub(crate) fn program(&self) -> String {
        let program = self.program.strip_prefix(repository()).unwrap_or(&self.program);
        program.display().to_string()
    }

    /// Runs `tollgate` as its owner; what it printed.
    ///
    /// # Errors
    /// It fails, with what it said.
    pub(crate) async fn tollgate(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.command();
        command
            .args(arguments)
            .env("TOLLGATE_SERVER", self.url())
            .env("TOLLGATE_TOKEN", self.token());
        output(command, arguments).await
    }

    /// Runs `tollgate` on a copy of the database in which somebody has run a statement of SQL.
    ///
    /// # Errors
    /// It fails, with what it said; or there is no Python, or nothing to change.
    pub(crate) async fn on_an_edited_copy(&self, sql: &str, arguments: &[&str]) -> Result<String> {
        const EDIT: &str = "import sqlite3, sys\n\
            copy = sqlite3.connect(sys.argv[2])\n\
            sqlite3.connect(sys.argv[1]).backup(copy)\n\
            sys.exit(copy.execute(sys.argv[3]).rowcount < 1 or copy.commit())";
        let folder = tempfile::tempdir()?;
        let copy = folder.path().join("tollgate.db");
        let mut edit = tokio::process::Command::new(python()?);
        edit.args(["-c", EDIT])
            .arg(self.folder.path().join("tollgate.db"))
            .arg(&copy)
            .arg(sql);
        let edited = edit.output().await?;
        if !edited.status.success() {
            bail!(
                "`{sql}` changes nothing: {}",
                String::from_utf8_lossy(&edited.stderr)
            );
        }
        let mut command = self.command();
        command
            .arg("--database")
            .arg(format!("sqlite:{}", copy.display()))
            .args(arguments);
        output(command, arguments).await
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path());
        for variable in [
            "TOLLGATE_SERVER",
            "TOLLGATE_TOKEN",
            "TOLLGATE_DATABASE",
            "TOLLGATE_AUDIT_KEY",
        ] {
            command.env_remove(variable);
        }
        command
    }
}

async fn output(command: Command, arguments: &[&str]) -> Result<String> {
    let output = tokio::process::Command::from(command).output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let printed = text(&output.stdout);
    if output.status.success() {
        return Ok(printed);
    }
    let said = [printed, text(&output.stderr)].join("\n");
    bail!("`tollgate {}`: {}", arguments.join(" "), said.trim())
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}
