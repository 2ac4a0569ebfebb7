//! A running gateway: one real Envoy on the repository's own files.

use std::collections::HashMap;
use std::fs;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::access_log::AccessLog;
use crate::admin::Admin;
use crate::client::{Client, Reply, Request};
use crate::config::repository;
use crate::net;
use crate::options::Options;
use crate::process::Process;
use crate::staged::Staged;
use crate::stats::{Prometheus, Stats};
use crate::usage_log::{UsageLog, UsageRecord};

/// How long Envoy may take to serve. Compiling a module takes it about a second, on a busy machine several.
const START: Duration = Duration::from_secs(60);

/// What Envoy counts for each filter whose configuration is a file.
pub const COUNTERS: &str = "extension_config_discovery.http_filter.tollgate";

/// How much of Envoy's log a failed test shows.
const SHOWN: usize = 16 * 1024;

/// What became of a change of the filter's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// Taken: every request from now on meets it, once each worker has got to it (milliseconds).
    Accepted,
    /// Refused, and the old one serves on. The lines that Envoy logged since, warnings and worse.
    Rejected(String),
}

/// A running gateway. Dropped, it ends Envoy and removes its files; where a test fails it first shows Envoy's log.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    admin: Admin,
    addr: SocketAddr,
    staged: Staged,
    options: Options,
    /// The clusters that have a model server.
    expected: Vec<String>,
    /// Addresses of clusters without a model server.
    _refusing: Vec<net::Refusing>,
}

impl Gateway {
    /// Starts a gateway; it serves when this returns.
    ///
    /// # Panics
    /// It does not come up; the message holds Envoy's log.
    pub async fn start(options: Options) -> Self {
        Self::try_start(options).await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// As [`Self::start`].
    ///
    /// # Errors
    /// There is no Envoy, a file can't be written, a port is taken, or Envoy refuses the configuration: with
    /// Envoy's log.
    pub async fn try_start(mut options: Options) -> Result<Self> {
        let expected = served(&options);
        let refusing = fill_in(&mut options)?;
        let staged = Staged::new(&options)?;
        let (process, admin, addr) = launch(&options, &staged).await?;
        let gateway = Self {
            process,
            admin,
            addr,
            staged,
            expected,
            options,
            _refusing: refusing,
        };
        gateway.await_model_servers(&gateway.expected).await;
        Ok(gateway)
    }

    /// Kills Envoy, and starts it again on the same files and the same port.
    ///
    /// # Panics
    /// It does not come up; the message holds Envoy's log.
    pub async fn kill(&mut self) {
        self.process.kill();
        if self.options.port == 0 {
            self.options.port = self.addr.port();
            self.edit(
                "listener.yaml",
                "port_value: 0",
                &format!("port_value: {}", self.options.port),
            );
        }
        // What it says is of the one before.
        let _ = fs::remove_file(self.staged.path().join("admin"));
        let launched = launch(&self.options, &self.staged).await;
        (self.process, self.admin, self.addr) = launched.unwrap_or_else(|e| panic!("{e:#}"));
        self.await_model_servers(&self.expected).await;
    }

    /// Kills Envoy for good, as a machine that stops does.
    pub fn crash(&mut self) {
        self.process.kill();
    }

    /// Where customers call.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The base URL, as an SDK takes it once `/v1` is added.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where operators ask: Envoy's admin port.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.addr()
    }

