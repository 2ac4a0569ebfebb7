//! What identifies or bills is the gateway's own, whatever a client sends and however early Envoy refuses it.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;
use tollgate_harness::{Gateway, net, raw};

use crate::frames;
use crate::stage::{CHAT, MESSAGES, Stage};

/// What a client would have read in the logs; quotes, a backslash and what is no UTF-8 are tried beside it.
const MARK: &str = "forged";

/// Requests that Envoy refuses before any filter, each with headers by which it would be somebody.
fn refused_early() -> Vec<Vec<u8>> {
    let lies = lies("");
    let head = |line: &str, more: &str| format!("{line}\r\nhost: x\r\n{lies}{more}\r\n").into_bytes();
    let mut all = vec![
        head("GET /%00 HTTP/1.1", ""),
        head("GET /v1/models#fragment HTTP/1.1", ""),
        head("GET /v1/messages#fragment HTTP/1.1", ""),
        head("GET http:///v1/models HTTP/1.1", ""),
        format!("GET /v1/models HTTP/1.1\r\n{lies}\r\n").into_bytes(),
        format!("GET /v1/models HTTP/1.1\r\nhost: a b\r\n{lies}\r\n").into_bytes(),
        head("GET /v1/models HTTP/1.0", ""),
        format!("GET /v1/models HTTP/1.0\r\n{lies}\r\n").into_bytes(),
        head(
            "POST /v1/models HTTP/1.1",
            "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
        ),
        head("POST /v1/models HTTP/1.1", "transfer-encoding: gzip\r\n"),
        head(
            "POST /v1/models HTTP/1.1",
            "content-length: 1\r\ncontent-length: 2\r\n",
        ),
        head(
            "GET /v1/models HTTP/1.1",
            &format!("a: {}\r\n", "a".repeat(61 * 1024)),
        ),
        head("GET /v1/models HTTP/1.1", &"a: b\r\n".repeat(120)),
        head("GET /v1/models HTTP/1.1", "a\0: b\r\n"),
        head("GET /v1/models HTTP/1.1", "a name: b\r\n"),
        head(
            "GET /v1/models HTTP/1.1",
            "connection: upgrade\r\nupgrade: websocket\r\n",
        ),
        head("CONNECT x:443 HTTP/1.1", ""),
        head("FORGED /v1/models HTTP/1.1", ""),
        head("OPTIONS * HTTP/1.1", ""),
    ];
    for id in [
        &b"for\"ged"[..],
        b"forged\\",
        b"forged\xff\xfe",
        b"",
        b"forged\t1",
        b"{\"forged\":1}",
    ] {
        for line in ["GET /%00 HTTP/1.1", "GET /v1/models#f HTTP/1.1"] {
            let begin = format!("{line}\r\nhost: x\r\nx-request-id: ");
            all.push([begin.as_bytes(), id, b"\r\n\r\n"].concat());
        }
    }
    all.push(
        [
            b"GET /%00 HTTP/1.1\r\nhost: x\r\nx-request-id: ",
            "a".repeat(40_000).as_bytes(),
            b"\r\n\r\n",
        ]
        .concat(),
    );
    all
}

/// The lines of a client that would be somebody else.
fn lies(id: &str) -> String {
    format!(
        "x-request-id: {MARK}{id}\r\nx-tollgate-org: {MARK}\r\nx-tollgate-key-id: {MARK}\r\nx-tollgate-usage: {MARK}\r\n\
         x-tollgate-own-answer: 200 {MARK}\r\nx-tollgate-model: {MARK}\r\nx-tollgate-targets: {MARK}\r\n"
    )
}

