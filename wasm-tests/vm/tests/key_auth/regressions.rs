//! Ways in which key-auth went wrong once, each found by a test before it could happen to anybody.

use std::time::Duration;

use serde_json::json;
use tollgate_vm::{Hostcall, Status, World, module};

use crate::stage::{
    CHAT, Fleet, Gateway, VM_ID, directory, expect_secret, fetcher, fleet, gateway, inline, key, row, with,
    worker,
};

/// NTP corrects a clock; the next question must not wait until the time has caught up.
#[test]
fn a_clock_set_back_does_not_stop_the_fetching() {
    let revoked = key(1);
    let fleet = Fleet::loaded(&directory([row(&revoked, json!({}))]));
    fleet.admits(&revoked);
    fleet.world.set_back(Duration::from_hours(1));
    // Ticks are a timer's, and come as ever; the world's are by its clock.
    for _ in 0..80 {
        fleet.world.advance(Duration::from_millis(250));
        fleet.fetcher.tick();
        if let Some(call) = fleet.fetcher.calls().pop() {
            call.answer(200, &[], directory([row(&key(2), json!({}))]).to_string());
        }
        fleet.workers.iter().for_each(tollgate_vm::Plugin::tick);
    }
    fleet.refuses(&revoked, 401, "tollgate_unknown_key");
}

/// The same for the age: a confirmation from the future is none.
#[test]
fn a_clock_set_back_does_not_make_an_old_directory_young() {
    let known = key(1);
    let fleet = Fleet::of(json!({"max_stale": "10s", "on_stale": "deny"}));
    fleet.take_over(&directory([row(&known, json!({}))]), "\"1\"");
    fleet.world.set_back(Duration::from_hours(1));
    for _ in 0..400 {
        fleet.world.advance(Duration::from_millis(250));
        fleet.fetcher.tick();
        if let Some(call) = fleet.fetcher.calls().pop() {
            call.unreachable();
        }
        fleet.workers.iter().for_each(tollgate_vm::Plugin::tick);
    }
    fleet.refuses(&known, 503, "tollgate_directory_unavailable");
}

/// And an address that failed before is not shut out until the time has caught up.
#[test]
fn a_clock_set_back_does_not_shut_an_address_out() {
    let mut configuration = inline(&directory([]));
    configuration["failed_auth"] = json!({"rate": "1/second", "burst": 5});
    let gateway = Gateway::of(configuration);
    let _ = gateway.chat().send().expect_refused(401);
    gateway.world.set_back(Duration::from_hours(1));
    gateway.world.advance(Duration::from_secs(10));
    let _ = gateway.chat().send().expect_refused(401);
}

/// Everything was written, only the announcement failed. The next fetch finds nothing to change, yet the workers
/// still have the revoked key at hand.
#[test]
fn an_announcement_that_failed_is_made_up_for() {
    for at in ["directory", "tenants"] {
        let (stays, revoked) = (key(1), key(2));
        let fleet = Fleet::loaded(&directory([row(&stays, json!({})), row(&revoked, json!({}))]));
        fleet.admits(&revoked);
        let fault = fleet
            .world
            .fault(Hostcall::SetSharedData, Status::InternalFailure)
            .of(at)
            .times(1);
        fleet.take_over(&directory([row(&stays, json!({}))]), "\"2\"");
        fault.clear();
        fleet.take_over(&directory([row(&stays, json!({}))]), "\"2\"");
        fleet.admits(&stays);
        fleet.refuses(&revoked, 401, "tollgate_unknown_key");
    }
}

/// The fetcher's VM ends in the middle; its successor writes what is left, and tells.
#[test]
fn a_fetcher_that_dies_while_it_writes_is_made_up_for() {
    let (stays, revoked) = (key(1), key(2));
    let Fleet {
        world,
        fetcher: old,
        workers,
    } = Fleet::loaded(&directory([row(&stays, json!({})), row(&revoked, json!({}))]));
    let fault = world
        .fault(Hostcall::SetSharedData, Status::InternalFailure)
        .of("tenants");
    let fleet = Fleet {
        fetcher: old,
        world,
        workers,
    };
    fleet.admits(&revoked);
    fleet.take_over(&directory([row(&stays, json!({}))]), "\"2\"");
    fault.clear();
    let Fleet {
        world,
        fetcher: old,
        workers,
    } = fleet;
    old.retire();
    let fleet = Fleet {
        fetcher: fetcher(&world),
        world,
        workers,
    };
    fleet.take_over(&directory([row(&stays, json!({}))]), "\"2\"");
    fleet.refuses(&revoked, 401, "tollgate_unknown_key");
}

