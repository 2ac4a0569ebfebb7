//! A Redis of the test's own, on a free port and in a folder that goes when it ends.

use core::time::Duration;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tollgate_fleet::Config;
use tollgate_shares::Timing;

pub(crate) struct Server {
    port: u16,
    folder: TempDir,
    /// A shell that kills Redis once its standard input ends: with this process, however that ends.
    process: Option<Child>,
    /// Whether what it acknowledged is on disk.
    keeps: bool,
}

impl Server {
    /// One that forgets everything when it ends.
    pub(crate) fn start() -> Self {
        Self::start_with(false)
    }

    /// One that comes back with all that it acknowledged.
    pub(crate) fn start_durable() -> Self {
        Self::start_with(true)
    }

    fn start_with(keeps: bool) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut server = Self {
            port,
            folder: tempfile::tempdir().unwrap(),
            process: None,
            keeps,
        };
        server.run();
        server
    }

    fn run(&mut self) {
        let script = "redis=$(command -v redis-server || command -v valkey-server) || exit 1
            $redis --port $1 --bind 127.0.0.1 --dir $2 --save '' --appendonly $3 --appendfsync always >$2/log 2>&1 &
            redis=$!; cat >/dev/null; kill -KILL $redis; wait $redis";
        let child = Command::new("sh")
            .args(["-c", script, "redis", &self.port.to_string()])
            .arg(self.folder.path())
            .arg(if self.keeps { "yes" } else { "no" })
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(child.unwrap());
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("Redis did not start: is it installed (scripts/setup-redis.sh)?");
    }

    /// Kills it, as a machine that stops would. What it acknowledged is in its folder.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        self.run();
    }

    /// Puts its data aside; what was there.
    pub(crate) fn lose_data(&self) {
        std::fs::remove_dir_all(self.folder.path().join("appendonlydir")).unwrap();
    }

    pub(crate) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn config(&self, name: &str, timing: Timing, parts: u32) -> Config {
        Config {
            address: self.address(),
            name: format!("{{{name}}}"),
            timing,
            parts,
            timeout: Duration::from_secs(5),
            survives: true,
        }
    }

    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> T {
        let client = redis::Client::open(self.address()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        command.query_async(&mut connection).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
