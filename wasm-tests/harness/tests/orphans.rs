//! What a test or `make run` has started ends with it, also where it is killed.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tollgate_harness::control::ControlPlane;

/// Set for a process of this test that is to be killed: the folder of its database.
const FOLDER: &str = "TOLLGATE_ORPHANS";

#[test]
fn a_control_plane_does_not_outlive_who_started_it() {
    if let Ok(folder) = std::env::var(FOLDER) {
        let database = format!("sqlite:{folder}/tollgate.db");
        let plane = ControlPlane::start(&database, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        println!("\npid {}", plane.pid());
        loop {
            std::thread::park();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut killed = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_control_plane_does_not_outlive_who_started_it",
            "--nocapture",
        ])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    let pid = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("pid ").map(str::to_owned))
        .unwrap();
    // A zombie has no memory map.
    let is_alive = || {
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"));
        statm.is_ok_and(|statm| !statm.starts_with("0 "))
    };
    assert!(is_alive());
    killed.kill().unwrap();
    killed.wait().unwrap();
    let started = Instant::now();
    while is_alive() {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{pid} is still there"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
