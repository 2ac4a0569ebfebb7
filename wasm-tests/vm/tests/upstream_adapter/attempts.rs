//! What a provider gets, and what becomes of what it must not get.

use serde_json::{Value, json};
use tollgate_vm::{Forwarded, World};

use crate::stage::{
    CHAT, CLIENTS, SECRET_A, SECRET_B, asked, body, configuration, expect_no_secret_logged, load, stage,
    two_attempts,
};

#[track_caller]
fn expect_nothing_foreign(forwarded: &Forwarded<'_>, foreign: &[&str]) {
    for (name, value) in forwarded.headers().iter() {
        let value = String::from_utf8_lossy(value);
        let found = foreign
            .iter()
            .chain([&CLIENTS])
            .find(|secret| value.contains(**secret));
        assert!(
            found.is_none() && !name.starts_with("x-tollgate-secret-"),
            "{name}: {value}"
        );
    }
}

#[track_caller]
fn expect_a(forwarded: &Forwarded<'_>) {
    forwarded
        .header(":path", "/api/v1/chat/completions")
        .header(":authority", "a.example")
        .header("authorization", format!("Bearer {SECRET_A}"))
        .header("x-title", "Tollgate")
        .no_header("x-tollgate-org")
        .no_header("x-tollgate-model");
    assert_eq!(forwarded.json()["model"], "meta/70b");
    expect_nothing_foreign(forwarded, &[SECRET_B]);
}

#[track_caller]
fn expect_b(forwarded: &Forwarded<'_>) {
    forwarded
        .header(":path", CHAT)
        .header(":authority", "gateway.test")
        .header("x-api-key", SECRET_B)
        .no_header("authorization")
        .no_header("x-title")
        .no_header("x-tollgate-org");
    assert_eq!(forwarded.json()["model"], "b70");
    expect_nothing_foreign(forwarded, &[SECRET_A]);
}

#[track_caller]
fn expect_local(forwarded: &Forwarded<'_>) {
    forwarded
        .header(":path", CHAT)
        .header("x-tollgate-org", "acme")
        .header("x-tollgate-model", "llama-70b")
        .no_header("authorization")
        .no_header("x-api-key")
        .no_header("x-title");
    assert_eq!(forwarded.json()["model"], "llama-70b");
    expect_nothing_foreign(forwarded, &[SECRET_A, SECRET_B]);
}

#[test]
fn each_provider_is_asked_as_it_wants() {
    let stage = stage();
    for provider in ["a", "b", "local"] {
        let outcome = stage.chat(provider).send();
        let forwarded = outcome.expect_forwarded();
        forwarded.header("content-length", forwarded.bytes().len().to_string());
    }
    expect_a(&stage.chat("a").send().expect_forwarded());
    expect_b(&stage.chat("b").send().expect_forwarded());
    expect_local(&stage.chat("local").send().expect_forwarded());
    let attempts = stage.attempts();
    let expected = ["a", "b", "local"].map(|name| (format!("{name}.adapted"), 2));
    assert_eq!(attempts, expected);
    expect_no_secret_logged(&stage.world);
}

#[test]
fn the_second_attempt_finds_nothing_of_the_first() {
    let expect = |name: &str, forwarded: &Forwarded<'_>| match name {
        "a" => expect_a(forwarded),
        "b" => expect_b(forwarded),
        _ => expect_local(forwarded),
    };
    for first in ["a", "b", "local"] {
        for second in ["a", "b", "local"] {
            let world = World::new();
            let chain = two_attempts(&world, first, second);
            // The chain's second filter reads what the first one wrote; on Envoy it would be the client's body again.
            let outcome = asked(chain.post(CHAT), "p").json(&body()).send();
            expect(second, &outcome.expect_forwarded());
            let outcome = asked(chain.get(CHAT), "p").send();
            let forwarded = outcome.expect_forwarded();
            expect_nothing_foreign(&forwarded, if second == "a" { &[SECRET_B] } else { &[SECRET_A] });
            forwarded.header(
                ":path",
                if second == "a" {
                    "/api/v1/chat/completions"
                } else {
                    CHAT
                },
            );
            expect_no_secret_logged(&world);
        }
    }
}

#[test]
fn a_body_may_come_in_any_pieces() {
    let stage = stage();
    for size in [1, 2, 7, 50, 1_000] {
        expect_a(&stage.chat("a").in_chunks(size).send().expect_forwarded());
        expect_b(&stage.chat("b").in_chunks(size).send().expect_forwarded());
    }
    let text = body().to_string();
    let pieces = [text.as_bytes(), b""];
    let request = asked(stage.filter.post(CHAT), "a").header("content-type", "application/json");
    expect_a(&request.chunks(pieces).send().expect_forwarded());
    let outcome = stage.chat("a").trailer("x-checksum", "1").send();
    expect_a(&outcome.expect_forwarded());
    outcome.expect_forwarded().trailer("x-checksum", "1");
}

