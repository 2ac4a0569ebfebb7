//! One Envoy.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tollgate_harness::process::Process;

/// How long an Envoy may take to open its ports: a filter with a large configuration is part of that.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where an Envoy runs.
pub(crate) struct Seat {
    /// Its CPUs, as `taskset` has them.
    pub(crate) cpus: String,
    /// Its worker threads.
    pub(crate) workers: usize,
}

/// A running Envoy, ended with the value.
pub(crate) struct Envoy {
    process: Process,
    listener: SocketAddr,
    files: TempDir,
}

impl Envoy {
    /// Starts `program`; returns once its listener is open.
    ///
    /// # Errors
    /// It ended by itself or did not come up; the message has the end of its log.
    pub(crate) fn start(program: &Path, bootstrap: &Value, seat: &Seat) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let config = files.path().join("envoy.json");
        fs::write(&config, bootstrap.to_string())?;
        // taskset becomes Envoy by exec, so the process is Envoy's own.
        let mut command = Command::new("taskset");
        command
            .args(["--cpu-list", &seat.cpus])
            .arg(program)
            .args(["--concurrency", &seat.workers.to_string()])
            .args(["--disable-hot-restart", "--log-level", "warning"])
            .arg("--config-path")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(files.path().join("admin"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(files.path().join("log"))?);
        let process =
            Process::spawn(command).context("taskset could not be started: it is in Debian's util-linux")?;
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut envoy = Self {
            process,
            listener: unknown,
            files,
        };
        envoy.listener = envoy.await_listener()?;
        Ok(envoy)
    }

    /// Where it takes requests.
    pub(crate) fn listener(&self) -> SocketAddr {
        self.listener
    }

    /// CPU time used by all its threads so far.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        Ok(self.process.cpu_time()?)
    }

    /// Resident memory now, in kilobytes.
    pub(crate) fn rss_kb(&self) -> Result<u64> {
        Ok(self.process.rss_kb()?)
    }

    /// The most resident memory it ever had, in kilobytes.
    pub(crate) fn peak_rss_kb(&self) -> Result<u64> {
        Ok(self.process.peak_rss_kb()?)
    }

    /// One of its counters, by its name.
    pub(crate) fn counter(&self, name: &str) -> Result<u64> {
        let admin = self.admin().context("Envoy has no admin interface")?;
        let stats = get(admin, "/stats")?;
        let value = stats
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        let value = value.with_context(|| format!("Envoy has no counter {name}"))?;
        Ok(value.parse()?)
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.files.path().join("log")).unwrap_or_default();
        // Envoy says of each key, at length, that its own key filter is not finished.
        let lines = log.lines().filter(|line| !line.contains("work-in-progress"));
        let mut tail: Vec<&str> = lines.rev().take(20).collect();
        tail.reverse();
        format!("the end of Envoy's log:\n{}", tail.join("\n"))
    }

    /// Ports are Envoy's own choice, so that no other program can have taken them: it tells them here.
    fn await_listener(&mut self) -> Result<SocketAddr> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(addr) = self.admin().and_then(|admin| listener_of(admin).ok().flatten()) {
                return Ok(addr);
            }
            if let Some(status) = self.process.ended() {
                bail!("Envoy ended with {status}; {}", self.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("Envoy was not ready in {PATIENCE:?}; {}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn admin(&self) -> Option<SocketAddr> {
        fs::read_to_string(self.files.path().join("admin"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }
}

/// The address of the only listener, once the server is live.
fn listener_of(admin: SocketAddr) -> Result<Option<SocketAddr>> {
    if !get(admin, "/ready")?.contains("LIVE") {
        return Ok(None);
    }
    // One line a listener: `name::127.0.0.1:43210`.
    let listeners = get(admin, "/listeners")?;
    Ok(listeners
        .lines()
        .find_map(|line| line.rsplit_once("::")?.1.trim().parse().ok()))
}

fn get(addr: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
