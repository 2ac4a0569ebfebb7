//! The directory from a server: asked for, taken over, confirmed, replaced, and grown old.

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_vm::{Plugin, World};

use crate::stage::{CHAT, Fleet, VM_ID, directory, expect_secret, fetcher, fleet, key, row, with};

fn of(keys: &[&ApiKey]) -> Value {
    directory(keys.iter().map(|key| row(key, json!({}))))
}

#[test]
fn nothing_is_admitted_before_there_is_a_directory_and_all_that_is_in_it_after() {
    let (key, fleet) = (key(1), fleet());
    fleet.refuses(&key, 503, "tollgate_directory_unavailable");
    let call = fleet.asked();
    let header = |name: &str| call.headers.text(name);
    assert_eq!(call.cluster, "directory");
    assert_eq!(header(":method").as_deref(), Some("GET"));
    assert_eq!(header(":authority").as_deref(), Some("directory.test"));
    assert_eq!(header(":path").as_deref(), Some("/directory.json"));
    assert_eq!(header("if-none-match"), None);
    fleet.refuses(&key, 503, "tollgate_directory_unavailable");
    call.answer(200, &[("etag", "\"1\"")], of(&[&key]).to_string());
    fleet.pass(1_000);
    fleet.admits(&key);
    fleet.refuses(&crate::stage::key(2), 401, "tollgate_unknown_key");
    assert_eq!(fleet.world.gauge("tollgate_directory_keys"), Some(1));
    assert_eq!(fleet.world.gauge("tollgate_directory_orgs"), Some(3));
    assert_eq!(fleet.fetches("ok"), 1);
    expect_secret(&fleet.world, &key);
}

#[test]
fn identity_is_the_same_from_either_source() {
    let key = key(1);
    let document = directory([row(
        &key,
        json!({"project": "search", "models": ["llama-7b"], "scopes": ["chat"]}),
    )]);
    let state = |plugin: &Plugin| {
        let outcome = plugin.post(CHAT).bearer(key.reveal()).send();
        outcome.expect_forwarded();
        outcome.filter_state("tollgate.identity").map(<[u8]>::to_vec)
    };
    let inline = crate::stage::Gateway::of(crate::stage::inline(&document));
    assert_eq!(state(&Fleet::loaded(&document).workers[1]), state(&inline.filter));
}

#[test]
fn an_unchanged_document_is_only_confirmed() {
    let key = key(1);
    let fleet = Fleet::loaded(&of(&[&key]));
    for _ in 0..3 {
        let call = fleet.asked();
        assert_eq!(call.headers.text("if-none-match").as_deref(), Some("\"1\""));
        call.answer(304, &[], "");
    }
    assert_eq!((fleet.fetches("ok"), fleet.fetches("unchanged")), (1, 3));
    fleet.admits(&key);
    // What was confirmed a moment ago is young.
    fleet.pass(1_000);
    assert!(fleet.world.gauge("tollgate_directory_age_seconds").unwrap() <= 1);
}

#[test]
fn a_server_without_etags_will_do() {
    let key = key(1);
    let fleet = fleet();
    for _ in 0..3 {
        let call = fleet.asked();
        assert_eq!(call.headers.text("if-none-match"), None);
        call.answer(200, &[], of(&[&key]).to_string());
        fleet.pass(1_000);
        fleet.admits(&key);
    }
    // An ETag that was there once is not asked with any more.
    fleet.take_over(&of(&[&key]), "\"1\"");
    fleet.asked().answer(200, &[], of(&[&key]).to_string());
    fleet.pass(1_000);
    assert_eq!(fleet.asked().headers.text("if-none-match"), None);
}

