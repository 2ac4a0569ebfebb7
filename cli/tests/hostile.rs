//! Servers, proxies and addresses that are not what they should be.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

/// For what has been sent already.
const WAIT: Duration = Duration::from_secs(10);

/// A server that answers whatever it is asked with this status and body; what it was asked arrives at the receiver.
fn server(status: u16, mut body: impl FnMut(u64) -> Value + Send + 'static) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, receiver) = channel();
    std::thread::spawn(move || {
        for count in 0.. {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.extend(byte);
            }
            let body = body(count).to_string();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\nconnection: close\r\nlocation: /elsewhere\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            if asked.send(String::from_utf8_lossy(&head).into_owned()).is_err() {
                return;
            }
        }
    });
    (url, receiver)
}

fn tollgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments).env("TOLLGATE_TOKEN", "tg-token-x");
    command
}

fn all(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_token_for_this_machine_passes_no_proxy() {
    let (proxy, at_proxy) = server(200, |_| json!({"items": []}));
    let (url, at_server) = server(200, |_| json!({"items": []}));
    let mut command = tollgate(&["--server", &url, "org", "list"]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, &proxy);
    }
    command.env_remove("no_proxy").env_remove("NO_PROXY");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", all(&output));
    assert!(at_server.recv_timeout(WAIT).unwrap().contains("tg-token-x"));
    assert!(at_proxy.try_recv().is_err());
}

