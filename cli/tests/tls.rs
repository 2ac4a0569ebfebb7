//! Over a network: with TLS, and never without.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod server;

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};

use server::Server;

/// A certificate for `localhost` and 127.0.0.1, its key, and who signed it; made for these tests, and worth nothing.
const FILES: [&str; 3] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/cert.pem"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/key.pem"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/ca.pem"),
];

fn tollgate(arguments: &[&str], token: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments).env("TOLLGATE_TOKEN", token);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_server_with_a_certificate_is_spoken_to_by_those_who_trust_it() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let [certificate, key, authority] = FILES;
    let server = Server::start_with_tls(&database, certificate, key);
    let token = server.token.clone().unwrap();
    let at = ["--server", &server.url];

    let trusting = [&at[..], &["--ca", authority, "org", "create", "acme"]].concat();
    let made = tollgate(&trusting, &token);
    assert!(made.status.success(), "{}", said(&made));

    let distrusting = [&at[..], &["org", "list"]].concat();
    let refused = tollgate(&distrusting, &token);
    assert!(!refused.status.success());
    assert!(said(&refused).contains("cannot reach"), "{}", said(&refused));

    // What is not said in TLS is answered by nobody.
    let clear = server.url.replace("https", "http");
    let refused = tollgate(&["--server", &clear, "org", "list"], &token);
    assert!(!refused.status.success());
}

#[test]
fn nobody_is_served_in_clear_from_another_machine() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let serve = ["serve", "--listen", "0.0.0.0:0", "--database", &database];
    let refused = tollgate(&serve, "");
    assert!(!refused.status.success());
    assert!(said(&refused).contains("--tls-cert"), "{}", said(&refused));

    // Nor does a token go to another machine so; this one would wait for ever.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let elsewhere = format!("http://control.example:{port}");
    let refused = tollgate(&["--server", &elsewhere, "org", "list"], "tg-token-x");
    assert!(
        said(&refused).contains("would send the token in clear"),
        "{}",
        said(&refused)
    );
}

#[test]
fn a_certificate_that_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let [_, key, authority] = FILES;
    for (certificate, key) in [
        ("/nowhere/cert.pem", key),
        (authority, "/nowhere/key.pem"),
        (key, authority),
    ] {
        let files = ["--tls-cert", certificate, "--tls-key", key];
        let serve = [
            &["serve", "--listen", "127.0.0.1:0", "--database", &database][..],
            &files,
        ]
        .concat();
        let refused = tollgate(&serve, "");
        assert!(!refused.status.success(), "{files:?}");
        assert!(
            said(&refused).contains("cannot use the certificate"),
            "{}",
            said(&refused)
        );
    }
}

/// Its connections would stay for as long as a client answers pings.
#[test]
fn http_2_is_not_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("tollgate.db").display());
    let server = Server::start(&database);
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // The preface, and settings.
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}