/// The bound: refresh (5 s) and one second, from the moment the server has the new document.
#[test]
fn a_revocation_takes_effect_within_refresh_and_a_second() {
    let (gone, stays) = (key(1), key(2));
    let revocations: [Value; 3] = [
        of(&[&stays]),
        directory([row(&gone, json!({"status": "revoked"})), row(&stays, json!({}))]),
        directory([
            row(&gone, json!({"expires_at": "2020-01-01T00:00:00Z"})),
            row(&stays, json!({})),
        ]),
    ];
    for document in revocations {
        let fleet = Fleet::loaded(&of(&[&gone, &stays]));
        // Looked up, so that both workers have it at hand.
        fleet.admits(&gone);
        for passed in 1..=60 {
            fleet.pass(100);
            fleet.admits(&stays);
            if let Some(call) = fleet.fetcher.calls().pop() {
                call.answer(200, &[("etag", "\"2\"")], document.to_string());
            }
            let first = fleet.workers[0]
                .post(CHAT)
                .bearer(gone.reveal())
                .start()
                .is_forwarded();
            let second = fleet.workers[1]
                .post(CHAT)
                .bearer(gone.reveal())
                .start()
                .is_forwarded();
            assert!(
                passed < 60 || !(first || second),
                "admitted {passed} tenths of a second after"
            );
        }
        fleet.admits(&stays);
    }
}

#[test]
fn a_change_of_a_tenant_reaches_keys_that_are_at_hand() {
    let key = key(1);
    let document = directory([row(&key, json!({"project": "search"}))]);
    let fleet = Fleet::loaded(&document);
    fleet.admits(&key);
    let frozen = with(document.clone(), "orgs.acme.status", json!("suspended"));
    fleet.take_over(&frozen, "\"2\"");
    fleet.refuses(&key, 403, "tollgate_organization_suspended");
    fleet.take_over(&document, "\"3\"");
    fleet.admits(&key);
    let frozen = with(
        document.clone(),
        "orgs.acme.projects.search.status",
        json!("suspended"),
    );
    fleet.take_over(&frozen, "\"4\"");
    fleet.refuses(&key, 403, "tollgate_project_suspended");
    let promoted = with(document, "orgs.acme.tier", json!("gold"));
    fleet.take_over(&promoted, "\"5\"");
    for worker in &fleet.workers {
        let outcome = worker.post(CHAT).bearer(key.reveal()).send();
        outcome.expect_forwarded().header("x-tollgate-tier", "gold");
    }
}

#[test]
fn a_key_that_moves_to_another_tenant_is_known_there() {
    let key = key(1);
    let fleet = Fleet::loaded(&of(&[&key]));
    fleet.admits(&key);
    fleet.take_over(&directory([row(&key, json!({"org": "globex"}))]), "\"2\"");
    for worker in &fleet.workers {
        let outcome = worker.post(CHAT).bearer(key.reveal()).send();
        outcome.expect_forwarded().header("x-tollgate-org", "globex");
    }
}

/// A tenant that is gone leaves nothing that a key or a token could still be joined with.
#[test]
fn a_tenant_that_is_gone_is_gone() {
    let key = key(1);
    let fleet = Fleet::loaded(&directory([row(&key, json!({"org": "globex"}))]));
    fleet.admits(&key);
    let filled = |fleet: &Fleet| {
        let keys = fleet
            .world
            .shared_keys(VM_ID)
            .into_iter()
            .filter(|key| key.starts_with("tnt-"));
        keys.filter(|key| !fleet.world.shared(VM_ID, key).unwrap().0.is_empty())
            .count()
    };
    assert_eq!(filled(&fleet), 6);
    let mut document = directory([row(&crate::stage::key(2), json!({}))]);
    document["orgs"].as_object_mut().unwrap().remove("globex");
    fleet.take_over(&document, "\"2\"");
    fleet.refuses(&key, 401, "tollgate_unknown_key");
    assert_eq!(filled(&fleet), 5);
    // And it may come back.
    fleet.take_over(&directory([row(&key, json!({"org": "globex"}))]), "\"3\"");
    fleet.admits(&key);
    assert_eq!(filled(&fleet), 6);
}

#[test]
fn the_age_is_shown() {
    let fleet = Fleet::loaded(&of(&[]));
    let call = fleet.asked();
    fleet.pass(20_000);
    let age = fleet.world.gauge("tollgate_directory_age_seconds").unwrap();
    assert!((24..=26).contains(&age), "{age}");
    call.answer(304, &[], "");
    fleet.pass(250);
    // It counts from when it was asked for: the document may have changed while the answer was on its way.
    let age = fleet.world.gauge("tollgate_directory_age_seconds").unwrap();
    assert!((20..=21).contains(&age), "{age}");
}

