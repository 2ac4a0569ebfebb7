//! Headers pass in neither direction by which a client would be believed as a proxy is, or a model server as the gateway.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tollgate_harness::Catalogue;
use tollgate_harness::models::Fault;

use crate::stage::{CHAT, MESSAGES, Stage, chat};

/// What an attacker would have read on the other side.
const MARK: &str = "forged";

/// By which a client would lie about where it is, what it asks for, and who it is; and what is for proxies, or for what
/// routes among replicas, alone.
const FROM_CLIENTS: [&str; 78] = [
    "true-client-ip",
    "cf-connecting-ip",
    "x-client-ip",
    "x-real-ip",
    "fastly-client-ip",
    "x-cluster-client-ip",
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-user",
    "via",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-host",
    "proxy",
    "proxy-authorization",
    "cookie",
    "x-goog-api-key",
    "x-tollgate-org",
    "x-tollgate-model",
    "x-envoy-original-path",
    "x-request-id",
    "x-real_ip",
    "x-auth-request-user",
    "x-auth-request-email",
    "x-auth-request-groups",
    "x-auth-user",
    "x-auth-token",
    "x-goog-iap-jwt-assertion",
    "x-goog-authenticated-user-email",
    "x-ms-client-principal",
    "x-ms-client-principal-name",
    "x-ms-token-aad-id-token",
    "ssl-client-verify",
    "ssl-client-s-dn",
    "x-ssl-client-cert",
    "x-ssl-client-verify",
    "x-client-cert",
    "x-client-dn",
    "x-client-verify",
    "x-litellm-tags",
    "x-litellm-spend-logs-metadata",
    "x-remote-user",
    "remote-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-webauth-user",
    "x-amzn-oidc-identity",
    "x-amzn-oidc-data",
    "cf-access-authenticated-user-email",
    "cf-access-jwt-assertion",
    "tailscale-user-login",
    "tailscale-user-name",
    "x-original-method",
    "x-original-host",
    "x-http-method-override-x",
    "x-b3-traceid",
    "b3",
    "baggage",
    "x-user-id",
    "x-user",
    "x-tenant-id",
    "x-scope-orgid",
    "x-consumer-username",
    "x-authentik-username",
    "iv-user",
    "sm-user",
    "x-data-parallel-rank",
    "x-gateway-destination-endpoint",
    "idempotency-key",
    "origin",
];

/// By which a model server would speak as the gateway, to its customers or to what stands between.
const FROM_MODELS: [&str; 41] = [
    "set-cookie",
    "alt-svc",
    "strict-transport-security",
    "via",
    "server",
    "location",
    "refresh",
    "link",
    "www-authenticate",
    "clear-site-data",
    "nel",
    "report-to",
    "content-security-policy",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "openai-organization",
    "openai-project",
    "openai-version",
    "openai-processing-ms",
    "anthropic-organization-id",
    "x-request-id",
    "request-id",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-limit-input-tokens",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-input-tokens-limit",
    "ratelimit",
    "ratelimit-policy",
    "x-tollgate-model",
    "x-tollgate-route",
    "x-tollgate-own-answer",
    "x-envoy-upstream-service-time",
    "x-envoy-decorator-operation",
    "x-envoy-ratelimited",
    "cf-ray",
    "x-powered-by",
    "x-accel-redirect",
    "x-litellm-model-api-base",
    "grpc-status",
    "grpc-message",
];

fn marked(names: &'static [&'static str]) -> impl Iterator<Item = (&'static str, &'static str)> {
    names.iter().map(|name| (*name, MARK))
}

