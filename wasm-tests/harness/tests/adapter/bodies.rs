//! Bodies: every provider gets the client's own, with its name of the model and no other change.

use serde_json::json;
use tollgate_harness::models::Fault;

use crate::stage::Stage;

const MIB: usize = 1024 * 1024;

/// A chat of just this size, the model's name at its end. The filler is where it costs no tokens.
fn chat(size: usize) -> Vec<u8> {
    let (before, behind) = (
        r#"{"messages":[],"metadata":{"text":""#,
        r#""},"model":"llama-70b"}"#,
    );
    let filler = size - before.len() - behind.len();
    [
        before.as_bytes(),
        &b"lorem ipsum ".repeat(filler / 12 + 1)[..filler],
        behind.as_bytes(),
    ]
    .concat()
}

/// A form with a file of just this size, before or behind the model's name.
fn form(size: usize, model: &str, file_first: bool) -> Vec<u8> {
    let field =
        |name: &str| format!("--XX\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes();
    let file: Vec<u8> = (0..size).map(|at| (at * at / 7) as u8).collect();
    let file = [&field("file\"; filename=\"a.wav")[..], &file, b"\r\n"].concat();
    let model = [&field("model")[..], model.as_bytes(), b"\r\n"].concat();
    let parts = if file_first { [file, model] } else { [model, file] };
    [&parts.concat()[..], b"--XX--\r\n"].concat()
}

/// The only place where the two differ holds these.
fn expect_only_change(old: &[u8], new: &[u8], from: &str, to: &str) {
    let at = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(|(old, new)| old == new)
        .count();
    assert_eq!(old.len() + to.len(), new.len() + from.len());
    // What the two names have in common at an end counts as unchanged.
    let (old, new) = (
        &old[at..(old.len() - tail).max(at)],
        &new[at..(new.len() - tail).max(at)],
    );
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    assert!(
        from.contains(&*old) && to.contains(&*new),
        "{old:?} became {new:?}"
    );
}

#[tokio::test]
async fn json_of_every_size() {
    let stage = Stage::start().await;
    stage.first.set_fault(Fault::status(503));
    let sizes = [
        200,
        4 * 1024,
        16 * 1024 + 1,
        100_000,
        MIB - 1,
        MIB + 1,
        10 * MIB,
        32 * MIB,
    ];
    for size in sizes {
        let body = chat(size);
        let request = stage
            .post("/v1/chat/completions")
            .header("content-type", "application/json");
        request.body(body.clone()).send().await.expect(200);
        let (first, second) = (
            stage.first.seen().pop().unwrap(),
            stage.second.seen().pop().unwrap(),
        );
        expect_only_change(&body, &first.body, "llama-70b", "first/70b");
        expect_only_change(&body, &second.body, "llama-70b", "the second's name of llama-70b");
        for seen in [first, second] {
            assert_eq!(
                seen.header("content-length"),
                Some(seen.body.len().to_string().as_str()),
                "{size}"
            );
        }
        stage.first.ledger().clear();
        stage.second.ledger().clear();
    }
}

#[tokio::test]
async fn forms_of_every_size() {
    let stage = Stage::start().await;
    stage.first.set_fault(Fault::status(503));
    for (size, file_first) in [
        (10, false),
        (100_000, true),
        (MIB, false),
        (25 * MIB, true),
        (25 * MIB, false),
    ] {
        let request = stage.post("/v1/audio/transcriptions");
        let request = request.header("content-type", "multipart/form-data; boundary=XX");
        request
            .body(form(size, "llama-70b", file_first))
            .send()
            .await
            .expect(200);
        let (first, second) = (
            stage.first.seen().pop().unwrap(),
            stage.second.seen().pop().unwrap(),
        );
        assert!(
            first.body == form(size, "first/70b", file_first),
            "{size} {file_first}"
        );
        assert!(
            second.body == form(size, "the second's name of llama-70b", file_first),
            "{size} {file_first}"
        );
        stage.first.ledger().clear();
        stage.second.ledger().clear();
    }
}

#[tokio::test]
async fn a_body_in_pieces_and_over_http_2() {
    let stage = Stage::start().await;
    stage.first.set_fault(Fault::status(503));
    let body = chat(50_000);
    for size in [1_000, 16_384, 49_999] {
        let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
            body.chunks(size).map(|piece| Ok(piece.to_vec())).collect();
        for http2 in [false, true] {
            let pieces = pieces
                .iter()
                .map(|piece| Ok::<_, std::io::Error>(piece.as_ref().unwrap().clone()));
            let pieces = futures_util::stream::iter(pieces.collect::<Vec<_>>());
            let mut request = stage
                .post("/v1/chat/completions")
                .header("content-type", "application/json");
            if http2 {
                request = request.http2();
            }
            request
                .body(reqwest::Body::wrap_stream(pieces))
                .send()
                .await
                .expect(200);
            let second = stage.second.seen().pop().unwrap();
            expect_only_change(&body, &second.body, "llama-70b", "the second's name of llama-70b");
        }
    }
}

/// Readers differ on these: the adapter's provider may read another model than the router did.
#[tokio::test]
async fn an_ambiguous_body_goes_nowhere() {
    let stage = Stage::start().await;
    for body in [
        r#"{"model":"llama-70b","model":"gpt"}"#,
        r#"{"model":"llama-70b""#,
        "[]",
    ] {
        let request = stage
            .post("/v1/chat/completions")
            .header("content-type", "application/json");
        request.body(body).send().await.expect(400).code("invalid_json");
    }
    let request = stage
        .post("/v1/messages")
        .header("content-type", "application/json");
    request
        .body("{")
        .send()
        .await
        .expect(400)
        .anthropic("invalid_request_error");
    assert_eq!(stage.first.seen().len(), 0);
    stage
        .post("/v1/chat/completions")
        .json(json!({"model": "llama-70b", "messages": []}))
        .send()
        .await;
    assert_eq!(stage.first.seen().len(), 1);
}