/// Half of a new document was written, then the server went back to the one before: a 304 says that that one is
/// in force, which it is not.
#[test]
fn half_a_document_is_not_confirmed_as_the_one_before() {
    let (before, mistake) = (key(1), key(2));
    let fleet = Fleet::loaded(&directory([row(&before, json!({}))]));
    let fault = fleet
        .world
        .fault(Hostcall::SetSharedData, Status::InternalFailure)
        .of("tenants")
        .times(1);
    fleet.take_over(&directory([row(&mistake, json!({}))]), "\"2\"");
    fault.clear();
    // The server has document 1 again, and answers as a server does.
    for _ in 0..3 {
        let call = fleet.asked();
        match call.headers.text("if-none-match").as_deref() {
            Some("\"1\"") => call.answer(304, &[], ""),
            _ => call.answer(
                200,
                &[("etag", "\"1\"")],
                directory([row(&before, json!({}))]).to_string(),
            ),
        }
        fleet.pass(1_000);
    }
    fleet.refuses(&mistake, 401, "tollgate_unknown_key");
    fleet.admits(&before);
}

/// The tenant was written, the list of tenants was not. The next document does not have it.
#[test]
fn a_tenant_that_was_never_listed_is_withdrawn_all_the_same() {
    let fleet = Fleet::with(json!({
        "directory": {"http": {"max_stale": "10m", "on_stale": "deny"}},
        "jwt": {"metadata_key": "tollgate"},
    }));
    fleet.take_over(&directory([]), "\"1\"");
    let fault = fleet
        .world
        .fault(Hostcall::SetSharedData, Status::InternalFailure)
        .of("tenants")
        .times(1);
    fleet.take_over(&with(directory([]), "orgs.umbrella", json!({})), "\"2\"");
    fault.clear();
    fleet.take_over(&directory([]), "\"3\"");
    let claims = json!({"tollgate": {"sub": "ada", "org": "umbrella"}});
    let outcome = fleet.workers[0]
        .post(CHAT)
        .metadata("envoy.filters.http.jwt_authn", claims)
        .send();
    let _ = outcome.expect_refused(401).details("tollgate_unknown_tenant");
}

/// Somebody pastes the key itself, in any place, as those do who come from a plain list of keys.
#[test]
fn a_key_in_the_wrong_place_is_not_repeated_in_the_log() {
    let pasted = key(1);
    let text = pasted.reveal();
    let good = row(&key(2), json!({}));
    let documents = [
        directory([json!(text)]),
        directory([with(good.clone(), "id", json!(text))]),
        directory([with(good.clone(), "org", json!(text))]),
        directory([with(good.clone(), "project", json!(text))]),
        directory([with(good.clone(), "status", json!(text))]),
        directory([with(good.clone(), "scopes", json!([text]))]),
        directory([with(good.clone(), "scopes", json!(text))]),
        directory([with(good.clone(), "models", json!(text))]),
        directory([with(good.clone(), "networks", json!([text]))]),
        directory([with(good.clone(), "expires_at", json!(text))]),
        directory([with(good.clone(), text, json!("x"))]),
        with(directory([]), "keys", json!(text)),
        with(directory([]), text, json!({})),
        with(directory([]), "orgs", json!({text: 7})),
        with(directory([]), "orgs.acme", json!({text: 7})),
        with(directory([]), "orgs.acme.tier", json!(text.repeat(2))),
        with(
            directory([]),
            "orgs.acme.labels",
            json!({"key": format!("{text}\n")}),
        ),
        with(directory([]), "version", json!(text)),
    ];
    let mut told = Vec::new();
    for (n, document) in documents.iter().enumerate() {
        let world = World::new();
        let vm = world.vm(&module("key-auth"), VM_ID);
        let refused = vm
            .configure("key-auth", inline(document))
            .err()
            .map(|refused| refused.text());
        let fleet = fleet();
        fleet.take_over(document, "\"1\"");
        let said = refused.unwrap_or_default()
            + &fleet
                .world
                .log()
                .iter()
                .map(ToString::to_string)
                .collect::<String>();
        if said.contains(crate::stage::secret(&pasted)) {
            told.push(n);
        }
    }
    assert!(told.is_empty(), "documents {told:?} have the key in the log");
    expect_secret(&World::new(), &pasted);
}