#[tokio::test]
async fn a_client_is_not_believed_as_a_proxy_is() {
    let stage = Stage::start().await;
    for http2 in [false, true] {
        for path in [CHAT, MESSAGES] {
            let mut request = stage.ask(path);
            for (name, value) in marked(&FROM_CLIENTS) {
                request = request.header(name, value);
            }
            let request = request
                .header("traceparent", "passes")
                .header("x-stainless-lang", "passes");
            let request = if http2 { request.http2() } else { request };
            request.send().await.expect(200);
            let seen = stage.models.seen().pop().unwrap();
            for (name, value) in &seen.headers {
                assert!(!value.contains(MARK), "{name}: {value}");
            }
            for name in ["traceparent", "x-stainless-lang"] {
                assert_eq!(seen.header(name), Some("passes"), "{name}");
            }
        }
    }
}

/// Servers that go by the first address of the list would take a client for whom it likes.
#[tokio::test]
async fn a_model_server_sees_the_address_that_envoy_trusts() {
    let stage = Stage::start().await;
    let ask = async |forwarded: Option<&str>| {
        let mut request = stage.ask(CHAT);
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        request.send().await.expect(200);
        let seen = stage.models.seen().pop().unwrap();
        let address = seen.header("x-forwarded-for").unwrap_or_default();
        address.parse::<std::net::IpAddr>().unwrap()
    };
    ask(None).await;
    for forged in ["1.2.3.4", "1.2.3.4, 5.6.7.8", "<script>, unknown, \"x", ","] {
        assert!(ask(Some(forged)).await.is_loopback(), "{forged}");
    }
}

/// What a provider bills otherwise than the catalogue says.
#[tokio::test]
async fn no_header_takes_another_price() {
    const LONG: &str = "context-1m-2025-08-07";
    let ask = async |stage: &Stage, betas: &str| {
        let request = stage.ask(MESSAGES).header("anthropic-beta", betas);
        request.send().await
    };
    let stage = Stage::start().await;
    for betas in [
        LONG,
        "files-api-2025-04-14,context-1m-2025-08-07",
        "fast-mode-2026-02-01",
    ] {
        let refused = ask(&stage, betas).await.expect(400);
        assert!(refused.text().contains("anthropic-beta"), "{}", refused.text());
    }
    ask(&stage, "files-api-2025-04-14").await.expect(200);
    let stage = Stage::with(|options| {
        let mut router = Catalogue::new().configuration();
        router["allow_headers"] = json!(["anthropic-beta", "x-tests-*"]);
        options.router(router)
    })
    .await;
    ask(&stage, LONG).await.expect(200);
}

#[tokio::test]
async fn a_model_server_is_not_believed_as_the_gateway_is() {
    let stage = Stage::with(|options| options.own_limits().unbroken()).await;
    let passes = [
        ("x-model-says", "passes"),
        ("x-should-retry", "false"),
        ("content-language", "en"),
    ];
    stage.models.set_headers(marked(&FROM_MODELS).chain(passes));
    let faults = [
        Fault::default(),
        Fault::status(400),
        // Not 429 and 503: then the target is left alone for a while.
        Fault {
            retry_after: Some("7".into()),
            ..Fault::status(500)
        },
    ];
    for fault in faults {
        stage.models.set_fault(fault.clone());
        for (path, stream, http2) in [
            (CHAT, false, false),
            (CHAT, true, true),
            (MESSAGES, false, true),
            (MESSAGES, true, false),
        ] {
            let mut body = chat();
            body["stream"] = json!(stream);
            let request = stage.gateway.post(path).key(&stage.key).json(body);
            let request = if http2 { request.http2() } else { request };
            let reply = request.send().await.expect(fault.status.unwrap_or(200));
            for (name, value) in &reply.headers {
                assert!(value != MARK, "{name} is the model server's: {reply:#?}");
            }
            for (name, value) in passes {
                assert_eq!(reply.header(name), Some(value), "{reply:#?}");
            }
            // The gateway's own are there, once each.
            for name in [
                "x-request-id",
                "request-id",
                "openai-organization",
                "openai-version",
                "openai-processing-ms",
                "x-tollgate-model",
                "x-tollgate-route",
                "x-ratelimit-limit-requests",
                "server",
            ] {
                assert_eq!(
                    reply.headers.get_all(name).iter().count(),
                    1,
                    "{name}: {reply:#?}"
                );
            }
            assert_eq!(reply.header("retry-after"), fault.retry_after.as_deref());
            assert_eq!(reply.header("x-tollgate-model"), Some("llama-70b"));
        }
    }
}

