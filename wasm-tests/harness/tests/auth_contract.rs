//! Every answer of key-auth, as a customer gets it from a real Envoy: both APIs' shapes, both versions of HTTP; what
//! the model server sees of a request that passed; and what a client cannot make the gateway believe.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::{ANTHROPIC, OPENAI, assert_no_vm_broke, chat, lane};
use tollgate_core::key::ApiKey;
use tollgate_harness::client::{ApiError, Request};
use tollgate_harness::directory::mint;
use tollgate_harness::models::{ModelServer, Seen};
use tollgate_harness::{Directory, Gateway, Options, Reload, Reply, net};

/// More failures than any test makes.
const UNLIMITED: &str = "60000/minute";

/// A gateway with two model servers and a directory.
struct Stack {
    gateway: Gateway,
    llama: ModelServer,
    gpt_oss: ModelServer,
}

impl Stack {
    async fn start(directory: &Directory, change: impl FnOnce(Options) -> Options) -> Self {
        let llama = ModelServer::start().await.unwrap();
        let gpt_oss = ModelServer::start().await.unwrap();
        let options = Options::new()
            .llama(llama.addr())
            .gpt_oss(gpt_oss.addr())
            .key_auth(unlimited(directory));
        let gateway = change(options).start().await;
        Self {
            gateway,
            llama,
            gpt_oss,
        }
    }

    /// The one request that reached a model server.
    fn only(&self) -> Seen {
        let mut seen = self.llama.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen.remove(0)
    }
}

fn unlimited(directory: &Directory) -> Value {
    let mut key_auth = directory.inline();
    key_auth["failed_auth"] = json!({"rate": UNLIMITED, "burst": 60000});
    key_auth
}