fn refused_early_http2() -> Vec<Vec<u8>> {
    type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;
    let good: Fields<'_> = vec![
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"x"),
        (b":path", b"/v1/models"),
    ];
    let with = |at: &[u8], value: &'static [u8]| {
        let mut fields = good.clone();
        fields
            .iter_mut()
            .filter(|(name, _)| *name == at)
            .for_each(|field| field.1 = value);
        fields
    };
    let without = |at: &[u8]| {
        good.iter()
            .copied()
            .filter(|(name, _)| *name != at)
            .collect::<Fields<'_>>()
    };
    let and = |name: &'static [u8], value: &'static [u8]| [good.clone(), vec![(name, value)]].concat();
    let requests: Vec<Fields<'_>> = vec![
        good.clone(),
        with(b":path", b"/%00"),
        with(b":path", b"/v1/messages#f"),
        with(b":path", b"/v1/\xff\xfe\"\\"),
        with(b":path", b"/v1/%00\xff\xfe\"\\"),
        with(b":path", b""),
        with(b":method", b"FOR\"GED\\"),
        with(b":method", b"G\xffT"),
        with(b":authority", b""),
        with(b":authority", b"a b\"\\\xff"),
        with(b":scheme", b"for\"ged"),
        without(b":path"),
        without(b":method"),
        without(b":scheme"),
        without(b":authority"),
        and(b":path", b"/two"),
        and(b"UPPER", b"x"),
        and(b"connection", b"close"),
        and(b"te", b"gzip"),
        and(b"host", b"another"),
        and(b"content-length", b"5"),
        and(b"nul", b"a\0b"),
        and(b"line", b"a\r\nx-request-id: forged"),
    ];
    let ids: [&[u8]; 5] = [b"forged", b"for\"ged\\", b"forged\xff", b"", b"forged, forged"];
    let mut all = Vec::new();
    for fields in requests {
        for id in ids {
            let more: Fields<'_> = vec![(b"x-request-id", id), (b"x-tollgate-org", b"forged")];
            all.push(frames::request(&[fields.clone(), more].concat()));
        }
    }
    all
}

/// Every line of a log, as what it is.
fn parsed(lines: &str) -> Vec<Value> {
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in this line:\n{line}"));
    lines.lines().map(parse).collect()
}

/// A UUID as Envoy writes it.
fn is_own(id: &str) -> bool {
    let form = |(at, c): (usize, char)| match at {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_digit() || ('a'..='f').contains(&c),
    };
    id.len() == 36 && id.chars().enumerate().all(form)
}

/// Sees that each line of each log is JSON with an id of its own, and gives the ids.
async fn own_ids(gateway: &Gateway) -> [HashSet<String>; 2] {
    let records = gateway.usage_records().await;
    // Each log is flushed by itself.
    let access = net::eventually("the access log is written", async || {
        let text = gateway.access_log().text();
        (text.matches('\n').count() >= records.len()).then_some(text)
    })
    .await;
    let usage = gateway.usage_log().lines().join("\n");
    let ids = |text: &str, member: &str| {
        let mut ids = HashSet::new();
        for line in parsed(text) {
            let id = line[member]
                .as_str()
                .unwrap_or_else(|| panic!("no id: {line}"))
                .to_owned();
            assert!(is_own(&id), "not an id of the gateway's: {line}");
            for name in [
                "org", "key", "key_id", "project", "tier", "model", "route", "cluster", "outcome",
            ] {
                let value = line.get(name).map_or_else(String::new, Value::to_string);
                assert!(!value.contains(MARK), "{name} is a client's: {line}");
            }
            assert!(ids.insert(id), "a second line with this id: {line}");
        }
        ids
    };
    assert!(!usage.contains(MARK), "{usage}");
    [ids(&usage, "id"), ids(&access, "request_id")]
}

