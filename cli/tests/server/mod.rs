//! `tollgate serve` as a process, and a client for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    reason = "test support: a test that cannot go on fails by panicking, and no test uses all of it"
)]

#[path = "../../../control/tests/support/postgres.rs"]
pub(crate) mod postgres;
#[path = "../../../control/tests/support/redis.rs"]
pub(crate) mod redis;

use core::time::Duration;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

/// A server that is running.
pub(crate) struct Server {
    process: Child,
    pub(crate) url: String,
    /// The first token, if it was the first start.
    pub(crate) token: Option<String>,
    /// What it says once it serves.
    says: Mutex<Receiver<String>>,
}

impl Server {
    pub(crate) fn start(database: &str) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_tollgate")), database)
    }

    pub(crate) fn start_by(command: Command, database: &str) -> Self {
        Self::start_at("http://", command, &[], database)
    }

    /// With a certificate for `localhost`.
    pub(crate) fn start_with_tls(database: &str, certificate: &str, key: &str) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        let more = ["--tls-cert", certificate, "--tls-key", key];
        let mut server = Self::start_at("https://", command, &more, database);
        server.url = server.url.replace("127.0.0.1", "localhost");
        server
    }

    /// With more options.
    pub(crate) fn start_with(database: &str, more: &[&str]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        Self::start_at("http://", command, more, database)
    }

    fn start_at(scheme: &str, mut command: Command, more: &[&str], database: &str) -> Self {
        command.args(["serve", "--listen", "127.0.0.1:0", "--database", database]);
        command.args(more);
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut told = Vec::new();
        let url = loop {
            let Some(Ok(line)) = lines.next() else {
                panic!("it does not serve: {told:?}")
            };
            if let Some(at) = line.strip_prefix("tollgate: serving at ") {
                break format!("{scheme}{at}");
            }
            told.push(line);
        };
        // What it says later may be wanted by nobody, and must not hold it up.
        let (said, says) = channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| drop(said.send(line)));
        });
        let token = (!told.is_empty()).then(|| {
            let mut token = String::new();
            let mut stdout = BufReader::new(process.stdout.take().unwrap());
            stdout.read_line(&mut token).unwrap();
            token.trim().to_owned()
        });
        Self {
            process,
            url,
            token,
            says: Mutex::new(says),
        }
    }

    /// The most memory that it has held so far, in bytes.
    pub(crate) fn most_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The CPU time that it has taken so far.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let (_, stat) = stat.rsplit_once(") ").unwrap();
        let ticks = |at| stat.split(' ').nth(at).unwrap().parse::<u64>().unwrap();
        Duration::from_millis((ticks(11) + ticks(12)) * 1_000 / rustix::param::clock_ticks_per_second())
    }

    /// Lifts the limit on the size of its files.
    pub(crate) fn may_write_any_amount(&self) {
        self.limit_files(None);
    }

    /// Its files may have so many bytes.
    pub(crate) fn may_write_files_of(&self, bytes: u64) {
        self.limit_files(Some(bytes));
    }

    fn limit_files(&self, current: Option<u64>) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let limit = Rlimit {
            current,
            maximum: None,
        };
        prlimit(Some(Pid::from_child(&self.process)), Resource::Fsize, limit).unwrap();
    }

    /// The next line that it says with this in it; what it said before is over.
    pub(crate) fn says(&self, part: &str) -> String {
        let says = self.says.lock().unwrap();
        loop {
            let line = says.recv_timeout(Duration::from_secs(30)).unwrap();
            if line.contains(part) {
                return line;
            }
        }
    }

    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap()
}

/// Status and body; `None` where there was no whole answer.
pub(crate) async fn post(
    http: &reqwest::Client,
    url: &str,
    token: &str,
    body: Value,
) -> Option<(u16, Value)> {
    let response = http.post(url).bearer_auth(token).json(&body).send().await.ok()?;
    let status = response.status().as_u16();
    Some((status, response.json().await.ok()?))
}

pub(crate) async fn get(http: &reqwest::Client, url: &str, token: &str) -> Value {
    http.get(url)
        .bearer_auth(token)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}