#[test]
fn a_redirect_is_not_followed() {
    let (url, asked) = server(307, |_| json!({}));
    let output = tollgate(&["--server", &url, "org", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(all(&output).contains("307"), "{}", all(&output));
    assert!(asked.recv_timeout(WAIT).is_ok() && asked.try_recv().is_err());
}

#[test]
fn no_error_shows_a_password() {
    for arguments in [
        &["--database", "Postgres://u:secret@127.0.0.1:1/x"][..],
        &["--database", "POSTGRESQL://u:secret@127.0.0.1:port/x"],
        &["--database", "mysql://u:secret@db/x"],
        &["--database", "mysql://db/x?password=secret"],
        &["--database", "host=db password=secret"],
        &["--database", "u:secret@db/x"],
        &["--server", "https://user:secret@127.0.0.1:1"],
        &["--server", "user:secret@127.0.0.1"],
        &["--server", "http://user:secret@control.example"],
    ] {
        let output = tollgate(&[arguments, &["org", "list"]].concat())
            .output()
            .unwrap();
        let told = all(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
    // The scheme is known however it is written.
    let output = tollgate(&["--database", "Postgres://u:secret@127.0.0.1:1/x", "org", "list"])
        .output()
        .unwrap();
    assert!(all(&output).contains("cannot be opened"), "{}", all(&output));
    let help = tollgate(&["org", "list", "--help"])
        .env("TOLLGATE_SERVER", "https://u:secret@x")
        .output()
        .unwrap();
    assert!(!all(&help).contains("secret"), "{}", all(&help));
}

#[test]
fn what_a_server_says_cannot_speak_to_the_terminal() {
    let evil = "a\u{1b}]0;x\u{7}\u{9b}2J\r\n\u{7f}b";
    let (refusing, _asked) = server(400, move |_| json!({"detail": evil}));
    let object = json!({"id": evil, "address": evil, evil: evil, "secret": evil, "until": evil, "target": {evil: evil}});
    let (making, _asked2) = server(
        201,
        move |_| json!({"id": evil, evil: object, "secret": evil, "until": evil, "items": [object]}),
    );
    let dry = json!({"dry_run": true, "changes": [{"kind": evil, "id": evil, "after": {evil: evil}}]});
    let (dry, _asked3) = server(200, move |_| dry.clone());
    let create = ["key", "create", "--org", "acme"];
    for (url, arguments) in [
        (&refusing, &create[..]),
        (&making, &create),
        (&making, &["key", "create", "--org", "acme", "--json"]),
        (&making, &["token", "create", "--role", "viewer"]),
        (&making, &["org", "show", "acme"]),
        (&making, &["org", "show", "acme", "--json"]),
        (&making, &["org", "list"]),
        (&making, &["gateway", "list"]),
        (&making, &["status"]),
        (&making, &["freeze", "org", "acme", "--reason", "x"]),
        (&making, &["audit", "checkpoint"]),
        (&dry, &["org", "create", "acme"]),
    ] {
        let output = tollgate(&[&["--server", url], arguments].concat())
            .output()
            .unwrap();
        let shown = all(&output);
        assert!(shown.contains('a') && !shown.is_empty(), "{arguments:?}");
        assert!(
            !shown.chars().any(|c| c.is_control() && c != '\n'),
            "{arguments:?}: {shown:?}"
        );
    }
}

#[test]
fn a_list_without_an_end_ends() {
    let (same, _asked) = server(200, |_| json!({"items": [], "next": "a"}));
    let (turning, _asked2) = server(200, |count| json!({"items": [], "next": (count % 3).to_string()}));
    let (trail, _asked3) = server(200, |_| json!({"items": [{"seq": 7}]}));
    for (url, arguments) in [
        (&same, ["org", "list"]),
        (&turning, ["key", "list"]),
        (&trail, ["audit", "export"]),
    ] {
        let output = tollgate(&[&["--server", url.as_str()], &arguments[..]].concat())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", all(&output));
        assert!(all(&output).contains("has no end"), "{}", all(&output));
    }
}

#[test]
fn a_name_that_a_url_would_drop_is_refused() {
    let (url, asked) = server(200, |_| json!({}));
    for arguments in [
        &["project", "remove", "acme/.."][..],
        &["project", "remove", "../acme"],
        &["project", "remove", "acme/"],
        &["org", "remove", "."],
        &["org", "remove", ""],
        &["key", "revoke", ".."],
        &["token", "revoke", ".."],
        &["unfreeze", ".."],
    ] {
        let output = tollgate(&[&["--server", url.as_str()], arguments].concat())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(all(&output).contains("is no name"), "{}", all(&output));
    }
    assert!(asked.try_recv().is_err());
}

#[test]
fn mistakes_in_arguments_are_told_in_words() {
    for (arguments, says) in [
        (
            &["serve", "--listen", "localhost:7700"][..],
            "expected `IP:PORT`, such as `127.0.0.1:7700`",
        ),
        (
            &[
                "--server",
                "http://127.0.0.1:1",
                "org",
                "create",
                "acme",
                "--label",
                "a",
            ],
            "`--label a`: expected NAME=VALUE",
        ),
        (
            &[
                "--server",
                "http://127.0.0.1:1",
                "project",
                "create",
                "acme/x",
                "--label",
                "a=",
            ],
            "`--label a=`: expected NAME=VALUE",
        ),
    ] {
        let output = tollgate(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(all(&output).contains(says), "{}", all(&output));
    }
}

/// It may be given in the place of a file, or of a name.
#[test]
fn a_credential_in_the_wrong_place_is_not_repeated() {
    let token = "tg-token-x14ao9wq7k44-OtgblLZ2ucUW6iIKnVLl2v9DPLDXiF15SBzYwEOHzm7";
    for arguments in [
        &[
            "--server",
            "http://127.0.0.1:1",
            "--token-file",
            token,
            "org",
            "list",
        ][..],
        &["--server", token, "org", "list"],
        &["--database", token, "org", "list"],
        &[
            "--audit-key",
            token,
            "--database",
            "sqlite:/nowhere",
            "org",
            "list",
        ],
        &["--server", "http://127.0.0.1:1", "project", "create", token],
        &[
            "--server",
            "http://127.0.0.1:1",
            "org",
            "create",
            "a",
            "--label",
            token,
        ],
        &["directory", "check", token],
    ] {
        let output = tollgate(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", all(&output));
        assert!(!all(&output).contains(&token[20..40]), "{}", all(&output));
    }
}

/// A list comes in parts: what somebody else has many of hides nothing behind them.
#[test]
fn what_is_ended_is_found_in_whichever_part_of_the_list_it_is() {
    let (url, asked) = server(200, |count| match count {
        0 => json!({"id": "k", "org": "acme"}),
        1 => json!({"items": [{"id": "a", "target": {"key": "other"}}], "next": "a"}),
        2 => json!({"items": [{"id": "p", "target": {"key": "k"}}]}),
        _ => json!({"id": "p"}),
    });
    let output = tollgate(&["--server", &url, "unfreeze", "key", "k"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", all(&output));
    let asked: Vec<String> = (0..4).map(|_| asked.recv_timeout(WAIT).unwrap()).collect();
    for (asked, line) in asked.iter().zip([
        "GET /v1/keys/k ",
        "GET /v1/freezes?org=acme&limit=1000 ",
        "GET /v1/freezes?org=acme&limit=1000&after=a ",
        "POST /v1/freezes/p/end",
    ]) {
        assert!(asked.starts_with(line), "{asked}");
    }
}

#[test]
fn what_else_is_in_force_on_the_same_target_is_told() {
    let one = |id: &str, by_confined| json!({"id": id, "target": {"key": "k"}, "by_confined": by_confined});
    let (url, _asked) = server(200, move |_| {
        let mut begun = one("p", false);
        begun["items"] = json!([one("c", true), one("p", false)]);
        begun
    });
    let run = |arguments: &[&str]| {
        let output = tollgate(&[&["--server", url.as_str(), "--reason", "x"], arguments].concat())
            .output()
            .unwrap();
        all(&output)
    };
    for arguments in [
        &["freeze", "key", "k"][..],
        &["cap", "key", "k", "--rate", "1/second"],
        &["unfreeze", "p"],
    ] {
        let told = run(arguments);
        assert!(
            told.contains("stays when this one ends: `c` by the customer"),
            "{told}"
        );
    }
    let told = run(&["unfreeze", "key", "k"]);
    assert!(
        told.contains("`c` by the customer and `p` by the platform; end one by its id"),
        "{told}"
    );
}
