//! Documents on their way in: many small steps while workers serve, and bad ones refused whole.

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_vm::{Hostcall, World};

use crate::stage::{CHAT, Fleet, directory, expect_secret, fleet, key, row};

/// Each look at the clock finds it 12 ms later than the last: a slice is over after one step.
fn slow_clock(world: &World) {
    let again = world.clone();
    let _ = world.before(Hostcall::GetCurrentTime, move || {
        again.advance(Duration::from_millis(12));
        slow_clock(&again);
    });
}

#[test]
fn workers_serve_while_a_large_document_is_read_in_many_steps() {
    // Buckets are written in the order of the keys' hashes: one of the first is there for most of the time.
    let early = (90_000..93_000)
        .map(key)
        .find(|key| key.sha256_hex().starts_with('0'));
    let (old, new) = (key(1), early.unwrap());
    let fleet = Fleet::loaded(&directory([row(&old, json!({}))]));
    let keys = (0..3_000).map(|n| row(&key(90_000 + n), json!({})));
    let asked = fleet.asked();
    slow_clock(&fleet.world);
    asked.answer(200, &[("etag", "\"2\"")], directory(keys).to_string());
    let (mut steps, mut old_admitted, mut new_admitted) = (0, 0, 0);
    while fleet.fetches("ok") < 2 {
        fleet.fetcher.tick();
        steps += 1;
        assert!(steps < 5_000, "{:?}", fleet.world.log());
        // Looked at anew each time, so each key is admitted or refused, and nothing breaks.
        old_admitted += u32::from(
            fleet.workers[0]
                .post(CHAT)
                .bearer(old.reveal())
                .start()
                .is_forwarded(),
        );
        new_admitted += u32::from(
            fleet.workers[1]
                .post(CHAT)
                .bearer(new.reveal())
                .start()
                .is_forwarded(),
        );
    }
    fleet.world.clear_faults();
    // What a worker has at hand stays until it is told; the rest is there as soon as it is written.
    assert!(steps > 150 && old_admitted == steps, "{old_admitted} of {steps}");
    assert!((100..steps).contains(&new_admitted), "{new_admitted} of {steps}");
    fleet.pass(1_000);
    fleet.admits(&new);
    fleet.refuses(&old, 401, "tollgate_unknown_key");
}

/// Every kind of bad document, with what is said of it.
fn bad_documents() -> Vec<(String, &'static str)> {
    let good = key(1);
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut document = directory([row(&good, json!({})), row(&key(2), json!({}))]);
        edit(&mut document);
        document.to_string()
    };
    let whole = edited(&|_| {});
    vec![
        (String::new(), "the document is empty"),
        ("<html>It works!</html>".into(), "expected `{` here"),
        ("null".into(), "expected `{` here"),
        ("[]".into(), "expected `{` here"),
        ("\u{feff}{}".into(), "expected `{` here"),
        ("{}".into(), "missing field `version`"),
        (whole[..whole.len() / 2].to_owned(), "EOF while parsing"),
        (whole[..whole.len() - 1].to_owned(), "cut short"),
        (format!("{whole}x"), "something follows the end"),
        (format!("{whole}{whole}"), "something follows the end"),
        (
            edited(&|document| document["version"] = json!(2)),
            "version: found `2`, expected 1",
        ),
        (edited(&|document| document["version"] = json!("1")), "version: "),
        (
            edited(&|document| document["extra"] = json!(1)),
            "extra: unknown field",
        ),
        (edited(&|document| document["orgs"] = json!([])), "orgs: "),
        (
            edited(&|document| document["keys"] = json!({})),
            "keys: expected `[`",
        ),
        (
            edited(&|document| document["keys"][1] = json!(7)),
            "keys[1]: invalid type: integer `7`",
        ),
        (
            edited(&|document| document["keys"][1]["org"] = json!("nobody")),
            "keys[1].org: found `nobody`",
        ),
        (
            edited(&|document| document["keys"][1]["project"] = json!("nothing")),
            "keys[1].project: found `nothing`",
        ),
        (
            edited(&|document| document["keys"][1]["scope"] = json!(["chat"])),
            "keys[1].scope: unknown field `scope`",
        ),
        (
            edited(&|document| document["keys"][1]["sha256"] = json!(key(3).reveal())),
            "keys[1].sha256: expected the SHA-256",
        ),
        (
            edited(&|document| document["keys"][1]["id"] = document["keys"][0]["id"].clone()),
            "is given twice",
        ),
        (
            edited(&|document| document["keys"][1]["sha256"] = document["keys"][0]["sha256"].clone()),
            "have the same sha256",
        ),
        (
            edited(&|document| document["orgs"]["acme"]["status"] = json!("frozen")),
            "orgs.acme.status: unknown variant `frozen`",
        ),
        (
            edited(&|document| document["keys"] = json!([])),
            "keys: is empty, and the directory in force has 1",
        ),
        (
            whole.replacen("\"keys\"", "\"keys\":[],\"keys\"", 1),
            "keys: is given twice",
        ),
    ]
}

