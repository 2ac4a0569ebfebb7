//! A body is read once it is whole, in whatever pieces it comes; before that nothing goes on.

use serde_json::json;

use crate::stage::{CHAT, chat, routed, stage};

#[test]
fn a_body_may_come_in_any_pieces() {
    let stage = stage();
    let body = chat("llama-70b").to_string();
    for size in 1..=body.len() {
        let outcome = stage.chat("llama-70b").in_chunks(size).send();
        outcome
            .expect_forwarded()
            .header("x-tollgate-target", "llama")
            .header("content-length", body.len().to_string())
            .body(&body);
    }
    // With no length said, and an empty last piece.
    let pieces = body.as_bytes().chunks(9).chain([&b""[..]]);
    let outcome = stage
        .post(CHAT)
        .header("content-type", "application/json")
        .chunks(pieces)
        .send();
    outcome.expect_forwarded().body(&body);
}

#[test]
fn trailers_end_a_body_too() {
    let stage = stage();
    for size in [1, 13, 1_000] {
        let outcome = stage
            .chat("llama-70b")
            .in_chunks(size)
            .trailer("x-checksum", "1")
            .trailer("x-auth-request-user", "root")
            .send();
        // A client's end here, as its headers of such names do.
        outcome
            .expect_forwarded()
            .header("x-tollgate-target", "llama")
            .no_trailer("x-checksum")
            .no_trailer("x-auth-request-user")
            .body(chat("llama-70b").to_string());
    }
    let outcome = stage
        .chat("nothing")
        .in_chunks(9)
        .trailer("x-checksum", "1")
        .send();
    outcome.expect_refused(404).code("model_not_found");
    let outcome = stage.post(CHAT).trailer("x-checksum", "1").send();
    outcome.expect_refused(400).code("invalid_json");
}

#[test]
fn nothing_goes_before_the_body_is_whole() {
    let stage = stage();
    let mut stream = stage.chat("llama-70b").in_chunks(10).open();
    assert!(stream.is_held());
    while !stream.is_forwarded() {
        assert!(stream.send_chunk());
    }
    assert!(!stream.send_chunk(), "it went before its last piece");
    stream.finish().expect_forwarded();
}

#[test]
fn a_client_that_leaves_in_the_middle_asks_nobody() {
    let stage = stage();
    let mut stream = stage.chat("llama-70b").in_chunks(10).open();
    stream.send_chunk();
    let outcome = stream.abort();
    assert!(outcome.forwarded_body().is_empty());
    assert_eq!(stage.decisions(), []);
}

#[test]
fn a_form_may_come_in_any_pieces() {
    let stage = stage();
    let form = [
        &b"--XX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n"[..],
        &(0..=255).collect::<Vec<u8>>(),
        b"\r\n--XX\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nllama-whisper\r\n--XX--\r\n",
    ]
    .concat();
    for size in (1..form.len()).step_by(7) {
        let request = stage
            .post("/v1/audio/transcriptions")
            .header("content-type", "multipart/form-data; boundary=XX");
        let outcome = request.body(&form).in_chunks(size).send();
        outcome
            .expect_forwarded()
            .header("x-tollgate-target", "whisper")
            .body(&form);
        assert_eq!(routed(&outcome).model, "llama-whisper");
    }
}

#[test]
fn a_long_body_is_no_trouble() {
    let stage = stage();
    let mut body = chat("llama-70b");
    body["metadata"] = json!({"notes": "x".repeat(3 << 20)});
    let outcome = stage.post(CHAT).json(&body).in_chunks(16 << 10).send();
    outcome.expect_forwarded().header("x-tollgate-target", "llama");
}

#[test]
fn a_body_of_many_small_values_takes_a_few_times_its_size() {
    const SIZE: usize = 1 << 20;
    let stage = stage();
    let vm = stage.workers[0].vm();
    let before = vm.memory();
    let list = |items: usize| format!("[{}]", vec!["1"; items].join(","));
    let values = [r#""a""#, r#"{"":1}"#, r#"{"a":{"b":[]}}"#].map(str::to_owned);
    for value in values.into_iter().chain([1, 5, 9, 17, 33].map(list)) {
        let many = vec![value.as_str(); SIZE / (value.len() + 1)].join(",");
        // A place where the gateway writes.
        let body = format!(r#"{{"model":"llama-70b","stream":true,"stream_options":{{"x":[{many}]}}}}"#);
        let request = stage.known(stage.workers[0].post(CHAT));
        let outcome = request
            .header("content-type", "application/json")
            .body(body.as_bytes())
            .send();
        assert_eq!(
            routed(&outcome).ask_usage.unwrap().text,
            r#""include_usage":true,"#
        );
        let grown = vm.memory() - before;
        assert!(grown <= 6 * body.len(), "{value}: {grown} bytes");
    }
}
