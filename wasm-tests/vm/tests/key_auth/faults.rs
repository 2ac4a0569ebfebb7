//! The host fails. Whatever fails, and however: the module does not trap, nobody gets in without a key that was
//! checked, and nothing goes on with a credential or a made-up identity.

use serde_json::{Value, json};
use tollgate_core::identity::Identity;
use tollgate_core::key::ApiKey;
use tollgate_vm::{Hostcall, Plugin, Request, Status, World, module};

use crate::stage::{CHAT, Fleet, Gateway, VM_ID, directory, expect_secret, inline, key, row, with};
use crate::support::faults::{all_failures, failures};

/// A key that depends on time and address, used by someone who also lies.
fn good(filter: &Plugin, key: &ApiKey) -> Request {
    filter
        .post(CHAT)
        .bearer(key.reveal())
        .header("x-api-key", key.reveal())
        .header("x-tollgate-org", "globex")
        .header("x-tollgate-tier", "gold")
        .header("x-envoy-retry-on", "5xx")
}

fn limited(key: &ApiKey) -> Value {
    row(
        key,
        json!({"expires_at": "2030-01-01T00:00:00Z", "networks": ["127.0.0.0/8"], "project": "search"}),
    )
}

/// Either it was refused, or all is as it should be.
#[track_caller]
fn expect_refused_or_right(request: Request, key: &ApiKey, what: &str) {
    let stream = request.start();
    let forwarded = stream.is_forwarded();
    let outcome = stream.finish();
    if !forwarded {
        let (received, shown) = (outcome.received(), key.reveal().as_bytes());
        assert!(
            !received
                .windows(20)
                .any(|part| shown.windows(20).any(|secret| part == secret)),
            "{what}"
        );
        return;
    }
    let headers = outcome.expect_forwarded().headers().clone();
    for (name, value) in headers.iter() {
        let value = String::from_utf8_lossy(value);
        assert!(
            !value.contains(key.reveal()) && !["globex", "gold"].contains(&&*value),
            "{what}: {name}: {value}"
        );
        assert!(
            !name.starts_with("x-envoy-") && !name.contains("api-key") && name != "authorization",
            "{what}: {name}"
        );
    }
    let identity = outcome
        .filter_state("tollgate.identity")
        .and_then(Identity::decode);
    let identity = identity.unwrap_or_else(|| panic!("{what}: no identity"));
    assert_eq!(
        (identity.org.as_str(), identity.key_id.as_str()),
        ("acme", key.id()),
        "{what}"
    );
    let own = [
        "x-tollgate-org",
        "x-tollgate-project",
        "x-tollgate-key-id",
        "x-tollgate-tier",
    ];
    assert_eq!(
        own.map(|name| headers.text(name).unwrap()),
        ["acme", "search", key.id(), "pro"],
        "{what}"
    );
}

#[track_caller]
fn expect_never_forwarded(request: Request, what: &str) {
    assert!(!request.start().is_forwarded(), "{what}: admitted");
}

#[test]
fn a_failing_host_call_in_a_request_admits_nobody_by_mistake() {
    let (known, expired) = (key(1), key(2));
    let rows = [
        limited(&known),
        row(&expired, json!({"expires_at": "2020-01-01T00:00:00Z"})),
    ];
    let configuration = with(
        inline(&directory(rows)),
        "jwt",
        json!({"metadata_key": "tollgate"}),
    );
    let gateway = Gateway::of(configuration);
    let token = |org: &str| {
        let claims = json!({"tollgate": {"org": org, "sub": "ada"}});
        gateway.chat().metadata("envoy.filters.http.jwt_authn", claims)
    };
    for failure in all_failures("key-auth", 5) {
        let what = failure.to_string();
        let under = |request: Request| {
            failure.befall(&gateway.world);
            request
        };
        expect_refused_or_right(under(good(&gateway.filter, &known)), &known, &what);
        let from_afar = good(&gateway.filter, &known).from("192.0.2.1");
        expect_never_forwarded(under(from_afar), &what);
        expect_never_forwarded(under(gateway.chat().bearer(expired.reveal())), &what);
        expect_never_forwarded(under(gateway.chat().bearer(key(3).reveal())), &what);
        expect_never_forwarded(under(gateway.chat()), &what);
        expect_never_forwarded(under(token("nobody")), &what);
        expect_never_forwarded(under(token("initech")), &what);
        expect_never_forwarded(under(token("acme").bearer(key(3).reveal())), &what);
    }
    // Nothing of it lasts.
    gateway.world.clear_faults();
    good(&gateway.filter, &known).send().expect_forwarded();
    expect_secret(&gateway.world, &known);
}

/// With a fetched directory, for keys that are not at hand yet and for those that are.
#[test]
fn a_failing_host_call_admits_nobody_from_a_fetched_directory() {
    let mut keys = (10..).map(key);
    let known: Vec<ApiKey> = keys.by_ref().take(1_200).collect();
    let fleet = Fleet::loaded(&directory(known.iter().map(limited)));
    let [worker, _] = &fleet.workers;
    for (failure, fresh) in all_failures("key-auth", 5).into_iter().zip(&known) {
        let what = failure.to_string();
        for key in [fresh, &known[0]] {
            failure.befall(&fleet.world);
            expect_refused_or_right(good(worker, key), key, &what);
        }
        expect_never_forwarded(worker.post(CHAT).bearer(key(3).reveal()), &what);
        fleet.world.clear_faults();
        good(worker, fresh).send().expect_forwarded();
    }
    assert!(all_failures("key-auth", 5).len() <= known.len());
}

