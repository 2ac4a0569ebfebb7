//! A Redis of the test's own, on a free port, that forgets everything when it ends.

use core::time::Duration;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) struct Redis {
    port: u16,
    process: Option<Child>,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut redis = Self { port, process: None };
        redis.run();
        redis
    }

    fn run(&mut self) {
        let port = self.port.to_string();
        let bare = [
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--requirepass",
            "hush-hush",
        ];
        let start = |program: &str| {
            let mut command = Command::new(program);
            command.args(bare).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn()
        };
        let process = start("redis-server").or_else(|_| start("valkey-server"));
        self.process = Some(process.expect("Redis: is it installed (scripts/setup-redis.sh)?"));
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("Redis did not start");
    }

    pub(crate) fn address(&self) -> String {
        format!("redis://:hush-hush@127.0.0.1:{}", self.port)
    }

    /// It hangs, until it is sent `CONT`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.process.as_ref().unwrap()), signal).unwrap();
    }

    /// Kills it, and starts another one, which is empty.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.run();
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
