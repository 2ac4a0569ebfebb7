//! Compressed bodies: what clients send is decoded, and goes on as it is read; what is not decoded here goes nowhere.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};

use crate::uploads::{CHAT, Stage, chat};

const MIB: usize = 1024 * 1024;

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap().into()
}

fn zstd(body: &[u8]) -> Bytes {
    compress_to_vec(body, CompressionLevel::Fastest).into()
}

#[tokio::test]
async fn compressed_bodies_go_on_decoded() {
    let stage = Stage::new(json!({})).await;
    let key = &stage.keys[0];
    // The second is edited as well: a stream is asked for its usage.
    let plain = chat(100_000);
    let stream = Bytes::from(r#"{"model":"llama-70b","max_tokens":2,"stream":true,"messages":[]}"#);
    for (coding, coded, body) in [
        ("gzip", gzip(&plain), &plain),
        ("X-Gzip", gzip(&plain), &plain),
        ("zstd", zstd(&plain), &plain),
        ("identity", plain.clone(), &plain),
        ("gzip", gzip(&stream), &stream),
        ("zstd", zstd(&stream), &stream),
    ] {
        for http2 in [false, true] {
            let request = stage
                .gateway
                .post(CHAT)
                .key(key)
                .header("content-encoding", coding);
            let request = if http2 { request.http2() } else { request };
            request.body(coded.clone()).send().await.expect(200);
            let seen = stage.models.seen();
            let seen = seen.last().unwrap();
            assert_eq!(seen.header("content-encoding"), None, "{coding}");
            let length = seen.header("content-length").unwrap();
            assert_eq!(length, seen.body.len().to_string(), "{coding}");
            let mut read: Value = serde_json::from_slice(&seen.body).unwrap();
            let asked = read.as_object_mut().unwrap().remove("stream_options");
            assert_eq!(asked.is_some(), body == &stream, "{coding}");
            assert_eq!(read, serde_json::from_slice::<Value>(body).unwrap(), "{coding}");
        }
    }
    // Without a length, and in pieces.
    let coded = gzip(&plain);
    let pieces: Vec<_> = coded.chunks(50).map(Bytes::copy_from_slice).collect();
    let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let request = stage
        .gateway
        .post(CHAT)
        .key(key)
        .header("content-encoding", "gzip");
    let reply = request.body(reqwest::Body::wrap_stream(pieces)).send().await;
    reply.expect(200);
    assert_eq!(stage.models.seen().last().unwrap().body, plain);
}

#[tokio::test]
async fn other_encodings_are_refused_by_name() {
    let stage = Stage::new(json!({})).await;
    let key = &stage.keys[0];
    let body = chat(200);
    for coding in [
        "br",
        "deflate",
        "compress",
        "gzip, gzip",
        "gzip,identity",
        "identity, gzip",
        "gzip;q=1",
        "aes128gcm",
    ] {
        for http2 in [false, true] {
            let request = stage
                .gateway
                .post(CHAT)
                .key(key)
                .header("content-encoding", coding);
            let request = if http2 { request.http2() } else { request };
            let reply = request.body(gzip(&body)).send().await.expect(415);
            let reply = reply.code("unsupported_media_type").kind("invalid_request_error");
            reply
                .says(&format!("`{coding}`"))
                .has("accept-encoding", "gzip, zstd");
        }
    }
    let request = stage.gateway.post(CHAT).key(key);
    let twice = request
        .header("content-encoding", "gzip")
        .header("content-encoding", "zstd");
    twice
        .body(gzip(&body))
        .send()
        .await
        .expect(415)
        .code("unsupported_media_type");
    let form = stage.gateway.post("/v1/audio/transcriptions").key(key);
    let form = form.header("content-type", "multipart/form-data; boundary=x");
    let reply = form
        .header("content-encoding", "br")
        .body("--x--\r\n")
        .send()
        .await;
    reply.expect(415).says("`br`");
    let anthropic = stage
        .gateway
        .post("/v1/messages")
        .key(key)
        .header("content-encoding", "br");
    let reply = anthropic.body(body).send().await;
    reply.expect(415).anthropic("invalid_request_error").says("`br`");
    assert_eq!(stage.models.seen().len(), 0);
}

#[tokio::test]
async fn what_is_decoded_is_bounded() {
    let stage = Stage::new(json!({"bytes": {"key": "4MiB"}, "body": "3MiB"})).await;
    let post = async |coding: &str, body: Bytes| {
        let request = stage.gateway.post(CHAT).key(&stage.keys[0]);
        request.header("content-encoding", coding).body(body).send().await
    };
    let bomb = chat(5 * MIB / 2);
    for (coding, coded) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
        let reply = post(coding, coded).await;
        reply
            .expect(413)
            .code("request_too_large")
            .says("100 times its size");
    }
    // Text that compresses less comes to the limit.
    let mut text = chat(3 * MIB + 1).to_vec();
    let at = text.iter().position(|byte| *byte == b'x').unwrap();
    for (number, piece) in text[at..3 * MIB - 100].chunks_exact_mut(8).enumerate() {
        piece.copy_from_slice(format!("{:08}", number * 7_919 % 99_999_989).as_bytes());
    }
    for (coding, coded) in [("gzip", gzip(&text)), ("zstd", zstd(&text))] {
        let reply = post(coding, coded).await;
        reply
            .expect(413)
            .code("request_too_large")
            .says("the limit is 3145728 bytes");
    }
    for (coding, coded) in [("gzip", gzip(&chat(300))), ("zstd", zstd(&chat(300)))] {
        post(coding, coded.clone()).await.expect(200);
        let broken = coded.slice(..coded.len() - 3);
        let reply = post(coding, broken).await;
        reply.expect(400).code("invalid_json").says(coding);
        // It says that it is compressed, and is not.
        post(coding, chat(300)).await.expect(400).code("invalid_json");
    }
}