    /// A client that keeps its connections, for many requests within one test.
    pub fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Begins a `POST` on a connection of its own.
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }

    /// Begins a `GET` on a connection of its own.
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// Begins a request of any method on a connection of its own.
    pub fn request(&self, method: &str, path: &str) -> Request {
        self.client().request(method, path)
    }

    /// Envoy's counters and gauges, now.
    ///
    /// # Panics
    /// Envoy's admin does not answer.
    pub async fn stats(&self) -> Stats {
        let stats = Stats::parse(&self.admin("/stats").await);
        match stats.flushes() {
            Some(before) => self.flushed(before).await,
            None => stats,
        }
    }

    /// The native form hands what it counted to Envoy some times a second: waits until all is there that is counted now.
    async fn flushed(&self, before: u64) -> Stats {
        net::eventually("what was counted is with Envoy", async || {
            let stats = Stats::parse(&self.admin("/stats").await);
            // Envoy's main thread hands over and answers here: the next one begins after this was asked.
            stats.flushes().is_some_and(|now| now > before).then_some(stats)
        })
        .await
    }

    /// What Prometheus would scrape, now.
    ///
    /// # Panics
    /// Envoy's admin does not answer.
    pub async fn prometheus(&self) -> Prometheus {
        self.stats().await;
        Prometheus::parse(&self.admin("/stats/prometheus").await)
    }

    /// The text of any page of Envoy's admin.
    ///
    /// # Panics
    /// Envoy's admin does not answer 200.
    pub async fn admin(&self, path: &str) -> String {
        self.admin.text(path).await.unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// The access log.
    pub fn access_log(&self) -> AccessLog {
        AccessLog::new(self.staged.access_log())
    }

    /// The usage records.
    pub fn usage_log(&self) -> UsageLog {
        UsageLog::new(self.staged.usage_log())
    }

    /// The usage record of the request that got this answer, once it is written.
    ///
    /// # Panics
    /// The answer has no request id, or no record comes.
    pub async fn record_of(&self, reply: &Reply) -> UsageRecord {
        let id = reply.request_id().expect("each answer says its request's id");
        self.usage_log().of(id).await
    }

    /// How many requests there were, once none is under way.
    ///
    /// # Panics
    /// Some do not end.
    pub async fn requests(&self) -> u64 {
        net::eventually("all requests end", async || {
            let stats = self.stats().await;
            let active = stats.counter("http.gateway.downstream_rq_active");
            (active == 0).then_some(stats.counter("http.gateway.downstream_rq_total"))
        })
        .await
    }

    /// The usage records by request, once none is under way.
    ///
    /// # Panics
    /// There is not exactly one for each request that Envoy counted.
    pub async fn usage_records(&self) -> HashMap<String, UsageRecord> {
        let requests = self.requests().await;
        let log = self.usage_log();
        let list = log.wait(|records| records.len() as u64 >= requests).await;
        assert_eq!(
            list.len() as u64,
            requests,
            "one record for each request that Envoy counted"
        );
        let mut records = HashMap::new();
        for record in list {
            let again = records.insert(record.id.clone(), record);
            assert_eq!(again, None, "a second record of one request");
        }
        records
    }

    /// What Envoy and the filters logged so far.
    pub fn log(&self) -> String {
        log(&self.staged)
    }

    /// Replaces the `configuration` in key-auth's file, as an operator does, and waits for what becomes of it.
    ///
    /// # Panics
    /// Envoy neither takes nor refuses it within ten seconds.
    pub async fn set_key_auth(&self, configuration: &Value) -> Reload {
        self.reload("key-auth", || {
            self.staged.set_configuration("key-auth", configuration)
        })
        .await
    }

    /// As [`Self::set_key_auth`], for tenant-router and its file.
    ///
    /// # Panics
    /// Envoy neither takes nor refuses it within ten seconds.
    pub async fn set_router(&self, configuration: &Value) -> Reload {
        self.reload("tenant-router", || {
            self.staged.set_configuration("tenant-router", configuration)
        })
        .await
    }

    /// As [`Self::set_key_auth`], for rate-limit and its file.
    ///
    /// # Panics
    /// Envoy neither takes nor refuses it within ten seconds.
    pub async fn set_limits(&self, configuration: &Value) -> Reload {
        self.reload("rate-limit", || {
            self.staged.set_configuration("rate-limit", configuration)
        })
        .await
    }

    /// As [`Self::set_key_auth`], with the text of the whole file.
    ///
    /// # Panics
    /// Envoy neither takes nor refuses it within ten seconds.
    pub async fn set_key_auth_file(&self, text: &str) -> Reload {
        self.reload("key-auth", || self.staged.put("filters/key-auth.yaml", text))
            .await
    }

    /// Replaces `from` by `to` in `envoy/{file}`, by rename; Envoy sees it within a second. Nothing is awaited.
    ///
    /// # Panics
    /// The file does not say `from`.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        self.staged
            .replace(file, from, to)
            .unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// Where this gateway's copy of `envoy/` lies.
    pub fn directory(&self) -> &Path {
        self.staged.path()
    }

    /// The files of the filters before the router, and what each is about.
    pub fn filter_files(&self) -> Vec<(&'static str, &'static str)> {
        self.staged.form().files()
    }

    /// Envoy's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Envoy's resident memory, in kilobytes.
    ///
    /// # Panics
    /// Envoy is gone.
    pub fn rss_kb(&self) -> u64 {
        self.process.rss_kb().expect("Envoy runs")
    }

    /// The most resident memory that Envoy ever had, in kilobytes.
    ///
    /// # Panics
    /// Envoy is gone.
    pub fn peak_rss_kb(&self) -> u64 {
        self.process.peak_rss_kb().expect("Envoy runs")
    }

    /// CPU time that Envoy's threads used so far.
    ///
    /// # Panics
    /// Envoy is gone.
    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time().expect("Envoy runs")
    }

    /// Whether Envoy still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// A model server may be too busy for Envoy's first health check; the next one is five seconds later. One that
    /// is not well on purpose is not waited for longer than that.
    async fn await_model_servers(&self, clusters: &[String]) {
        let healthy = async || {
            let stats = self.stats().await;
            let all = |cluster: &String| stats.counter(&format!("cluster.{cluster}.membership_healthy")) > 0;
            clusters.iter().all(all).then_some(())
        };
        net::within(Duration::from_secs(8), healthy).await;
    }

    async fn reload(&self, filter: &str, change: impl FnOnce() -> Result<()>) -> Reload {
        let outcome = async || {
            let stats = self.stats().await;
            let filter = self.staged.form().filter(filter);
            let count = |what: &str| stats.counter(&format!("{COUNTERS}.{filter}.update_{what}"));
            // A file that is no YAML is a failure to Envoy, one that the filter refuses is rejected.
            (count("success"), count("rejected") + count("failure"))
        };
        let (before, logged) = (outcome().await, self.log().len());
        change().unwrap_or_else(|e| panic!("{filter}: {e:#}"));
        let what = format!("Envoy takes or refuses {filter}.yaml");
        let (accepted, rejected) = net::eventually(&what, async || {
            let now = outcome().await;
            (now != before).then_some((now.0 > before.0, now.1 > before.1))
        })
        .await;
        if accepted && !rejected {
            return Reload::Accepted;
        }
        let log = self.log();
        let loud = |line: &&str| {
            ["[warning]", "[error]", "[critical]"]
                .iter()
                .any(|level| line.contains(level))
        };
        Reload::Rejected(log[logged..].lines().filter(loud).collect::<Vec<_>>().join("\n"))
    }
}

