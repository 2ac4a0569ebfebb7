//! The filter among the others: it needs what they leave, and goes without it nowhere.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_vm::{Chain, Plugin, Request, Response, World};

use crate::stage::{CHAT, caller, chat, ended, load, output, record, routed, stage, stream_without_usage};
use crate::support::worker;

#[test]
fn without_an_identity_or_a_request_nothing_goes_on() {
    let stage = stage(json!([]));
    let bare = || stage.workers[0].post(CHAT).json(&chat());
    let (who, asked) = (caller("acme"), routed(&chat(), 50));
    let with = |identity: &[u8], request: &[u8]| {
        bare()
            .property(&["tollgate.identity"], identity)
            .property(&["tollgate.request"], request)
    };
    let stories: [Request; 7] = [
        bare(),
        bare().property(&["tollgate.identity"], &who),
        bare().property(&["tollgate.request"], &asked),
        with(b"", &asked),
        with(&who, b""),
        with(&who[1..], &asked),
        with(&who, &asked[..asked.len() - 1]),
    ];
    for request in stories {
        let outcome = request.in_chunks(20).send();
        outcome.expect_refused(500).code("gateway_misconfigured");
    }
    with(&who, &asked).send().expect_forwarded();
}

struct Filters {
    world: World,
    key_auth: Plugin,
    router: Plugin,
    rate_limit: Plugin,
    key: ApiKey,
}

/// The three real ones.
fn filters() -> Filters {
    let world = World::new();
    let key = ApiKey::mint(&[7; 40]);
    let row = json!({"id": "k1", "sha256": key.sha256_hex(), "org": "acme"});
    let directory = json!({"version": 1, "orgs": {"acme": {"models": ["llama-*"]}}, "keys": [row]});
    let models =
        json!({"llama-70b": {"endpoints": ["chat"], "max_output": 50, "targets": [{"cluster": "llama"}]}});
    Filters {
        key_auth: worker(&world, "key-auth", json!({"directory": {"inline": directory}})),
        router: worker(&world, "tenant-router", json!({"catalogue": {"models": models}}))
            .allow_on_headers_stop_iteration(),
        rate_limit: load(&world, json!({"limits": [output("100/minute")]})),
        world,
        key,
    }
}

impl Filters {
    fn chat(&self, chain: &Chain, body: &Value) -> Request {
        chain.post(CHAT).bearer(self.key.reveal()).json(body)
    }
}

#[test]
fn in_their_order_they_meter_a_stream_of_any_pieces() {
    let filters = filters();
    let chain = filters
        .world
        .chain(&[&filters.key_auth, &filters.router, &filters.rate_limit]);
    let body = stream_without_usage();
    for size in [1, 2, 13, 1_000] {
        for trailers in [false, true] {
            let request = filters.chat(&chain, &body).in_chunks(size);
            let request = if trailers {
                request.trailer("x-sum", "1")
            } else {
                request
            };
            let outcome = request.upstream(crate::stage::answer((3, 4))).send();
            let forwarded = outcome.expect_forwarded();
            assert_eq!(forwarded.json()["stream_options"], json!({"include_usage": true}));
            forwarded.header("content-length", forwarded.bytes().len().to_string());
            assert_eq!(ended(&outcome), ("complete".into(), (3, 4)));
            outcome
                .expect_response(200)
                .header("x-tollgate-model", "llama-70b")
                .header("x-ratelimit-limit-tokens", "100");
        }
    }
}

#[test]
fn in_another_order_they_serve_nobody() {
    let filters = filters();
    let Filters {
        key_auth,
        router,
        rate_limit,
        ..
    } = &filters;
    let orders = [
        [rate_limit, key_auth, router],
        [rate_limit, router, key_auth],
        [key_auth, rate_limit, router],
        [router, key_auth, rate_limit],
        [router, rate_limit, key_auth],
    ];
    for order in orders {
        let chain = filters.world.chain(&order);
        for body in [chat(), stream_without_usage()] {
            let outcome = filters.chat(&chain, &body).in_chunks(20).send();
            outcome.expect_refused(500).code("gateway_misconfigured");
        }
    }
}