/// What no list has, as the name itself or as any value, does not go on; what an operator allows does, and what SDKs send.
#[tokio::test]
async fn nothing_but_what_is_known_or_allowed_reaches_a_model_server() {
    let stage = Stage::with(|options| {
        let mut router = Catalogue::new().configuration();
        router["allow_headers"] = json!(["x-session-id", "x-ours-*"]);
        options.router(router)
    })
    .await;
    let secret = stage.key.reveal().to_owned();
    for http2 in [false, true] {
        let request = stage
            .ask(CHAT)
            .header(&secret.to_lowercase(), MARK)
            .header("x-anything", &secret)
            .header("openai-api-key", &secret)
            .header("x-session", MARK)
            .header("x-our", MARK)
            .header("x-session-id", "passes")
            .header("x-ours-1", "passes")
            .header("x-stainless-retry-count", "passes")
            .header("x-client-request-id", "passes")
            .header("anthropic-version", "passes")
            .header("accept-language", "passes");
        let request = if http2 { request.http2() } else { request };
        request.send().await.expect(200);
        let seen = stage.models.seen().pop().unwrap();
        let text = format!("{:?}", seen.headers);
        assert!(!text.contains(MARK) && !text.contains(&secret), "{text}");
        assert!(!text.contains(&secret.to_lowercase()), "{text}");
        for name in [
            "x-session-id",
            "x-ours-1",
            "x-stainless-retry-count",
            "x-client-request-id",
            "anthropic-version",
            "accept-language",
        ] {
            assert_eq!(seen.header(name), Some("passes"), "{name}: {text}");
        }
    }
}

/// Answers every request of a connection with hints before the answer and trailers behind it that say what headers may
/// not.
async fn answer_with_more(mut stream: TcpStream) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let len = stream.read(&mut piece).await?;
        if len == 0 {
            return Ok(());
        }
        read.extend_from_slice(&piece[..len]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().ok())?
        });
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        read.clear();
        let trailers: String = FROM_MODELS
            .iter()
            .map(|name| format!("{name}: {MARK}\r\n"))
            .collect();
        let body = json!({"id": "a", "object": "chat.completion", "choices": []}).to_string();
        let answer = format!(
            "HTTP/1.1 103 Early Hints\r\nset-cookie: {MARK}\r\nlink: {MARK}\r\n\r\n\
             HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\
             {trailers}x-other: {MARK}\r\n\r\n",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}

#[tokio::test]
async fn nor_is_it_in_hints_or_trailers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_with_more(stream));
        }
    });
    // Envoy drops trailers of HTTP/1.1 unless told, and has none of them in its files.
    let stage = Stage::with(|options| {
        options
            .llama(addr)
            .edit(
                "clusters.yaml",
                "explicit_http_config: {http_protocol_options: {}}",
                "explicit_http_config: {http_protocol_options: {enable_trailers: true}}",
            )
            .edit(
                "listener.yaml",
                "server_name: tollgate",
                "http_protocol_options: {enable_trailers: true}\n        server_name: tollgate",
            )
    })
    .await;
    let body = chat().to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nte: trailers\r\n\r\n{body}",
        stage.key.reveal(),
        body.len()
    );
    let mut stream = TcpStream::connect(stage.gateway.addr()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // Behind the last chunk, a line of its own ends the trailers.
    while !answer.contains("\r\n0\r\n") || !answer.ends_with("\r\n\r\n") {
        let mut piece = [0; 4096];
        let len = timeout(Duration::from_secs(10), stream.read(&mut piece)).await;
        let len = len.unwrap_or_else(|_| panic!("no end: {answer}")).unwrap();
        assert_ne!(len, 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&piece[..len]));
    }
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("chat.completion"), "{answer}");
    assert!(!answer.contains(MARK), "{answer}");
}