#[test]
fn a_directory_may_be_emptied_on_purpose() {
    let known = key(1);
    let mut fleet = Fleet::loaded(&directory([row(&known, json!({}))]));
    fleet.fetcher = crate::stage::fetcher_with(&fleet.world, json!({"allow_empty": true}));
    fleet.take_over(&directory([]), "\"2\"");
    fleet.refuses(&known, 401, "tollgate_unknown_key");
    assert_eq!(fleet.fetches("rejected"), 0);
}

/// Before there are keys there is nothing to lose.
#[test]
fn a_directory_may_begin_empty() {
    let fleet = Fleet::loaded(&directory([]));
    fleet.take_over(&directory([row(&key(1), json!({}))]), "\"2\"");
    fleet.admits(&key(1));
}

#[test]
fn a_bad_document_is_refused_whole_and_the_last_good_one_stays() {
    let (known, hidden) = (key(10), key(1));
    let fleet = Fleet::loaded(&directory([row(&known, json!({}))]));
    for (at, (document, reason)) in (1..).zip(bad_documents()) {
        let complaints = fleet.said("the document is rejected");
        fleet.serve(&document, "\"bad\"");
        // The server goes on serving it: that is counted each time, and said once.
        fleet.serve(&document, "\"bad\"");
        assert_eq!(fleet.fetches("rejected"), 2 * at, "{document}");
        assert_eq!(
            fleet.said("the document is rejected"),
            complaints + 1,
            "{document}"
        );
        let said = fleet.world.log().pop().unwrap().text;
        assert!(said.contains(reason), "`{reason}` is not in `{said}`");
        fleet.admits(&known);
        fleet.refuses(&hidden, 401, "tollgate_unknown_key");
        // Only a document that was taken over is asked about.
        let call = fleet.asked();
        assert_eq!(call.headers.text("if-none-match").as_deref(), Some("\"1\""));
        call.answer(304, &[], "");
    }
    for secret in [&hidden, &key(2), &key(3)] {
        expect_secret(&fleet.world, secret);
    }
    assert_eq!(fleet.fetches("ok"), 1);
    fleet.take_over(&directory([row(&hidden, json!({}))]), "\"2\"");
    fleet.admits(&hidden);
}

/// The first document being bad, there is none.
#[test]
fn a_bad_first_document_admits_nobody() {
    let fleet = fleet();
    fleet.serve("{\"version\": 1}", "\"1\"");
    fleet.refuses(&key(1), 503, "tollgate_directory_unavailable");
    fleet.take_over(&directory([row(&key(1), json!({}))]), "\"2\"");
    fleet.admits(&key(1));
}

#[test]
fn a_thousand_mistakes_are_not_a_thousand_lines() {
    let fleet = fleet();
    let rows = (0..1_000).map(|n| row(&key(n), json!({"org": "nobody"})));
    fleet.serve(directory(rows).to_string(), "\"1\"");
    let said = fleet.world.log().pop().unwrap().text;
    assert!(said.contains("keys[0].org") && !said.contains("keys[40].org"));
    assert!(said.len() < 4_000, "{}", said.len());
}

/// Whatever order a tool writes the members in, and however it writes its numbers.
#[test]
fn the_order_of_members_makes_no_difference() {
    let known = key(1);
    let document = directory([row(&known, json!({}))]);
    let (orgs, keys) = (&document["orgs"], &document["keys"]);
    for text in [
        format!("{{\"keys\":{keys},\"orgs\":{orgs},\"version\":1.0}}"),
        format!("\n {{ \"orgs\" : {orgs} ,\r\n\t\"version\" : 1e0 , \"keys\" : {keys} }}\n\n"),
    ] {
        let fleet = fleet();
        fleet.serve(text, "\"1\"");
        fleet.admits(&known);
    }
}
