//! The directory from a server that says what changed: asked for that, taken over with the answer, and left for the whole
//! document where something is wrong with it.

use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_vm::{Hostcall, HttpCall, Status};

use crate::stage::{Fleet, directory, expect_secret, fetcher_with, fleet, key, row, with};

const CHANGES: &str = "application/vnd.tollgate.changes+json";
const TOKEN: &str = "tg-token-0123456789abcdefghijklmnopqrstuvwxyz";

fn of(keys: &[&ApiKey]) -> Value {
    directory(keys.iter().map(|key| row(key, json!({}))))
}

/// A fleet that watches, and has taken over this document as version `1`.
fn watching(document: &Value) -> Fleet {
    let mut fleet = fleet();
    fleet.fetcher = fetcher_with(&fleet.world, json!({"watch": "25s", "token": TOKEN}));
    fleet.take_over(document, "\"1\"");
    fleet
}

/// Changes to version `after`.
fn changes(after: &str, more: Value) -> String {
    let mut changes = json!({"version": 1, "after": after, "orgs": {}, "keys": [], "removed_keys": []});
    for (name, value) in more.as_object().unwrap() {
        changes[name] = value.clone();
    }
    changes.to_string()
}

fn change(call: HttpCall, etag: &str, body: impl AsRef<[u8]>) {
    call.answer(200, &[("etag", etag), ("content-type", CHANGES)], body);
}

fn path(call: &HttpCall) -> String {
    call.headers.text(":path").unwrap()
}

#[test]
fn what_is_asked_and_with_what() {
    let (one, two) = (key(1), key(2));
    let fleet = watching(&of(&[&one]));
    let call = fleet.asked();
    let header = |name: &str| call.headers.text(name);
    assert_eq!(path(&call), "/directory.json?after=1&wait=25");
    assert_eq!(header("if-none-match").as_deref(), Some("\"1\""));
    assert_eq!(
        header("accept").as_deref(),
        Some("application/vnd.tollgate.changes+json, application/json")
    );
    assert_eq!(header("accept-encoding").as_deref(), Some("gzip"));
    assert_eq!(
        header("authorization").as_deref(),
        Some(format!("Bearer {TOKEN}").as_str())
    );
    // What a query could be broken with is encoded.
    change(
        call,
        "\"a&b=c/2\"",
        changes("1", json!({"keys": [row(&two, json!({}))]})),
    );
    assert_eq!(
        path(&fleet.asked()),
        "/directory.json?after=a%26b%3Dc%2F2&wait=25"
    );
    fleet.world.expect_never_logged(TOKEN);
}

#[test]
fn a_fetcher_that_does_not_watch_asks_as_ever() {
    let mut fleet = fleet();
    fleet.fetcher = fetcher_with(&fleet.world, json!({"token": TOKEN, "path": "/d?env=a"}));
    fleet.take_over(&of(&[]), "\"1\"");
    let call = fleet.asked();
    let header = |name: &str| call.headers.text(name);
    assert_eq!(path(&call), "/d?env=a");
    assert_eq!(header("accept").as_deref(), Some("application/json"));
    assert_eq!(header("accept-encoding"), None);
    assert!(header("authorization").is_some());
}

#[test]
fn the_way_a_question_is_joined_to_a_path() {
    let mut fleet = fleet();
    fleet.fetcher = fetcher_with(&fleet.world, json!({"watch": "1s", "path": "/d?env=a"}));
    fleet.take_over(&of(&[]), "\"1\"");
    assert_eq!(path(&fleet.asked()), "/d?env=a&after=1&wait=1");
}

/// The bound: a second from the answer, on each worker, wherever between two ticks it comes.
#[test]
fn a_revocation_and_a_freeze_are_in_force_within_a_second_of_the_answer() {
    let (gone, frozen, stays) = (key(1), key(2), key(3));
    let rows = [
        row(&gone, json!({})),
        row(&frozen, json!({"org": "globex"})),
        row(&stays, json!({})),
    ];
    for offset in [0, 70, 130, 190, 249] {
        let fleet = watching(&directory(rows.clone()));
        for key in [&gone, &frozen, &stays] {
            fleet.admits(key);
        }
        let call = fleet.asked();
        fleet.pass(5_000 + offset);
        let orgs = json!({"globex": {"status": "suspended", "models": ["llama-*"]}});
        let removed = json!({"orgs": orgs, "removed_keys": [gone.sha256_hex()]});
        change(call, "\"2\"", changes("1", removed));
        fleet.pass(999);
        fleet.refuses(&gone, 401, "tollgate_unknown_key");
        fleet.refuses(&frozen, 403, "tollgate_organization_suspended");
        fleet.admits(&stays);
        assert_eq!(fleet.world.gauge("tollgate_directory_keys"), Some(2));
        assert_eq!((fleet.fetches("ok"), fleet.fetches("rejected")), (2, 0));
        assert_eq!(path(&fleet.asked()), "/directory.json?after=2&wait=25");
    }
}