/// A row of the contract: who asks how, and what comes of it.
struct Row {
    reason: &'static str,
    headers: Vec<(&'static str, String)>,
    status: u16,
    code: &'static str,
    /// Anthropic's `error.type`.
    kind: &'static str,
}

fn row(
    reason: &'static str,
    key: Option<&str>,
    more: &[(&'static str, &str)],
    (status, code): (u16, &'static str),
) -> Row {
    let bearer = key.map(|key| ("authorization", format!("Bearer {key}")));
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    Row {
        reason,
        headers: bearer.into_iter().chain(more).collect(),
        status,
        code,
        kind: match status {
            400 => "invalid_request_error",
            401 => "authentication_error",
            403 => "permission_error",
            _ => unreachable!("no such row"),
        },
    }
}

/// A key of each kind, and each row that needs no more than a directory.
fn rows() -> (Directory, Vec<Row>) {
    let mut directory = Directory::new();
    directory.project(
        "acme",
        "archive",
        json!({"status": "suspended", "models": ["llama-*"]}),
    );
    let search = |more: Value| {
        let mut fields = json!({"org": "acme", "project": "search"});
        fields
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        fields
    };
    let mut key = |fields: Value| directory.key_with(fields).reveal().to_owned();
    let good = key(search(json!({})));
    let other = key(json!({"org": "globex"}));
    let expired = key(search(json!({"expires_at": "2020-01-01T00:00:00Z"})));
    let early = key(search(json!({"not_before": "2100-01-01T00:00:00Z"})));
    let revoked = key(search(json!({"status": "revoked"})));
    let suspended = key(search(json!({"status": "suspended"})));
    let archive = key(json!({"org": "acme", "project": "archive"}));
    let initech = key(json!({"org": "initech"}));
    let embeddings = key(search(json!({"scopes": ["embeddings"]})));
    let elsewhere = key(search(json!({"networks": ["192.0.2.0/24"]})));
    let unknown = mint();
    let typo = {
        let end = good.chars().last().unwrap();
        format!(
            "{}{}",
            &good[..good.len() - 1],
            if end == 'a' { 'b' } else { 'a' }
        )
    };

    let invalid = (401, "invalid_api_key");
    let rows = vec![
        row("missing_api_key", None, &[], (401, "missing_api_key")),
        row(
            "missing_api_key",
            None,
            &[("authorization", "Basic dXNlcjpwYXNz")],
            (401, "missing_api_key"),
        ),
        row("unknown_key", Some(unknown.reveal()), &[], invalid),
        row("unknown_key", Some("sk-proj-0123456789abcdefghij"), &[], invalid),
        row("malformed_key", Some(&typo), &[], invalid),
        row("malformed_key", Some("sk-tg-short"), &[], invalid),
        row("expired", Some(&expired), &[], invalid),
        row("not_yet_valid", Some(&early), &[], invalid),
        row("revoked", Some(&revoked), &[], invalid),
        row("revoked", None, &[("x-api-key", &revoked)], invalid),
        row("revoked", None, &[("api-key", &revoked)], invalid),
        row(
            "ambiguous_credentials",
            Some(&good),
            &[("x-api-key", &other)],
            (400, "ambiguous_credentials"),
        ),
        row(
            "ambiguous_credentials",
            None,
            &[("x-api-key", &good), ("api-key", &other)],
            (400, "ambiguous_credentials"),
        ),
        row(
            "ambiguous_credentials",
            Some(&good),
            &[("authorization", &format!("Bearer {other}"))],
            (400, "ambiguous_credentials"),
        ),
        row(
            "mismatched_organization",
            Some(&good),
            &[("openai-organization", "globex")],
            (401, "mismatched_organization"),
        ),
        row(
            "mismatched_project",
            Some(&good),
            &[("openai-project", "archive")],
            (401, "mismatched_project"),
        ),
        row(
            "mismatched_project",
            Some(&other),
            &[("openai-project", "search")],
            (401, "mismatched_project"),
        ),
        row(
            "organization_suspended",
            Some(&initech),
            &[],
            (403, "organization_suspended"),
        ),
        row(
            "project_suspended",
            Some(&archive),
            &[],
            (403, "project_suspended"),
        ),
        row("key_suspended", Some(&suspended), &[], (403, "key_suspended")),
        row(
            "insufficient_scope",
            Some(&embeddings),
            &[],
            (403, "insufficient_scope"),
        ),
        row("ip_not_allowed", Some(&elsewhere), &[], (403, "ip_not_allowed")),
        row(
            "ip_not_allowed",
            Some(&elsewhere),
            &[("x-forwarded-for", "192.0.2.7")],
            (403, "ip_not_allowed"),
        ),
    ];
    (directory, rows)
}

fn over(request: Request, http2: bool) -> Request {
    if http2 { request.http2() } else { request }
}

/// Asserts that an answer names no tenant and shows no header that only the gateway writes.
fn assert_no_tenant(reply: &Reply) {
    for name in reply.headers.keys() {
        let name = name.as_str();
        assert!(
            !name.starts_with("x-tollgate-")
                && !name.starts_with("x-envoy-")
                && name != "openai-organization",
            "{name} in {reply:#?}"
        );
    }
}

#[tokio::test]
async fn every_refusal_is_the_contracts() {
    let (directory, rows) = rows();
    let stack = Stack::start(&directory, |options| options).await;
    for row in &rows {
        for http2 in [false, true] {
            for path in [OPENAI, ANTHROPIC] {
                let mut request = stack
                    .gateway
                    .post(path)
                    .json(chat())
                    .header("x-request-id", "of-the-client");
                for (name, value) in &row.headers {
                    request = request.header(name, value);
                }
                let reply = over(request, http2).send().await.expect(row.status);
                assert_no_tenant(&reply);
                if row.status == 401 {
                    assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{reply:#?}");
                }
                let text = reply.text();
                let id = reply.request_id().unwrap().to_owned();
                assert_eq!((id.len(), id.matches('-').count()), (36, 4), "a UUID: {id}");

                let reply = match path {
                    ANTHROPIC => reply.anthropic(row.kind),
                    _ => reply.code(row.code).kind("invalid_request_error"),
                };
                if let ApiError::OpenAi { param, .. } = reply.error() {
                    assert_eq!(param, None);
                }
                // One answer for all keys that are not valid: what is shown is the key, masked.
                let presented: Vec<_> = row
                    .headers
                    .iter()
                    .filter_map(|(name, value)| {
                        let key = value.strip_prefix("Bearer ").unwrap_or(value);
                        name.ends_with("key")
                            .then_some(key)
                            .or((*name == "authorization").then_some(key))
                    })
                    .collect();
                if row.code == "invalid_api_key" {
                    let masked = match presented[0] {
                        key if key.len() < 20 => "***".to_owned(),
                        key => format!("{}***{}", &key[..8], &key[key.len() - 2..]),
                    };
                    reply.says(&format!("Incorrect API key provided: {masked}."));
                }
                for key in presented {
                    assert!(!text.contains(key), "{text}");
                }

                let record = stack.gateway.access_log().of(&id).await;
                assert_eq!(record.details, Some(format!("tollgate_{}", row.reason)));
                assert_eq!((record.status, record.path.as_deref()), (row.status, Some(path)));
                assert_eq!(
                    (record.org, record.project, record.key_id, record.tier),
                    (None, None, None, None)
                );
                assert_eq!((record.host, record.attempts), (None, 0));
            }
        }
    }
    assert_eq!(
        stack.llama.seen().len() + stack.gpt_oss.seen().len(),
        0,
        "no model was asked"
    );
    // Each was counted under its own reason, and nothing else was.
    let stats = stack.gateway.stats().await;
    let reasons: BTreeSet<_> = rows.iter().map(|row| row.reason).collect();
    for reason in reasons {
        let asked = 4 * rows.iter().filter(|row| row.reason == reason).count();
        assert_eq!(counted(&stats, "deny", reason), asked as u64, "{reason}");
    }
    assert_eq!(
        stats.sum("wasmcustom.tollgate_key_auth_requests."),
        4 * rows.len() as u64
    );
    assert_no_vm_broke(&stack.gateway).await;
}

fn counted(stats: &tollgate_harness::stats::Stats, decision: &str, reason: &str) -> u64 {
    stats.counter(&format!(
        "wasmcustom.tollgate_key_auth_requests.decision.{decision}.reason.{reason}"
    ))
}

#[tokio::test]
async fn a_chain_that_is_wrong_lets_nobody_in() {
    let mut directory = Directory::new();
    let key = directory.key("acme");
    let stack = Stack::start(&directory, Options::chain).await;
    stack
        .gateway
        .post(OPENAI)
        .key(&key)
        .json(chat())
        .send()
        .await
        .expect(200);
    // The fetcher's root where the filter's belongs: it takes the configuration, and can judge nobody.
    let file = stack.gateway.directory().join("envoy/filters/key-auth.yaml");
    let mut resource: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let config = &mut resource["resources"][0]["typed_config"]["config"];
    config["root_id"] = json!("directory");
    config["configuration"]["value"] = json!({"cluster": "directory", "path": "/"});
    assert_eq!(
        stack.gateway.set_key_auth_file(&resource.to_string()).await,
        Reload::Accepted
    );
    net::eventually("it is in force", async || {
        let reply = stack.gateway.post(OPENAI).key(&key).json(chat()).send().await;
        (reply.status == 500).then_some(())
    })
    .await;
    stack.llama.ledger().clear();
    for lane in &mut lane::lanes(&stack.gateway).await {
        let reply = lane.ask(key.reveal()).await.expect(500);
        reply.code("gateway_misconfigured").kind("server_error");
    }
    for http2 in [false, true] {
        let reply = over(stack.gateway.post(ANTHROPIC).key(&key).json(chat()), http2)
            .send()
            .await
            .expect(500);
        assert_no_tenant(&reply);
        let record = stack.gateway.access_log().of(reply.request_id().unwrap()).await;
        assert_eq!(record.details.as_deref(), Some("tollgate_misconfigured"));
        // OpenAI's shape where no header could be read is all that can be said.
        reply.kind("server_error").code("gateway_misconfigured");
    }
    assert_eq!(stack.llama.seen().len(), 0);
}

/// Every header that a model server may see, and what of the gateway's own it says.
#[tokio::test]
async fn a_model_server_sees_who_asks_and_not_with_what() {
    let mut directory = Directory::new();
    let project = directory.project_key("acme", "search");
    let org = directory.key("globex");
    let stack = Stack::start(&directory, |options| options).await;
    for http2 in [false, true] {
        for key in [&project, &org] {
            let bearer = format!("Bearer {}", key.reveal());
            let ways: [&[(&str, &str)]; 5] = [
                &[("authorization", &bearer)],
                &[("x-api-key", key.reveal())],
                &[("api-key", key.reveal())],
                &[
                    ("authorization", &bearer),
                    ("x-api-key", key.reveal()),
                    ("api-key", key.reveal()),
                ],
                &[
                    ("authorization", "Basic dXNlcjpwYXNz"),
                    ("x-api-key", key.reveal()),
                ],
            ];
            for way in ways {
                stack.llama.ledger().clear();
                let mut request = stack.gateway.post(OPENAI).json(chat());
                for (name, value) in way {
                    request = request.header(name, value);
                }
                let reply = over(request, http2).send().await.expect(200);
                let seen = stack.only();
                assert!(!format!("{seen:?}").contains(key.reveal()), "{seen:#?}");
                let names: BTreeSet<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
                assert_eq!(names.len(), seen.headers.len(), "each once: {seen:#?}");
                let mut wanted = BTreeSet::from([
                    "accept",
                    "content-length",
                    "content-type",
                    "host",
                    "x-envoy-external-address",
                    "x-forwarded-for",
                    "x-forwarded-proto",
                    "x-request-id",
                    "x-tollgate-key-id",
                    "x-tollgate-model",
                    "x-tollgate-org",
                    "x-tollgate-priority",
                    "x-tollgate-target",
                    "x-tollgate-tier",
                ]);
                if key.id() == project.id() {
                    wanted.insert("x-tollgate-project");
                }
                assert_eq!(names, wanted);
                assert_identity(&seen, key, if key.id() == project.id() { ACME } else { GLOBEX });
                assert_eq!(seen.header("x-request-id"), reply.request_id());
            }
        }
    }
    let stats = stack.gateway.stats().await;
    assert_eq!(counted(&stats, "allow", "api_key"), 20);
    assert_no_vm_broke(&stack.gateway).await;
}

type Tenant = (&'static str, Option<&'static str>, &'static str);

/// Organization, project and tier.
const ACME: Tenant = ("acme", Some("search"), "pro");
const GLOBEX: Tenant = ("globex", None, "free");

fn assert_identity(seen: &Seen, key: &ApiKey, (org, project, tier): Tenant) {
    let said = ["org", "project", "tier", "key-id"].map(|name| seen.header(&format!("x-tollgate-{name}")));
    assert_eq!(
        said,
        [Some(org), project, Some(tier), Some(key.id())],
        "{seen:#?}"
    );
}

/// Headers by which a client might try to be someone else, or to order something from Envoy.
const SPOOFED: [(&str, &str); 16] = [
    ("x-tollgate-org", "globex"),
    ("X-Tollgate-Org", "initech"),
    ("x-tollgate-project", "billing"),
    ("x-tollgate-key-id", "000000000000"),
    ("x-tollgate-tier", "enterprise"),
    ("x-tollgate-priority", "high"),
    ("x-tollgate-model", "gpt-oss-120b"),
    ("x-tollgate-target", "gpt-oss"),
    ("x-tollgate-", "evil"),
    ("x_tollgate_org", "globex"),
    ("x-envoy-retry-on", "5xx"),
    ("x-envoy-max-retries", "9"),
    ("x-envoy-original-path", "/v1/models"),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-decorator-operation", "evil"),
    ("x-envoy-internal", "true"),
];

/// Without what the listener itself drops: the filter alone.
fn bare(options: Options) -> Options {
    options
        .edit("listener.yaml", "prefix: x-tollgate-", "prefix: x-nothing-")
        .edit("listener.yaml", "prefix: x-envoy-", "prefix: x-nothing-")
        .edit(
            "listener.yaml",
            "headers_with_underscores_action: DROP_HEADER",
            "headers_with_underscores_action: ALLOW",
        )
}

#[tokio::test]
async fn nobody_can_say_who_they_are_by_a_header() {
    let mut directory = Directory::new();
    let project = directory.project_key("acme", "search");
    let org = directory.key("globex");
    let changes: [fn(Options) -> Options; 2] = [|options| options, bare];
    for change in changes {
        let stack = Stack::start(&directory, change).await;
        for http2 in [false, true] {
            for (key, tenant) in [(&project, ACME), (&org, GLOBEX)] {
                stack.llama.ledger().clear();
                let mut request = stack.gateway.post(OPENAI).key(key).json(chat());
                for (name, value) in SPOOFED {
                    request = request.header(name, value);
                }
                over(request, http2)
                    .send()
                    .await
                    .expect(200)
                    .has("openai-organization", tenant.0);
                let seen = stack.only();
                assert_identity(&seen, key, tenant);
                // What the router says of the request, and not what the client would have.
                let routed =
                    ["model", "target", "priority"].map(|name| seen.header(&format!("x-tollgate-{name}")));
                assert_eq!(routed, [Some("llama-70b"), Some("llama"), Some("default")]);
                for (name, value) in &seen.headers {
                    let known = [
                        "x-tollgate-org",
                        "x-tollgate-project",
                        "x-tollgate-key-id",
                        "x-tollgate-tier",
                        "x-tollgate-model",
                        "x-tollgate-target",
                        "x-tollgate-priority",
                    ];
                    let ours = known.contains(&name.as_str());
                    let address = name == "x-envoy-external-address";
                    let alike = name.replace('_', "-");
                    assert!(
                        ours || address || !(alike.starts_with("x-tollgate") || alike.starts_with("x-envoy")),
                        "{name}: {value} in {seen:#?}"
                    );
                }
            }
            // Without a key they are worth nothing either.
            stack.llama.ledger().clear();
            let mut request = stack.gateway.post(OPENAI).json(chat());
            for (name, value) in SPOOFED {
                request = request.header(name, value);
            }
            let reply = over(request, http2)
                .send()
                .await
                .expect(401)
                .code("missing_api_key");
            assert_no_tenant(&reply);
            let record = stack.gateway.access_log().of(reply.request_id().unwrap()).await;
            assert_eq!((record.org, record.key_id), (None, None));
            assert_eq!(stack.llama.seen().len(), 0);
        }
        assert_no_vm_broke(&stack.gateway).await;
    }
}

#[tokio::test]
async fn a_route_by_tier_goes_by_the_true_tier() {
    // Customers of the tier pro have a model server of their own.
    let by_tier = |options: Options| {
        let first = "    # Several targets, and the first attempt's";
        let route = format!(
            "    - match: {{prefix: /v1/, headers: [{{name: x-tollgate-tier, string_match: {{exact: pro}}}}]}}\n      \
             route: {{cluster: gpt-oss, timeout: 0s}}\n{first}"
        );
        options.edit("routes.yaml", first, &route)
    };
    let mut directory = Directory::new();
    let pro = directory.key("acme");
    let free = directory.key("globex");
    let changes: [fn(Options) -> Options; 2] = [|options| options, bare];
    for change in changes {
        let stack = Stack::start(&directory, |options| by_tier(change(options))).await;
        for http2 in [false, true] {
            for (key, spoof, pro) in [
                (&pro, None, true),
                (&pro, Some("free"), true),
                (&free, None, false),
                (&free, Some("pro"), false),
            ] {
                stack.llama.ledger().clear();
                stack.gpt_oss.ledger().clear();
                let mut request = stack.gateway.post(OPENAI).key(key).json(chat());
                if let Some(tier) = spoof {
                    request = request.header("x-tollgate-tier", tier);
                }
                let reply = over(request, http2).send().await.expect(200);
                let asked = (stack.gpt_oss.seen().len(), stack.llama.seen().len());
                assert_eq!(asked, if pro { (1, 0) } else { (0, 1) }, "{spoof:?}");
                let record = stack.gateway.access_log().of(reply.request_id().unwrap()).await;
                assert_eq!(
                    record.cluster.as_deref(),
                    Some(if pro { "gpt-oss" } else { "llama" })
                );
                assert_eq!(record.tier.as_deref(), Some(if pro { "pro" } else { "free" }));
            }
        }
    }
}

#[tokio::test]
async fn the_address_is_that_of_the_connection() {
    let mut directory = Directory::new();
    let home = directory.key_with(json!({"org": "acme", "networks": ["127.0.0.0/8"]}));
    let away = directory.key_with(json!({"org": "acme", "networks": ["203.0.113.0/24"]}));
    let stack = Stack::start(&directory, |options| options).await;
    for name in [
        "x-forwarded-for",
        "x-real-ip",
        "forwarded",
        "true-client-ip",
        "cf-connecting-ip",
        "x-client-ip",
        "x-envoy-external-address",
        "x-cluster-client-ip",
    ] {
        for http2 in [false, true] {
            let value = if name == "forwarded" {
                "for=203.0.113.5"
            } else {
                "203.0.113.5"
            };
            let ask = |key: &ApiKey| {
                over(
                    stack
                        .gateway
                        .post(OPENAI)
                        .key(key)
                        .json(chat())
                        .header(name, value),
                    http2,
                )
            };
            let reply = ask(&away).send().await.expect(403).code("ip_not_allowed");
            let record = stack.gateway.access_log().of(reply.request_id().unwrap()).await;
            assert_eq!(record.client.as_deref(), Some("127.0.0.1"), "{name}");
            ask(&home).send().await.expect(200);
        }
    }
}

#[tokio::test]
async fn behind_a_proxy_the_address_is_the_one_it_appended() {
    let mut directory = Directory::new();
    let home = directory.key_with(json!({"org": "acme", "networks": ["127.0.0.0/8", "::1/128"]}));
    let away = directory.key_with(json!({"org": "acme", "networks": ["203.0.113.0/24", "2001:db8::/32"]}));
    let mut key_auth = directory.inline();
    key_auth["failed_auth"] = json!({"rate": "1/hour", "burst": 3});
    let one_proxy = |options: Options| {
        options.key_auth(key_auth).edit(
            "listener.yaml",
            "xff_num_trusted_hops: 0",
            "xff_num_trusted_hops: 1",
        )
    };
    let stack = Stack::start(&directory, one_proxy).await;
    for http2 in [false, true] {
        let ask = |key: &ApiKey, forwarded: &str| {
            let request = stack
                .gateway
                .post(OPENAI)
                .key(key)
                .json(chat())
                .header("x-forwarded-for", forwarded);
            over(request, http2)
        };
        let client = async |reply: &Reply| {
            stack
                .gateway
                .access_log()
                .of(reply.request_id().unwrap())
                .await
                .client
        };
        for address in ["203.0.113.5", "2001:db8::7"] {
            let reply = ask(&away, address).send().await.expect(200);
            assert_eq!(client(&reply).await.as_deref(), Some(address));
            // What the client itself wrote stands to the left of what the proxy saw.
            let reply = ask(&away, &format!("127.0.0.1, 198.51.100.1, {address}"))
                .send()
                .await
                .expect(200);
            assert_eq!(client(&reply).await.as_deref(), Some(address));
            ask(&home, address)
                .send()
                .await
                .expect(403)
                .code("ip_not_allowed");
        }
        let reply = ask(&away, "203.0.113.5, 198.51.100.1")
            .send()
            .await
            .expect(403)
            .code("ip_not_allowed");
        assert_eq!(client(&reply).await.as_deref(), Some("198.51.100.1"));
        // A header that is no address is not believed: the connection's counts.
        ask(&away, "203.0.113.5, nonsense").send().await.expect(403);
    }
    // Failures are counted by that address, too: one customer's do not lock out another.
    let wrong = mint();
    let fail = async |address: &str| {
        let request = stack.gateway.post(OPENAI).key(&wrong).json(chat());
        request.header("x-forwarded-for", address).send().await.status
    };
    let mut failures = Vec::new();
    for _ in 0..5 {
        failures.push(fail("198.51.100.7").await);
    }
    assert_eq!(failures, [401, 401, 401, 429, 429]);
    assert_eq!(fail("198.51.100.8").await, 401);
    assert_eq!(
        fail("198.51.100.8, 198.51.100.7").await,
        429,
        "the client's own words change nothing"
    );
}

#[tokio::test]
async fn failures_of_an_address_are_limited_over_all_workers() {
    let mut directory = Directory::new();
    let key = directory.key("acme");
    let mut key_auth = directory.inline();
    key_auth["failed_auth"] = json!({"rate": "1/hour", "burst": 20});
    let stack = Stack::start(&directory, |options| options.key_auth(key_auth)).await;
    let mut lanes = lane::lanes(&stack.gateway).await;
    let mut wrong = Vec::new();
    for turn in 0..40 {
        let lane = &mut lanes[turn % 2];
        let reply = lane.ask(mint().reveal()).await;
        assert_no_tenant(&reply);
        wrong.push(reply);
        lane.ask(key.reveal()).await.expect(200);
    }
    let statuses: Vec<_> = wrong.iter().map(|reply| reply.status).collect();
    assert_eq!(
        statuses,
        [[401; 20], [429; 20]].concat(),
        "20 in all, not 20 on each worker"
    );
    let last = wrong.pop().unwrap();
    let record = stack.gateway.access_log().of(last.request_id().unwrap()).await;
    assert_eq!(record.details.as_deref(), Some("tollgate_auth_rate_limited"));
    last.code("rate_limit_exceeded")
        .kind("requests")
        .has("x-should-retry", "false")
        .lacks("retry-after");
    for http2 in [false, true] {
        for (name, value) in [
            ("authorization", ""),
            ("authorization", "Bearer sk-tg-short"),
            ("x-api-key", "guess"),
        ] {
            let ask = |path: &str| over(stack.gateway.post(path).header(name, value).json(chat()), http2);
            ask(OPENAI).send().await.expect(429).code("rate_limit_exceeded");
            ask(ANTHROPIC)
                .send()
                .await
                .expect(429)
                .anthropic("rate_limit_error");
        }
    }
    // What is wrong with a good key is not guessing.
    let request = stack.gateway.post(OPENAI).key(&key).json(chat());
    request
        .header("openai-organization", "globex")
        .send()
        .await
        .expect(401)
        .code("mismatched_organization");
    let stats = stack.gateway.stats().await;
    assert_eq!(counted(&stats, "deny", "auth_rate_limited"), 20 + 12);
    assert_no_vm_broke(&stack.gateway).await;
}

#[tokio::test]
async fn failures_that_come_all_at_once_are_limited_too() {
    let mut directory = Directory::new();
    directory.key("acme");
    let mut key_auth = directory.inline();
    key_auth["failed_auth"] = json!({"rate": "1/hour", "burst": 20});
    let stack = Stack::start(&directory, |options| options.key_auth(key_auth)).await;
    let mut attackers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        for mut lane in lane::lanes(&stack.gateway).await {
            attackers.spawn(async move {
                let mut let_in = 0;
                for _ in 0..10 {
                    let_in += u32::from(lane.ask(mint().reveal()).await.status == 401);
                }
                let_in
            });
        }
    }
    let unlimited: u32 = attackers.join_all().await.into_iter().sum();
    // Where two workers fail at once for the first time, the two may count as one.
    assert!((20..=21).contains(&unlimited), "{unlimited} of 160");
}

#[tokio::test]
async fn without_a_directory_nobody_is_told_anything_but_later() {
    let nobody = net::Refusing::new().unwrap();
    let llama = ModelServer::start().await.unwrap();
    let gateway = Options::new()
        .llama(llama.addr())
        .documents(nobody.addr())
        .start()
        .await;
    let key = mint();
    for http2 in [false, true] {
        let ask = |path: &str| over(gateway.post(path).key(&key).json(chat()), http2);
        let reply = ask(OPENAI).send().await.expect(503);
        assert_no_tenant(&reply);
        let record = gateway.access_log().of(reply.request_id().unwrap()).await;
        assert_eq!(record.details.as_deref(), Some("tollgate_directory_unavailable"));
        let reply = reply
            .code("directory_unavailable")
            .kind("service_unavailable_error");
        reply.has("retry-after", "1").has("retry-after-ms", "1000");
        ask(ANTHROPIC)
            .send()
            .await
            .expect(503)
            .anthropic("overloaded_error");
        // One without a key is no different from ever.
        over(gateway.post(OPENAI).json(chat()), http2)
            .send()
            .await
            .expect(401)
            .code("missing_api_key");
    }
    assert_eq!(llama.seen().len(), 0);
}