#[test]
fn what_another_filter_refused_is_recorded_too() {
    let filters = filters();
    let chain = filters
        .world
        .chain(&[&filters.key_auth, &filters.router, &filters.rate_limit]);
    let unknown = filters
        .chat(&chain, &json!({"model": "nothing", "messages": []}))
        .send();
    unknown.expect_refused(404);
    let record = record(&unknown);
    assert_eq!(
        (&record["outcome"], &record["org"], &record["source"]),
        (&json!("refused"), &json!("acme"), &json!("nothing"))
    );
    // Nobody knows whose this is.
    let stranger = chain.post(CHAT).bearer("sk-nobody").json(&chat()).send();
    stranger.expect_refused(401);
    assert_eq!(stranger.filter_state("tollgate.usage"), None);
}

/// A limit's refusal passes the router on its way back, which says nothing of a target by it.
#[test]
fn a_refusal_is_no_failure_of_the_target() {
    let filters = filters();
    let chain = filters
        .world
        .chain(&[&filters.key_auth, &filters.router, &filters.rate_limit]);
    let first = [0, 1].map(|_| filters.chat(&chain, &chat()).start());
    for _ in 0..10 {
        filters.chat(&chain, &chat()).send().expect_refused(429);
    }
    for stream in first {
        stream
            .finish()
            .expect_forwarded()
            .header("x-tollgate-target", "llama");
    }
    filters.chat(&chain, &chat()).send().expect_forwarded();
}

/// A target that failed works again after a while; what the limits refuse meanwhile does not find that out.
#[test]
fn a_flood_of_refused_requests_takes_nobodys_probe() {
    let world = World::new();
    let [acme, globex] = [7, 8].map(|seed| ApiKey::mint(&[seed; 40]));
    let row = |key: &ApiKey, org: &str| json!({"id": key.id(), "sha256": key.sha256_hex(), "org": org});
    let directory = json!({
        "version": 1,
        "orgs": {"acme": {"models": ["*"]}, "globex": {"models": ["*"]}},
        "keys": [row(&acme, "acme"), row(&globex, "globex")],
    });
    let key_auth = json!({"directory": {"inline": directory}});
    let router = json!({
        "catalogue": {"models": {"llama-70b": {"endpoints": ["chat"], "targets": [{"cluster": "llama"}]}}},
        "breaker": {"failures": 1, "open": "5s", "longest": "60s"},
    });
    let rate_limit = json!({"limits": [{"name": "org-rpm", "per": ["org"], "rate": "1/minute"}]});
    let one = json!({"key_auth": key_auth, "tenant_router": router, "rate_limit": rate_limit});
    let three = [
        worker(&world, "key-auth", key_auth),
        worker(&world, "tenant-router", router).allow_on_headers_stop_iteration(),
        load(&world, rate_limit),
    ];
    let three: Vec<&Plugin> = three.iter().collect();
    let alone = World::new();
    let gateway = worker(&alone, "gateway", one).allow_on_headers_stop_iteration();
    for (world, chain) in [(&world, world.chain(&three)), (&alone, alone.chain(&[&gateway]))] {
        let chat = |key: &ApiKey| chain.post(CHAT).bearer(key.reveal()).json(&chat());
        let broken = chat(&acme).upstream(Response::new(503)).send();
        broken.expect_response(503);
        chat(&globex).send().expect_refused(503).code("model_unavailable");
        world.advance(Duration::from_secs(5));
        for _ in 0..10 {
            let refused = chat(&acme).send();
            refused.expect_refused(429).code("rate_limit_exceeded");
        }
        let probe = chat(&globex).send();
        probe.expect_forwarded();
    }
}