#[test]
fn every_kind_of_change() {
    let (one, two, three) = (key(1), key(2), key(3));
    let mut of_project = row(&two, json!({"project": "search"}));
    let fleet = watching(&directory([row(&one, json!({})), of_project.clone()]));
    // A new organization, with its first key.
    let new = changes(
        "1",
        json!({"orgs": {"umbrella": {}}, "keys": [row(&three, json!({"org": "umbrella"}))]}),
    );
    change(fleet.asked(), "\"2\"", new);
    fleet.pass(1_000);
    fleet.admits(&three);
    assert_eq!(fleet.world.gauge("tollgate_directory_orgs"), Some(4));
    // A key that is frozen, and one that moves.
    of_project["org"] = json!("globex");
    of_project.as_object_mut().unwrap().remove("project");
    let rows = [row(&one, json!({"status": "suspended"})), of_project];
    change(fleet.asked(), "\"3\"", changes("2", json!({"keys": rows})));
    fleet.pass(1_000);
    fleet.refuses(&one, 403, "tollgate_key_suspended");
    for worker in &fleet.workers {
        let outcome = worker.post(crate::stage::CHAT).bearer(two.reveal()).send();
        outcome.expect_forwarded().header("x-tollgate-org", "globex");
    }
    // An organization that is gone.
    let gone = json!({"orgs": {"umbrella": null}, "removed_keys": [three.sha256_hex()]});
    change(fleet.asked(), "\"4\"", changes("3", gone));
    fleet.pass(1_000);
    fleet.refuses(&three, 401, "tollgate_unknown_key");
    assert_eq!(fleet.world.gauge("tollgate_directory_orgs"), Some(3));
    // A project that an organization has no longer.
    let left = json!({"orgs": {"acme": {"models": ["*"], "projects": {}}}, "keys": [row(&one, json!({}))]});
    change(fleet.asked(), "\"5\"", changes("4", left));
    fleet.pass(1_000);
    fleet.admits(&one);
    let back = json!({"keys": [row(&two, json!({"project": "search"}))]});
    change(fleet.asked(), "\"6\"", changes("5", back));
    assert_eq!(fleet.said("keys[0].project: found `search`"), 1);
    assert_eq!((fleet.fetches("ok"), fleet.fetches("rejected")), (5, 1));
}

#[test]
fn after_wrong_changes_the_whole_document_is_asked_for() {
    let (one, two) = (key(1), key(2));
    let fleet = watching(&of(&[&one]));
    let call = fleet.asked();
    change(
        call,
        "\"3\"",
        changes("2", json!({"keys": [row(&two, json!({}))]})),
    );
    assert_eq!(fleet.fetches("rejected"), 1);
    assert_eq!(fleet.said("the changes are rejected"), 1);
    fleet.pass(1_000);
    fleet.refuses(&two, 401, "tollgate_unknown_key");
    fleet.admits(&one);
    let call = fleet.asked();
    assert_eq!(path(&call), "/directory.json");
    assert_eq!(call.headers.text("if-none-match"), None);
    call.answer(200, &[("etag", "\"3\"")], of(&[&one, &two]).to_string());
    fleet.pass(1_000);
    fleet.admits(&two);
    assert_eq!(path(&fleet.asked()), "/directory.json?after=3&wait=25");
    expect_secret(&fleet.world, &two);
}

#[test]
fn a_server_that_does_not_wait_is_asked_every_refresh() {
    let fleet = watching(&of(&[&key(1)]));
    fleet.asked().answer(304, &[], "");
    let start = fleet.world.nanos();
    for _ in 0..4 {
        fleet.asked().answer(304, &[], "");
    }
    let seconds = (fleet.world.nanos() - start) / 1_000_000_000;
    assert!((19..=22).contains(&seconds), "{seconds}");
    assert_eq!(fleet.fetches("unchanged"), 5);
    // One that does is asked at once again.
    let call = fleet.asked();
    fleet.pass(25_000);
    call.answer(304, &[], "");
    let start = fleet.world.nanos();
    drop(fleet.asked());
    assert!(fleet.world.nanos() - start < 300_000_000);
}

#[test]
fn a_new_worker_and_a_new_fetcher_find_what_was_changed() {
    let (one, two) = (key(1), key(2));
    let mut fleet = watching(&of(&[&one]));
    let added = json!({"keys": [row(&two, json!({}))]});
    change(fleet.asked(), "\"2\"", changes("1", added));
    let http = json!({"directory": {"http": {"max_stale": "10m", "on_stale": "deny"}}});
    let late = crate::stage::worker(&fleet.world, http);
    let outcome = late.post(crate::stage::CHAT).bearer(two.reveal()).send();
    outcome.expect_forwarded();
    fleet.fetcher = fetcher_with(&fleet.world, json!({"watch": "25s"}));
    let call = fleet.asked();
    assert_eq!(
        path(&call),
        "/directory.json",
        "it does not know what is in force"
    );
    call.answer(200, &[("etag", "\"2\"")], of(&[&one, &two]).to_string());
    assert_eq!(path(&fleet.asked()), "/directory.json?after=2&wait=25");
}

/// Whatever fails of what changes take, who is let in is in the one directory or in the other, and it mends itself.
#[test]
fn a_failing_host_call_lets_in_nobody_and_mends_itself() {
    let (gone, stays, stranger) = (key(1), key(2), key(3));
    let calls = [
        Hostcall::GetSharedData,
        Hostcall::SetSharedData,
        Hostcall::GetBufferBytes,
    ];
    for call in calls {
        for skipped in 1..9 {
            let fleet = watching(&of(&[&gone, &stays]));
            let asked = fleet.asked();
            let fault = fleet.world.fault(call, Status::InternalFailure).nth(skipped);
            let removed = json!({"orgs": {"initech": null}, "removed_keys": [gone.sha256_hex()]});
            change(asked, "\"2\"", changes("1", removed));
            fault.clear();
            fleet.pass(1_000);
            fleet.refuses(&stranger, 401, "tollgate_unknown_key");
            fleet.admits(&stays);
            let whole = with(of(&[&stays]), "orgs.initech", json!({}));
            if fleet.fetches("failed") + fleet.fetches("rejected") > 0 {
                let asked = fleet.asked();
                asked.answer(200, &[("etag", "\"2\"")], whole.to_string());
            }
            fleet.pass(1_000);
            fleet.refuses(&gone, 401, "tollgate_unknown_key");
            fleet.admits(&stays);
        }
    }
}