#[tokio::test]
async fn a_log_line_is_json_with_an_id_of_the_gateways_own() {
    let stage = Stage::start().await;
    let mut answered = HashSet::new();
    for request in refused_early() {
        let answer = raw::exchange(stage.gateway.addr(), &request, Duration::from_secs(10)).await;
        let reply = answer.expect_any();
        assert!(reply.status >= 400, "{}", String::from_utf8_lossy(&request));
        reply.error();
        let ids: Vec<_> = reply.headers.get_all("x-request-id").iter().collect();
        assert_eq!(ids.len(), 1, "{reply:#?}");
        let id = reply.request_id().unwrap().to_owned();
        assert_eq!(reply.header("request-id"), Some(id.as_str()), "{reply:#?}");
        assert!(is_own(&id), "{reply:#?}");
        assert!(!format!("{reply:?}").contains(MARK), "{reply:#?}");
        assert!(answered.insert(id), "an id twice: {reply:#?}");
    }
    let [usage, access] = own_ids(&stage.gateway).await;
    assert_eq!(usage, answered, "the answer's id is the record's");
    assert_eq!(access, answered, "the answer's id is the access log's");
}

#[tokio::test]
async fn over_http2_too() {
    let stage = Stage::start().await;
    for request in refused_early_http2() {
        raw::exchange(stage.gateway.addr(), &request, Duration::from_millis(100)).await;
    }
    // Left in the middle of its headers, it has no answer, and an id all the same.
    let half = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-request-id: forged";
    raw::exchange(stage.gateway.addr(), half, Duration::from_millis(100)).await;
    for path in ["/%00", CHAT, MESSAGES] {
        for http2 in [false, true] {
            let ask = stage
                .ask(path)
                .header("x-request-id", MARK)
                .header("x-tollgate-org", MARK);
            let reply = if http2 { ask.http2() } else { ask }.send().await;
            assert!(is_own(reply.request_id().unwrap()), "{reply:#?}");
            assert_eq!(reply.header("request-id"), reply.request_id());
        }
    }
    for seen in stage.models.seen() {
        assert!(is_own(seen.request_id.as_deref().unwrap()), "{seen:?}");
    }
    let [usage, _] = own_ids(&stage.gateway).await;
    assert!(usage.len() > 20, "{}", usage.len());
}

#[tokio::test]
async fn the_id_of_a_real_request_cannot_be_taken() {
    let stage = Stage::start().await;
    let id = stage
        .ask(CHAT)
        .send()
        .await
        .expect(200)
        .request_id()
        .unwrap()
        .to_owned();
    for line in [
        "GET /%00 HTTP/1.1",
        "GET /v1/models#f HTTP/1.1",
        "GET /v1/models HTTP/1.1",
    ] {
        for host in ["host: x\r\n", ""] {
            let head = format!("{line}\r\n{host}x-request-id: {id}\r\n\r\n");
            let answer = raw::exchange(stage.gateway.addr(), head.as_bytes(), Duration::from_secs(10)).await;
            assert_ne!(answer.expect_any().request_id(), Some(id.as_str()));
        }
    }
    let [usage, access] = own_ids(&stage.gateway).await;
    assert!(usage.contains(&id) && access == usage);
}

/// Envoy gives a client that asks to be traced its own id back, behind every filter and mapper. No log has it.
#[tokio::test]
async fn a_client_that_asks_to_be_traced_forges_nothing() {
    let stage = Stage::start().await;
    let record = r#"z","org":"globex","key":"k","outcome":"complete","input_tokens":999999999,"x":""#;
    let mut answered = HashSet::new();
    for line in [
        "GET /v1/models HTTP/1.1\r\n",
        "GET /%00 HTTP/1.1\r\nhost: x\r\n",
        "GET /v1/models#f HTTP/1.1\r\nhost: x\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: x\r\n",
        "GET /v1/nothing HTTP/1.1\r\nhost: x\r\n",
    ] {
        for id in [MARK, record] {
            let head = format!("{line}x-envoy-force-trace: 1\r\nx-request-id: {id}\r\n\r\n");
            let answer = raw::exchange(stage.gateway.addr(), head.as_bytes(), Duration::from_secs(10)).await;
            let reply = answer.expect_any();
            assert!(reply.status >= 400, "{reply:#?}");
            assert!(
                answered.insert(reply.header("request-id").unwrap().to_owned()),
                "{reply:#?}"
            );
        }
    }
    let [usage, access] = own_ids(&stage.gateway).await;
    assert_eq!((&usage, &access), (&answered, &answered));
}
