//! The description of the API is what the server does: schemathesis asks a running one all that it allows, and much else.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_committed_description_is_the_servers() {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("openapi")
        .output()
        .unwrap();
    let committed = include_str!("../../docs/openapi.json");
    assert!(
        String::from_utf8(output.stdout).unwrap() == committed,
        "make generate"
    );
}

#[test]
fn schemathesis_finds_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tool = root.join("target/venv-schemathesis/bin/schemathesis");
    assert!(tool.exists(), "type `scripts/setup-schemathesis.sh`");
    let folder = tempfile::tempdir().unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["serve", "--listen", "127.0.0.1:0", "--audit-key", "audit.key"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut token = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut token)
        .unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let at = lines
        .find_map(|line| {
            line.unwrap()
                .strip_prefix("tollgate: serving at ")
                .map(str::to_owned)
        })
        .unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let output = Command::new(tool)
        .args([
            "run",
            &format!("http://{at}/openapi.json"),
            "--max-examples",
            "15",
            "--seed",
            "1",
            "--no-color",
        ])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .args(["--header", &format!("Authorization: Bearer {}", token.trim())])
        // Waiting for a change is what it is for.
        .args(["--exclude-path", "/v1/directory"])
        .current_dir(folder.path())
        .output();
    server.kill().unwrap();
    server.wait().unwrap();
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