/// An organization given twice is a mistake like a key given twice: which one counts?
#[test]
fn a_name_given_twice_is_refused() {
    let twice = [
        r#"{"acme": {"status": "suspended"}, "acme": {}}"#,
        r#"{"acme": {"projects": {"p": {"status": "suspended"}, "p": {}}}}"#,
        r#"{"acme": {"labels": {"a": "1", "a": "2"}}}"#,
    ];
    for orgs in twice {
        let fleet = fleet();
        fleet.serve(format!("{{\"version\":1,\"orgs\":{orgs},\"keys\":[]}}"), "\"1\"");
        assert_eq!(fleet.fetches("rejected"), 1, "{orgs}");
    }
}

/// A good key is not told that it is none because the host could not say who its tenant is.
#[test]
fn a_tenant_that_cannot_be_read_is_no_unknown_key() {
    let known = key(1);
    let fleet = Fleet::loaded(&directory([row(&known, json!({}))]));
    let tenants = fleet
        .world
        .shared_keys(VM_ID)
        .into_iter()
        .filter(|key| key.starts_with("tnt-"));
    for tenant in tenants {
        let _ = fleet
            .world
            .fault(Hostcall::GetSharedData, Status::InternalFailure)
            .of(&tenant);
    }
    fleet.refuses(&known, 503, "tollgate_directory_unavailable");
}

/// `::ffff:10.0.0.0/104` is 10.0.0.0/8 in other words. Either it works, or it is refused.
#[test]
fn a_network_of_mapped_addresses_is_not_silently_empty() {
    let known = key(1);
    let vm = World::new().vm(&module("key-auth"), VM_ID);
    let document = directory([row(&known, json!({"networks": ["::ffff:10.0.0.0/104"]}))]);
    if let Ok(filter) = vm.configure("key-auth", inline(&document)) {
        filter
            .post(CHAT)
            .bearer(known.reveal())
            .from("10.1.2.3")
            .send()
            .expect_forwarded();
    }
}

/// Each refusal is counted, also where the headers could not be read.
#[test]
fn a_request_that_cannot_be_read_is_counted() {
    let gateway = gateway([]);
    let _ = gateway
        .world
        .fault(Hostcall::GetHeaderMapPairs, Status::InternalFailure);
    let _ = gateway.chat().send().expect_refused(500);
    assert_eq!(
        crate::stage::decisions(&gateway.world),
        [("deny.misconfigured".to_owned(), 1)]
    );
}

/// A claim that is there and empty is no licence for the whole organization.
#[test]
fn an_empty_project_is_not_the_whole_organization() {
    let configuration = with(inline(&directory([])), "jwt", json!({"metadata_key": "tollgate"}));
    let gateway = Gateway::of(configuration);
    let claims = json!({"tollgate": {"sub": "ada", "org": "acme", "project": ""}});
    let outcome = gateway
        .chat()
        .metadata("envoy.filters.http.jwt_authn", claims)
        .send();
    let _ = outcome.expect_refused(401);
}

/// However slow the machine, each tick of the fetcher does some work.
#[test]
fn a_slow_machine_is_only_slow() {
    fn later(world: &World, left: u32) {
        let again = world.clone();
        let _ = world.before(Hostcall::GetCurrentTime, move || {
            again.advance(Duration::from_millis(25));
            if left > 0 {
                later(&again, left - 1);
            }
        });
    }
    let fleet = fleet();
    fleet
        .asked()
        .answer(200, &[], directory([row(&key(1), json!({}))]).to_string());
    later(&fleet.world, 20_000);
    for _ in 0..1_000 {
        fleet.fetcher.tick();
    }
    assert_eq!(fleet.fetches("ok"), 1);
    let _ = worker(
        &fleet.world,
        json!({"directory": {"http": {"max_stale": "10m", "on_stale": "deny"}}}),
    );
}

/// What the fetcher takes, the host takes too: its timeouts are signed numbers of 32 bits.
#[test]
fn a_timeout_that_the_host_does_not_take_is_refused() {
    let vm = World::new().vm(&module("key-auth"), VM_ID);
    let configuration = json!({"cluster": "directory", "path": "/directory.json", "timeout": "30d"});
    if let Ok(fetcher) = vm.configure("directory", configuration) {
        fetcher.tick();
        let _ = fetcher.call();
    }
}