#[test]
fn nothing_goes_before_the_body_is_whole() {
    let stage = stage();
    let mut stream = stage.chat("a").in_chunks(10).open();
    assert!(stream.is_held());
    while !stream.is_forwarded() {
        assert!(stream.send_chunk());
    }
    assert!(!stream.send_chunk(), "it went before its last piece");
    expect_a(&stream.finish().expect_forwarded());
}

#[test]
fn a_form_is_renamed_too_and_its_file_left_alone() {
    let stage = stage();
    let form = |model: &str| {
        let field = |name: &str| {
            format!("--XX\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes()
        };
        let file: Vec<u8> = (0..=255).collect();
        [
            &field("file")[..],
            &file,
            b"\r\n",
            &field("model"),
            model.as_bytes(),
            b"\r\n--XX--\r\n",
        ]
        .concat()
    };
    let request = asked(stage.filter.post("/v1/audio/transcriptions"), "a");
    let request = request
        .header("content-type", "multipart/form-data; boundary=XX")
        .body(form("alias"));
    let outcome = request.in_chunks(100).send();
    outcome.expect_forwarded().body(form("meta/70b"));
}

#[test]
fn a_body_that_needs_no_change_is_not_even_read() {
    let world = World::new();
    let filter = load(&world, json!({"providers": {"p": {"path_prefix": "/x"}}}));
    let request = |body: &[u8]| {
        let metadata = ["xds", "upstream_host_metadata", "filter_metadata", "tollgate"];
        filter
            .post(CHAT)
            .property_tree(&metadata, json!({"provider": "p"}))
            .body(body)
    };
    let outcome = request(b"not JSON at all").in_chunks(4).send();
    outcome
        .expect_forwarded()
        .body(b"not JSON at all")
        .header(":path", format!("/x{CHAT}"));
    assert_eq!(outcome.hostcalls(tollgate_vm::Hostcall::GetBufferBytes), 0);
}

#[test]
fn a_missing_secret_is_said_once_and_counted_each_time() {
    let stage = stage();
    let without = |value: &str| {
        stage
            .chat("a")
            .without_header("x-tollgate-secret-a_key")
            .header("x-tollgate-secret-a_key", value)
    };
    for value in ["", "-", "a b", "a\u{7f}"] {
        let outcome = without(value).send();
        outcome.expect_refused(500).code("gateway_misconfigured");
        outcome.expect_response(500).details("tollgate_missing_secret");
    }
    let said = |world: &World| {
        world
            .log()
            .iter()
            .filter(|line| line.text.contains("no usable secret A_KEY"))
            .count()
    };
    assert_eq!(
        (said(&stage.world), stage.attempts()),
        (1, vec![("a.missing_secret".into(), 4)])
    );
    stage.chat("a").send().expect_forwarded();
    without("-").send().expect_refused(500);
    assert_eq!(said(&stage.world), 2);
    // The others go on.
    expect_b(&stage.chat("b").send().expect_forwarded());
}

#[test]
fn an_endpoint_must_be_somebody_known() {
    let stage = stage();
    for (provider, details) in [
        (json!("nobody"), "tollgate_unknown_provider"),
        (json!(""), "tollgate_unknown_provider"),
    ] {
        let request = stage.chat("a").property_tree(
            &["xds", "upstream_host_metadata", "filter_metadata", "tollgate"],
            json!({ "provider": provider }),
        );
        request.send().expect_refused(500).details(details);
    }
    let outcome = stage.filter.post(CHAT).json(&body()).send();
    outcome.expect_refused(500).details("tollgate_no_provider");
    let none: Vec<(String, u64)> = vec![
        ("none.no_provider".into(), 1),
        ("none.unknown_provider".into(), 2),
    ];
    assert_eq!(stage.attempts(), none);
}

#[test]
fn a_body_that_cannot_be_read_goes_nowhere() {
    let stage = stage();
    for body in [r#"{"model":"a","model":"b"}"#, "{", "[]"] {
        let outcome = stage.chat("a").body(body).send();
        let answer = outcome.expect_refused(400);
        answer.code("invalid_json").details("tollgate_invalid_json");
    }
    let outcome = asked(stage.filter.post("/v1/messages"), "a").body("{").send();
    let answer: Value = outcome.expect_refused(400).json();
    assert_eq!(
        (&answer["type"], &answer["error"]["type"]),
        (&json!("error"), &json!("invalid_request_error"))
    );
    expect_no_secret_logged(&stage.world);
}

#[test]
fn a_changed_configuration_is_for_the_next_attempt() {
    let stage = stage();
    let mut stream = stage.chat("a").in_chunks(10).open();
    let mut changed = configuration();
    changed["providers"]["a"]["path_prefix"] = json!("/new");
    let new = load(&stage.world, changed);
    while stream.send_chunk() {}
    expect_a(&stream.finish().expect_forwarded());
    let outcome = asked(new.post(CHAT), "a").json(&body()).send();
    outcome.expect_forwarded().header(":path", format!("/new{CHAT}"));
}
