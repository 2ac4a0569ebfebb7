//! `docs/usage-record.md` against what is really written: its members, its examples, and each way it shows to send
//! records elsewhere.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Deserializer, Value, json};
use tollgate_core::usage::record::Outcome;
use tollgate_harness::models::ModelServer;
use tollgate_harness::usage_log::UsageRecord;
use tollgate_harness::{Directory, Options, config, net};

const CHAT: &str = "/v1/chat/completions";

fn document() -> String {
    std::fs::read_to_string(config::repository().join("docs/usage-record.md")).unwrap()
}

/// What stands in fences of this language.
fn blocks<'d>(document: &'d str, language: &str) -> Vec<&'d str> {
    let fence = format!("```{language}\n");
    let block = |rest: &'d str| rest.split_once("```").unwrap().0;
    document.split(&fence).skip(1).map(block).collect()
}

/// Each member's row: its name, and when it is absent.
fn members(document: &str) -> Vec<(String, String)> {
    let table = document.split("## Members").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').to_owned(), cells[5].to_owned())
    })
    .collect()
}

/// The names that a record may have: it takes no others, and says so.
fn known() -> BTreeSet<String> {
    let error = serde_json::from_str::<UsageRecord>(r#"{"no such member": 1}"#).unwrap_err();
    let names = error.to_string();
    names.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_member_is_documented_and_no_other() {
    let documented: Vec<String> = members(&document()).into_iter().map(|(name, _)| name).collect();
    let set: BTreeSet<String> = documented.iter().cloned().collect();
    assert_eq!(documented.len(), set.len(), "a member twice");
    assert_eq!(set, known());
}

#[test]
fn the_examples_are_records_of_every_outcome() {
    let document = document();
    let always: Vec<String> = members(&document)
        .into_iter()
        .filter(|(_, absent)| absent == "never")
        .map(|(name, _)| name)
        .collect();
    assert!(always.len() > 5, "{always:?}");
    let mut outcomes = BTreeSet::new();
    for line in blocks(&document, "json") {
        let record: UsageRecord = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!((record.event.as_str(), record.v), ("usage", 1));
        let members: Value = serde_json::from_str(line).unwrap();
        assert!(always.iter().all(|name| members.get(name).is_some()), "{line}");
        outcomes.insert(record.outcome);
    }
    let expected = Outcome::ALL.iter().map(|outcome| Some(outcome.name().to_owned()));
    assert_eq!(outcomes, expected.chain([None]).collect());
}

/// All bytes that were sent to a collector.
type Collected = Arc<Mutex<Vec<u8>>>;

#[tokio::test]
async fn collectors_get_what_the_file_says() {
    let document = document();
    let [otlp, grpc] = blocks(&document, "yaml")[..] else {
        panic!("two loggers are documented");
    };
    // What comes does so by itself, and not because a timer has run out.
    let unbuffered = "      buffer_size_bytes: 0";
    assert!(grpc.contains(unbuffered));
    let grpc = &grpc.replace(
        unbuffered,
        &format!("{unbuffered}\n      buffer_flush_interval: 3600s"),
    );
    let (http_addr, http_got) = collector(false).await;
    let (grpc_addr, grpc_got) = collector(true).await;
    let model = ModelServer::start().await.unwrap();
    let mut directory = Directory::new();
    let key = directory.key("acme");
    let (chain, clusters) = (
        "        # --- The chain; the order matters ---",
        "# Any HTTP server or bucket",
    );
    let gateway = Options::new()
        .directory(&directory)
        .llama(model.addr())
        .unchecked_cluster("telemetry", http_addr)
        .edit(
            "clusters.yaml",
            clusters,
            &format!("{}{clusters}", http2_cluster(grpc_addr)),
        )
        .edit(
            "listener.yaml",
            chain,
            &format!("{}{}{chain}", indented(otlp), indented(grpc)),
        )
        .start()
        .await;

    let stranger = gateway.post(CHAT).json(json!({})).send().await.expect(401);
    let body = json!({"model": "llama-70b", "messages": [{"role": "user", "content": "one two three"}]});
    let served = gateway.post(CHAT).key(&key).json(body).send().await.expect(200);
    let written = gateway.record_of(&served).await;

    let lines = net::eventually("the OpenTelemetry collector has a record", async || {
        let lines = lines(&http_got.lock().unwrap());
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert_eq!(lines, [written], "the stranger's has no members of the filter's");
    assert_eq!(stranger.status, 401);

    let members = format!(",\"org\":\"acme\",\"key\":\"{}\",", key.id());
    net::eventually("the gRPC collector has the members", async || {
        contains(&grpc_got.lock().unwrap(), &members).then_some(())
    })
    .await;
    assert!(contains(&grpc_got.lock().unwrap(), served.request_id().unwrap()));
}

/// Takes whatever is sent, over HTTP/1.1 or HTTP/2.
async fn collector(http2: bool) -> (SocketAddr, Collected) {
    let collected = Collected::default();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let addr = listener.local_addr().unwrap();
    let keep = collected.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (io, keep) = (TokioIo::new(stream), keep.clone());
            let service = service_fn(move |request| take(request, keep.clone()));
            tokio::spawn(async move {
                // An error is Envoy that ends.
                let _ = if http2 {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    builder.serve_connection(io, service).await
                } else {
                    let builder = hyper::server::conn::http1::Builder::new();
                    builder.serve_connection(io, service).await
                };
            });
        }
    });
    (addr, collected)
}

/// A gRPC stream never ends: each frame is kept as it comes.
async fn take(
    mut request: Request<Incoming>,
    keep: Collected,
) -> Result<Response<Empty<&'static [u8]>>, Infallible> {
    while let Some(Ok(frame)) = request.body_mut().frame().await {
        if let Ok(data) = frame.into_data() {
            keep.lock().unwrap().extend_from_slice(&data);
        }
    }
    Ok(Response::new(Empty::new()))
}

/// The records among the bytes of a message, where they stand as text.
fn lines(message: &[u8]) -> Vec<UsageRecord> {
    let begin = br#"{"event":"usage""#;
    let starts = message
        .windows(begin.len())
        .enumerate()
        .filter(|(_, part)| part == begin);
    starts
        .map(|(at, _)| {
            let mut records = Deserializer::from_slice(&message[at..]).into_iter();
            records.next().unwrap().unwrap()
        })
        .collect()
}

fn contains(message: &[u8], text: &str) -> bool {
    message.windows(text.len()).any(|part| part == text.as_bytes())
}

/// As deep as the list in `listener.yaml` that it goes to.
fn indented(yaml: &str) -> String {
    yaml.lines().map(|line| format!("        {line}\n")).collect()
}

fn http2_cluster(addr: SocketAddr) -> String {
    format!(
        r#"- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: telemetry-grpc
  type: STATIC
  load_assignment:
    cluster_name: telemetry-grpc
    endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config: {{http2_protocol_options: {{}}}}

"#,
        addr.ip(),
        addr.port()
    )
}