/// What is only told to operators does not stop a customer.
#[test]
fn a_log_or_a_counter_that_fails_refuses_nobody() {
    let known = key(1);
    let gateway = Gateway::of(inline(&directory([limited(&known)])));
    for failure in failures(&[Hostcall::Log, Hostcall::IncrementMetric], 5) {
        failure.befall(&gateway.world);
        good(&gateway.filter, &known).send().expect_forwarded();
    }
}

/// A worker whose look at the directory fails may refuse for a while; the next look puts it right.
#[test]
fn a_failing_tick_of_a_worker_refuses_at_worst() {
    let known = key(1);
    let fleet = Fleet::loaded(&directory([limited(&known)]));
    let [worker, _] = &fleet.workers;
    for failure in all_failures("key-auth", 5) {
        let what = failure.to_string();
        failure.befall(&fleet.world);
        worker.tick();
        expect_refused_or_right(good(worker, &known), &known, &what);
        expect_never_forwarded(worker.post(CHAT).bearer(key(3).reveal()), &what);
        fleet.world.clear_faults();
        worker.tick();
        good(worker, &known).send().expect_forwarded();
    }
}

/// A configuration that can't be set up is refused, as a bad one is, or it works.
#[test]
fn a_failing_host_call_in_configure_refuses_the_configuration_or_nothing() {
    let known = key(1);
    let world = World::new();
    let vm = world.vm(&module("key-auth"), VM_ID);
    let sources = [
        inline(&directory([limited(&known)])),
        json!({"directory": {"http": {"max_stale": "10m", "on_stale": "allow"}}}),
    ];
    for failure in all_failures("key-auth", 5) {
        let what = failure.to_string();
        for (source, inline) in sources.iter().zip([true, false]) {
            failure.befall(&world);
            let configured = vm.configure("key-auth", source.clone());
            world.clear_faults();
            let Ok(filter) = configured else { continue };
            expect_never_forwarded(filter.post(CHAT).bearer(key(3).reveal()), &what);
            if inline {
                good(&filter, &known).send().expect_forwarded();
            } else {
                let _ = good(&filter, &known).send().expect_refused(503);
            }
            filter.retire();
        }
    }
}

#[test]
fn a_filter_that_cannot_count_or_tick_is_refused_with_the_reason() {
    let vm = World::new().vm(&module("key-auth"), VM_ID);
    let http = json!({"directory": {"http": {"max_stale": "10m", "on_stale": "deny"}}});
    for call in [Hostcall::DefineMetric, Hostcall::SetTickPeriod] {
        let _ = vm.world().fault(call, Status::InternalFailure);
        let said = vm.configure("key-auth", http.clone()).err().unwrap().text();
        assert!(
            said.contains("configuration refused: (top level): the proxy refused"),
            "{said}"
        );
        vm.world().clear_faults();
    }
}

/// The host fails for a quarter of a minute, while a key is revoked. Nobody gets in meanwhile who should not, and
/// once it works again the revocation takes effect within the bound.
fn fetching_while(failing: &[Hostcall], status: Status) {
    let (stays, revoked) = (key(1), key(2));
    for call in failing {
        let what = format!("{call:?} {status:?}");
        let fleet = Fleet::loaded(&directory([row(&stays, json!({})), row(&revoked, json!({}))]));
        fleet.admits(&revoked);
        let serve = || {
            for call in fleet.fetcher.calls() {
                match call.headers.text("if-none-match").as_deref() {
                    Some("\"2\"") => call.answer(304, &[], ""),
                    _ => call.answer(
                        200,
                        &[("etag", "\"2\"")],
                        directory([row(&stays, json!({}))]).to_string(),
                    ),
                }
            }
            fleet.pass(500);
        };
        let fault = fleet.world.fault(*call, status);
        for _ in 0..30 {
            serve();
            for worker in &fleet.workers {
                expect_never_forwarded(worker.post(CHAT).bearer(key(3).reveal()), &what);
            }
        }
        fault.clear();
        for _ in 0..12 {
            serve();
        }
        fleet.admits(&stays);
        for worker in &fleet.workers {
            expect_never_forwarded(worker.post(CHAT).bearer(revoked.reveal()), &what);
        }
        expect_secret(&fleet.world, &revoked);
    }
}

const IN_FETCHING: [Hostcall; 5] = [
    Hostcall::GetCurrentTime,
    Hostcall::HttpCall,
    Hostcall::GetSharedData,
    Hostcall::SetSharedData,
    Hostcall::GetBufferBytes,
];

/// All else that the module can call.
fn beside_fetching() -> Vec<Hostcall> {
    let calls = module("key-auth").hostcalls().into_iter();
    calls.filter(|call| !IN_FETCHING.contains(call)).collect()
}

#[test]
fn fetching_outlives_a_host_that_fails() {
    fetching_while(&IN_FETCHING, Status::InternalFailure);
}

#[test]
fn fetching_outlives_a_host_that_objects() {
    fetching_while(&IN_FETCHING, Status::BadArgument);
}

#[test]
fn fetching_outlives_failures_beside_it() {
    fetching_while(&beside_fetching(), Status::InternalFailure);
}

#[test]
fn fetching_outlives_objections_beside_it() {
    fetching_while(&beside_fetching(), Status::Unimplemented);
}
