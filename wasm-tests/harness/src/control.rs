//! `tollgate serve` as a process, and what an administrator asks of it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::plain_http;
use crate::process::Process;

/// A control plane. Dropped, it ends, and also where this process is killed.
#[derive(Debug)]
pub struct ControlPlane {
    process: Process,
    addr: SocketAddr,
    /// The first token, which may do everything.
    pub token: String,
    http: reqwest::Client,
}

/// Where Cargo put the program: beside what is running, or above it if that is a test.
///
/// # Errors
/// It was not built.
pub fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut folders = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("tollgate"));
    let found = folders.find(|program| program.is_file());
    found.context("the program `tollgate` is missing: type `cargo build -p tollgate-cli`")
}

impl ControlPlane {
    /// Starts one on a database, `sqlite:FILE` or `postgres://…`; on one that has been used it can't be asked as its owner.
    ///
    /// # Errors
    /// It does not start: what it said.
    pub fn start(database: &str, addr: SocketAddr) -> Result<Self> {
        Self::with_books(database, addr, None)
    }

    /// As [`Self::start`], with the books of the fleet's limits in this store: `redis://…`, or the database without one.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub fn with_books(database: &str, addr: SocketAddr, store: Option<&str>) -> Result<Self> {
        let mut serve = Command::new(program()?);
        serve.env("TOLLGATE_FLEET_STORE", store.unwrap_or("database"));
        serve
            .args(["serve", "--listen", &addr.to_string(), "--database", database])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::spawn(serve)?;
        let stderr = process.stderr().context("no standard error")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut told = Vec::new();
        let addr = loop {
            let Some(Ok(line)) = lines.next() else {
                bail!("the control plane does not start: {told:?}");
            };
            if let Some(at) = line.strip_prefix("tollgate: serving at ") {
                break at.parse()?;
            }
            told.push(line);
        };
        std::thread::spawn(move || lines.for_each(drop));
        let mut token = String::new();
        // A database that has been used has its tokens.
        let is_new = told.iter().any(|line| line.starts_with("# The first token"));
        let stdout = process.stdout().context("no standard output")?;
        if is_new {
            BufReader::new(stdout).read_line(&mut token)?;
        }
        Ok(Self {
            process,
            addr,
            token: token.trim().to_owned(),
            http: plain_http().build()?,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The process, to be killed.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Asks it, as its owner.
    ///
    /// # Errors
    /// It refuses, in its words.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let request = self
            .http
            .request(method, format!("http://{}{path}", self.addr))
            .bearer_auth(&self.token);
        let request = if body.is_null() {
            request
        } else {
            request.json(body)
        };
        let response = request.send().await?;
        let status = response.status();
        let body: Value = response.json().await?;
        ensure!(status.is_success(), "{path}: {status}: {body}");
        Ok(body)
    }

    /// [`Self::ask`] with POST.
    ///
    /// # Errors
    /// It refuses.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Method::POST, path, body).await
    }

    /// Makes a token for Envoys.
    ///
    /// # Errors
    /// It refuses.
    pub async fn gateway_token(&self) -> Result<String> {
        let made = self.post("/v1/tokens", &json!({"role": "gateway"})).await?;
        Ok(text(&made, "secret"))
    }

    /// Makes a key; its id and the key itself.
    ///
    /// # Errors
    /// It refuses.
    pub async fn key(&self, org: &str) -> Result<(String, String)> {
        let made = self.post("/v1/keys", &json!({"org": org})).await?;
        Ok((text(&made, "id"), text(&made, "secret")))
    }
}

fn text(object: &Value, member: &str) -> String {
    object[member].as_str().unwrap_or_default().to_owned()
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.process.kill();
    }
}
