//! A PostgreSQL server of the test's own, in a folder that goes when it ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test support: a test that cannot go on fails by panicking"
)]

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

/// It ends when its standard input does: with this process, however that ends.
struct Server {
    port: u16,
    _process: Child,
}

static SERVER: LazyLock<Server> = LazyLock::new(start);

/// The address of a new database.
pub(crate) fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let port = SERVER.port;
    run(&format!("createdb -h 127.0.0.1 -p {port} -U tollgate {name}"));
    format!("postgres://tollgate@127.0.0.1:{port}/{name}")
}

/// Debian keeps the server's programs out of the path.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions.map(|version| version.path().join("bin")).max();
    newest.unwrap_or_else(|| PathBuf::from("/usr/bin"))
}

/// A shell in which they are found, as somebody whom PostgreSQL serves: not root.
fn shell(script: &str) -> Command {
    let script = format!("PATH={}:$PATH; {script}", programs().display());
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0);
    let mut command = if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", "sh", "-c", &script]);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        command
    };
    command.current_dir("/");
    command
}

fn run(script: &str) -> String {
    let output = shell(script).stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[expect(
    clippy::zombie_processes,
    reason = "it ends with this process, and init waits for it"
)]
fn start() -> Server {
    // Nothing of this process is dropped when it ends, so the shell that ends the server takes the folder away.
    let folder = run("mktemp -d");
    let at = folder.trim();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    run(&format!(
        "initdb -D {at} -U tollgate -A trust --no-sync >/dev/null"
    ));
    let process = shell(&format!(
        "postgres -D {at} -p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={at} \
         -c max_connections=300 >{at}/log 2>&1 & server=$!; cat >/dev/null; kill -QUIT $server; wait $server; rm -rf {at}"
    ))
    .stdin(Stdio::piped())
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let ready = || {
        shell(&format!("pg_isready -q -h 127.0.0.1 -p {port}"))
            .status()
            .unwrap()
            .success()
    };
    for _ in 0..600 {
        if ready() {
            return Server {
                port,
                _process: process,
            };
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!(
        "PostgreSQL does not start: {:?}",
        std::fs::read_to_string(format!("{at}/log"))
    );
}
