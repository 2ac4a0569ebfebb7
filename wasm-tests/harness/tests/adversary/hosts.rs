//! Which host is asked: one, that every server behind reads alike.

use std::time::Duration;

use tollgate_harness::raw;

use crate::frames;
use crate::stage::{CHAT, Stage, chat};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn one_host_goes_on_or_none() {
    let stage = Stage::start().await;
    let body = chat().to_string();
    let ask = async |line: &str, hosts: &str| {
        let head = format!(
            "{line}\r\n{hosts}authorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            stage.key.reveal(),
            body.len()
        );
        let before = stage.models.seen().len();
        let reply = raw::exchange(stage.gateway.addr(), head.as_bytes(), PATIENCE)
            .await
            .expect_any();
        let seen = stage.models.seen();
        let hosts: Option<Vec<String>> = seen.get(before).map(|seen| {
            let host = |(name, value): &(String, String)| (name == "host").then(|| value.clone());
            seen.headers.iter().filter_map(host).collect()
        });
        (reply.status, hosts)
    };
    let plain = format!("POST {CHAT} HTTP/1.1");
    for hosts in [
        "host: good\r\nhost: evil\r\n",
        "host: good\r\nhost: good\r\n",
        "host: good\r\nHost : evil\r\n",
        "host: good, evil\r\n",
        "host: good evil\r\n",
        "host: good@evil\r\n",
        "host: good/evil\r\n",
        "host: good:80:81\r\n",
        "host: good:evil\r\n",
        "host: good\r\n\tevil\r\n",
        "host:\r\n",
        "",
    ] {
        let (status, seen) = ask(&plain, hosts).await;
        assert_eq!((status, seen), (400, None), "{hosts:?}");
    }
    let key = format!("host: {}\r\n", stage.key.reveal());
    assert_eq!(ask(&plain, &key).await, (400, None));
    // What the target says counts, for all.
    let absolute = format!("POST http://good{CHAT} HTTP/1.1");
    for hosts in ["host: evil\r\n", "host: good\r\n"] {
        assert_eq!(
            ask(&absolute, hosts).await,
            (200, Some(vec!["good".to_owned()])),
            "{hosts:?}"
        );
    }
    // Envoy drops the user of a target.
    let user = format!("POST http://evil@good{CHAT} HTTP/1.1");
    assert_eq!(
        ask(&user, "host: evil\r\n").await,
        (200, Some(vec!["good".to_owned()]))
    );
    for line in [
        format!("POST http://good,evil{CHAT} HTTP/1.1"),
        format!("POST good{CHAT} HTTP/1.1"),
        format!("POST ftp://good{CHAT} HTTP/1.1"),
    ] {
        let (status, seen) = ask(&line, "host: good\r\n").await;
        assert!(
            (400..500).contains(&status) && seen.is_none(),
            "{line}: {status} {seen:?}"
        );
    }
    for hosts in ["host: good\r\n", "host: good:8080\r\n", "host: [::1]:80\r\n"] {
        let host = hosts[6..].trim().to_owned();
        assert_eq!(ask(&plain, hosts).await, (200, Some(vec![host])));
    }
}

/// What it is behind: the model server is asked over HTTP/1.1.
#[tokio::test]
async fn over_http2_the_authority_counts() {
    let stage = Stage::start().await;
    let bearer = format!("Bearer {}", stage.key.reveal());
    let request = |fields: &[(&[u8], &[u8])]| {
        let mut all: Vec<(&[u8], &[u8])> = vec![
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"/v1/models"),
            (b"authorization", bearer.as_bytes()),
        ];
        all.splice(2..2, fields.iter().copied());
        frames::request(&all)
    };
    for fields in [
        &[(&b":authority"[..], &b"good"[..]), (b":authority", b"evil")][..],
        &[(b":authority", b"good,evil")],
        &[(b":authority", b"good@evil")],
        &[(b":authority", b"good"), (b"host", b"evil"), (b"host", b"worse")],
    ] {
        raw::exchange(stage.gateway.addr(), &request(fields), Duration::from_millis(200)).await;
    }
    stage.ask(CHAT).header("host", "evil").http2().send().await;
    for seen in stage.models.seen() {
        let hosts: Vec<_> = seen.headers.iter().filter(|(name, _)| name == "host").collect();
        assert_eq!(hosts.len(), 1, "{seen:?}");
        assert!(!hosts[0].1.contains("evil"), "{seen:?}");
    }
}