impl Options {
    /// Starts the gateway; it serves when this returns.
    ///
    /// # Panics
    /// It does not come up; the message holds Envoy's log.
    pub async fn start(self) -> Gateway {
        Gateway::start(self).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of Envoy's log ---\n{}", tail(&self.log()));
            eprintln!(
                "--- the end of its access log ---\n{}--- end ---",
                tail(&self.access_log().text())
            );
        }
    }
}

/// Starts Envoy; it serves when this returns.
async fn launch(options: &Options, staged: &Staged) -> Result<(Process, Admin, SocketAddr)> {
    let mut process = Process::spawn(command(options, staged)?).context("Envoy can't be started")?;
    let up = net::within(START, async || {
        if let Some(status) = process.ended() {
            return Some(Err(status));
        }
        let admin = Admin::new(
            fs::read_to_string(staged.path().join("admin"))
                .ok()?
                .parse()
                .ok()?,
        );
        let addr = if admin.ready().await {
            admin.listener("gateway").await
        } else {
            None
        };
        addr.map(|addr| Ok((admin, addr)))
    });
    let why = match up.await {
        Some(Ok((admin, addr))) => return Ok((process, admin, addr)),
        Some(Err(status)) => format!("Envoy ended with {status}"),
        None => format!("Envoy does not serve after {START:?}"),
    };
    bail!("{why}; it says:\n{}", tail(&log(staged)))
}

