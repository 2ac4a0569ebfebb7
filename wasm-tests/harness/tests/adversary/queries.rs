//! Queries: credentials, which clients of other providers send so, and what a server would read in the body's place.

use tollgate_harness::raw;

use crate::stage::{CHAT, Stage};

#[tokio::test]
async fn a_credential_in_a_query_goes_no_further() {
    let stage = Stage::start().await;
    let key = stage.key.reveal().to_owned();
    for (query, left) in [
        (format!("key={key}"), ""),
        (
            "api-version=2024-10-21&api_key=theirs".into(),
            "?api-version=2024-10-21",
        ),
        (format!("beta=true&x={key}"), "?beta=true"),
        ("%61ccess_token=theirs;beta=true".into(), "?beta=true"),
        (
            "client_secret=theirs&PassWord=theirs&beta=true".into(),
            "?beta=true",
        ),
        ("sig=theirs;X-Amz-Signature=theirs;id_token=theirs".into(), ""),
        ("refresh_token=theirs&key[]=theirs&key%5b0%5d=theirs".into(), ""),
        (format!("api-version={key}&beta={}", key.to_uppercase()), ""),
        ("beta=true".into(), "?beta=true"),
    ] {
        stage.ask(&format!("{CHAT}?{query}")).send().await.expect(200);
        let seen = stage.models.seen().pop().unwrap();
        assert_eq!(seen.path, format!("{CHAT}{left}"), "{query}");
    }
    // It is no credential here.
    let request = stage.gateway.post(&format!("{CHAT}?key={key}"));
    request
        .json(crate::stage::chat())
        .send()
        .await
        .expect(401)
        .code("missing_api_key");
    let log = stage.gateway.access_log().text();
    assert!(!log.contains(&key) && !log.contains("theirs"), "{log}");
}

/// Frameworks that look into the query first, or into query and body alike (Flask's `request.values`, PHP's `$_REQUEST`),
/// see no other request than the gateway read.
#[tokio::test]
async fn no_query_says_what_the_body_says() {
    let stage = Stage::start().await;
    for query in [
        "model=secret",
        "stream=true&n=100",
        "max_tokens=1000000;beta=true",
        "beta=true;max_tokens=1000000",
        "%6dodel=secret&Model=secret&model[]=secret",
        "beta=true%26model=secret&beta=true?model=secret",
        "_method=DELETE&callback=x&session_hash=x&fn_index=1",
        "?model=secret",
        "/v1/models?model=secret",
        "beta=true&",
    ] {
        for http2 in [false, true] {
            let path = format!("{CHAT}?{query}");
            let ask = stage.ask(&path);
            let ask = if http2 { ask.http2() } else { ask };
            ask.send().await.expect(200);
            let seen = stage.models.seen().pop().unwrap();
            let left = seen.path.strip_prefix(CHAT).unwrap();
            assert!(
                ["", "?beta=true", "?beta=true&"].contains(&left),
                "{query}: {left}"
            );
        }
    }
    // What is no UTF-8 either.
    let body = crate::stage::chat().to_string();
    let head = [
        format!("POST {CHAT}?beta=true&x=").as_bytes(),
        b"\xff\xfe&key=theirs&max_tokens=9 HTTP/1.1\r\nhost: x\r\n",
        format!(
            "authorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            stage.key.reveal(),
            body.len()
        )
        .as_bytes(),
    ]
    .concat();
    let before = stage.models.seen().len();
    let reply = raw::exchange(stage.gateway.addr(), &head, std::time::Duration::from_secs(10)).await;
    let status = reply.expect_any().status;
    assert!(status == 200 || status == 400, "{status}");
    for seen in stage.models.seen().iter().skip(before) {
        assert_eq!(seen.path, format!("{CHAT}?beta=true"));
    }
}