#[test]
fn a_directory_too_old_is_not_trusted_where_so_declared() {
    let key = key(1);
    let fleet = Fleet::loaded(&of(&[&key]));
    fleet.admits(&key);
    // The server is gone. Ten minutes are allowed, counted from the last question that was answered.
    until(&fleet, 590);
    fleet.admits(&key);
    until(&fleet, 615);
    fleet.refuses(&key, 503, "tollgate_directory_unavailable");
    // It is back, with the same document as ever.
    fleet.asked().answer(304, &[], "");
    fleet.pass(1_000);
    fleet.admits(&key);
}

#[test]
fn a_directory_too_old_stays_in_force_where_so_declared() {
    let key = key(1);
    let fleet = Fleet::of(json!({"max_stale": "10s", "on_stale": "allow"}));
    fleet.refuses(&key, 503, "tollgate_directory_unavailable");
    fleet.take_over(&of(&[&key]), "\"1\"");
    until(&fleet, 3_600);
    fleet.admits(&key);
    assert!(fleet.world.gauge("tollgate_directory_age_seconds").unwrap() > 3_590);
}

/// Lets time pass until `seconds` after the beginning; every question is left to time out.
fn until(fleet: &Fleet, seconds: u64) {
    let start = World::new().nanos();
    while fleet.world.nanos() < start + seconds * 1_000_000_000 {
        match fleet.fetcher.calls().pop() {
            Some(call) => call.time_out(),
            None => fleet.pass(1_000),
        }
    }
    fleet.pass(250);
}

#[test]
fn a_new_fetcher_takes_over_from_the_one_before() {
    let (key, late) = (key(1), key(2));
    let Fleet {
        world,
        fetcher: old,
        workers,
    } = Fleet::loaded(&of(&[&key]));
    old.retire();
    let fleet = Fleet {
        fetcher: fetcher(&world),
        world,
        workers,
    };
    fleet.admits(&key);
    // It knows nothing of ETags, so it asks for all of it; nobody is refused meanwhile.
    let call = fleet.asked();
    assert_eq!(call.headers.text("if-none-match"), None);
    call.answer(200, &[("etag", "\"1\"")], of(&[&key]).to_string());
    fleet.pass(1_000);
    fleet.admits(&key);
    fleet.take_over(&of(&[&late]), "\"2\"");
    fleet.admits(&late);
    fleet.refuses(&key, 401, "tollgate_unknown_key");
}

/// A worker that starts late, as after a crash, finds what is there.
#[test]
fn a_new_worker_finds_the_directory_at_once() {
    let key = key(1);
    let fleet = Fleet::loaded(&of(&[&key]));
    let http = json!({"directory": {"http": {"max_stale": "10m", "on_stale": "deny"}}});
    let late = crate::stage::worker(&fleet.world, http);
    late.post(CHAT).bearer(key.reveal()).send().expect_forwarded();
}

#[test]
fn twenty_thousand_keys() {
    let rows =
        |keys: std::ops::Range<u64>| directory(keys.map(|n| row(&key(n), json!({"project": "search"}))));
    let fleet = fleet();
    fleet.take_over(&rows(0..20_000), "\"1\"");
    assert_eq!(fleet.world.gauge("tollgate_directory_keys"), Some(20_000));
    for n in (0..20_000).step_by(1_999) {
        fleet.admits(&key(n));
    }
    fleet.refuses(&key(20_000), 401, "tollgate_unknown_key");
    fleet.take_over(&rows(1..20_001), "\"2\"");
    fleet.refuses(&key(0), 401, "tollgate_unknown_key");
    fleet.admits(&key(20_000));
    let buckets = fleet
        .world
        .shared_keys(VM_ID)
        .into_iter()
        .filter(|key| key.starts_with("key"))
        .count();
    assert!(buckets <= 65_536);
}