/// The clusters that have a model server.
fn served(options: &Options) -> Vec<String> {
    let clusters = [("llama", options.llama), ("gpt-oss", options.gpt_oss)];
    let with_server = |(name, addr): (&'static str, Option<SocketAddr>)| addr.map(|_| name.to_owned());
    let checked = options.clusters.iter().filter(|cluster| cluster.checked);
    let more = checked.map(|cluster| cluster.name.clone());
    clusters.into_iter().filter_map(with_server).chain(more).collect()
}

/// Gives each cluster without a server an address that refuses.
fn fill_in(options: &mut Options) -> Result<Vec<net::Refusing>> {
    let mut refusing = Vec::new();
    for cluster in [&mut options.llama, &mut options.gpt_oss] {
        if cluster.is_none() {
            let nobody = net::Refusing::new()?;
            *cluster = Some(nobody.addr());
            refusing.push(nobody);
        }
    }
    Ok(refusing)
}

fn command(options: &Options, staged: &Staged) -> Result<Command> {
    let mut command = program(staged)?;
    let dir = staged.path();
    command
        .current_dir(dir)
        .args(["-c", "envoy/envoy.yaml", "--disable-hot-restart"])
        .args(["--concurrency", &options.workers.to_string()])
        // Both are set to be seen soon: a test waits for a record, and for the ports that Envoy found free.
        .args(["--file-flush-interval-msec", "20"])
        .arg("--admin-address-path")
        .arg(dir.join("admin"));
    match options.log_level.split_once(',') {
        Some((all, components)) => command.args(["-l", all, "--component-log-level", components]),
        None => command.args(["-l", &options.log_level]),
    };
    if let Some(more) = more_of_the_bootstrap(options, staged)? {
        command.arg("--config-yaml").arg(more);
    }
    command.args(&options.arguments);
    let log = File::create(dir.join("envoy.log"))?;
    command
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command)
}

/// What is added to `envoy.yaml`. Of the two files that may be, the second ends with its list of extensions.
fn more_of_the_bootstrap(options: &Options, staged: &Staged) -> Result<Option<String>> {
    let read = |file: &str| fs::read_to_string(staged.file(file));
    let list = "bootstrap_extensions:\n";
    Ok(match (options.documents, options.fleet) {
        (None, None) => None,
        (Some(_), None) => Some(read("directory-http.yaml")?),
        (None, Some(_)) => Some(read("fleet.yaml")?),
        (Some(_), Some(_)) => {
            let fleet = read("fleet.yaml")?;
            let (_, member) = fleet.split_once(list).context("fleet.yaml has no list")?;
            Some(read("directory-http.yaml")? + member)
        }
    })
}

/// Envoy itself: `ENVOY_BIN`, or what `make` installs; with `ENVOY_RUNTIME=docker` the official image.
fn program(staged: &Staged) -> Result<Command> {
    if std::env::var("ENVOY_RUNTIME").is_ok_and(|runtime| runtime == "docker") {
        return Ok(docker(staged));
    }
    let path = match std::env::var_os("ENVOY_BIN") {
        Some(path) => PathBuf::from(path),
        None => repository().join("target/tools/envoy"),
    };
    if !path.is_file() {
        bail!(
            "{} is missing: `make test` and `make run` install it, or set ENVOY_BIN",
            path.display()
        );
    }
    Ok(Command::new(path))
}

/// The official image on the host's network, with this gateway's files and the modules where they are here.
fn docker(staged: &Staged) -> Command {
    let mount = |path: &Path, mode: &str| format!("{0}:{0}:{mode}", path.display());
    let mut command = Command::new("docker");
    command
        .args(["run", "--rm", "--network", "host", "--user"])
        .arg(format!(
            "{}:{}",
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw()
        ))
        .args([
            "--volume",
            &mount(staged.path(), "rw"),
            "--volume",
            &mount(&repository(), "ro"),
        ])
        .arg("--workdir")
        .arg(staged.path())
        .args(["--entrypoint", "envoy", "envoyproxy/envoy:v1.40.0"]);
    command
}

fn log(staged: &Staged) -> String {
    String::from_utf8_lossy(&fs::read(staged.path().join("envoy.log")).unwrap_or_default()).into_owned()
}

/// The end of a log, from the start of a line.
fn tail(log: &str) -> &str {
    let from = log.floor_char_boundary(log.len().saturating_sub(SHOWN));
    log[from..]
        .find('\n')
        .filter(|_| from > 0)
        .map_or(&log[from..], |line| &log[from + line + 1..])
}
