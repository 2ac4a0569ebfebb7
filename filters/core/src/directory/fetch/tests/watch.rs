//! A server that says what changed, one that only seems to, and one that says it wrongly.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const WATCH: u64 = 25 * SECOND;
const CHANGES: &str = "application/vnd.tollgate.changes+json";

/// A fetcher that watches, and has just asked for the first time.
fn watching() -> Stage {
    stage_of(Plan {
        refresh: 10 * SECOND,
        timeout: 30 * SECOND,
        watch: Some(WATCH),
        allow_empty: false,
    })
}

/// One that has taken over version `v1`, with this key, and asks what changed since.
fn watching_from(key: &ApiKey) -> Stage {
    let mut stage = watching();
    stage.answer(Some("200"), Some("\"v1\""), &document(&[key]));
    stage.pass(SECOND / 4);
    assert_eq!(stage.asked_after(), Some("v1"));
    stage
}

fn row(id: &str, key: &ApiKey) -> String {
    format!(
        r#"{{"id": "{id}", "sha256": "{}", "org": "acme"}}"#,
        key.sha256_hex()
    )
}

fn changes(after: &str, more: &str) -> String {
    format!(r#"{{"version": 1, "after": "{after}", {more}}}"#)
}

fn adding(after: &str, id: &str, key: &ApiKey) -> String {
    changes(
        after,
        &format!(r#""orgs": {{}}, "keys": [{}], "removed_keys": []"#, row(id, key)),
    )
}

fn removing(after: &str, key: &ApiKey) -> String {
    changes(after, &format!(r#""removed_keys": ["{}"]"#, key.sha256_hex()))
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

impl Stage {
    /// The version that was asked with last.
    fn asked_after(&self) -> Option<&str> {
        self.around.after.last().unwrap().as_deref()
    }

    fn change(&mut self, etag: Option<&str>, body: impl Into<Vec<u8>>) {
        let response = Response {
            status: Some("200"),
            etag,
            content_type: Some(CHANGES),
            ..Response::default()
        };
        self.respond(&response, body.into());
    }

    /// The last answer was rejected for this; the whole document is asked for once it is time.
    #[track_caller]
    fn expect_rejected(&mut self, reason: &str) {
        assert_eq!(self.around.fetched.last(), Some(&Fetched::Rejected));
        assert!(self.complaint().contains(reason), "{}", self.complaint());
        let calls = self.around.calls;
        self.pass(SECOND);
        assert_eq!(self.around.calls, calls, "asked at once again");
        self.pass(9 * SECOND);
        assert_eq!(self.around.calls, calls + 1);
        assert_eq!(
            (self.around.asked.last().unwrap(), self.asked_after()),
            (&None, None),
            "not for the whole document"
        );
    }
}

#[test]
fn what_changed_is_in_force_with_the_answer_and_more_is_asked_for_at_once() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let mut stage = watching();
    assert_eq!((stage.asked_after(), stage.around.calls), (None, 1));
    stage.answer(Some("200"), Some("\"v1\""), &document(&[&one]));
    stage.pass(SECOND / 4);
    assert_eq!((stage.asked_after(), stage.around.calls), (Some("v1"), 2));
    stage.pass(20 * SECOND);
    let before = stage.host.calls();
    stage.change(Some("\"v2\""), adding("v1", "two", &two));
    assert!(
        stage.host.calls() - before < 30,
        "{}",
        stage.host.calls() - before
    );
    assert_eq!(stage.around.in_force, Some((2, 1)));
    assert!(stage.knows(&one) && stage.knows(&two));
    assert!(stage.around.busy, "it is time to ask again");
    stage.pass(5_000_000);
    assert_eq!((stage.asked_after(), stage.around.calls), (Some("v2"), 3));
    assert!(!stage.around.busy);
    stage.pass(WATCH);
    stage.answer(Some("304"), None, "");
    stage.pass(5_000_000);
    assert_eq!((stage.asked_after(), stage.around.calls), (Some("v2"), 4));
    stage.pass(SECOND);
    stage.change(Some("\"v3\""), removing("v2", &one));
    assert!(!stage.knows(&one) && stage.knows(&two));
    assert_eq!(stage.around.in_force, Some((1, 1)));
    let changed = Fetched::Changed;
    assert_eq!(
        stage.around.fetched,
        [changed, changed, Fetched::Unchanged, changed]
    );
    assert_eq!(stage.around.asked.last().unwrap().as_deref(), Some("\"v2\""));
    assert!(stage.around.complaints.is_empty());
}

#[test]
fn a_server_that_does_not_wait_is_asked_every_refresh() {
    let key = ApiKey::mint(&[1; 40]);
    let mut stage = watching_from(&key);
    for _ in 0..3 {
        let calls = stage.around.calls;
        stage.answer(Some("304"), None, "");
        stage.pass(9 * SECOND);
        assert_eq!(stage.around.calls, calls);
        stage.pass(SECOND);
        assert_eq!(stage.around.calls, calls + 1);
    }
    // One that sends all of it again and again is neither.
    for version in 2..6 {
        let calls = stage.around.calls;
        stage.answer(Some("200"), Some(&format!("\"v{version}\"")), &document(&[&key]));
        stage.pass(SECOND / 4);
        let at_once = stage.around.calls - calls;
        assert_eq!(at_once, u32::from(version % 2 == 0), "{version}");
        if at_once == 0 {
            stage.pass(10 * SECOND);
        }
    }
}

#[test]
fn without_a_version_there_is_nothing_to_watch() {
    let key = ApiKey::mint(&[1; 40]);
    let long = format!("\"{}\"", "x".repeat(300));
    for etag in [None, Some("\"\""), Some("\"a\u{e9}\""), Some(long.as_str())] {
        let mut stage = watching();
        stage.answer(Some("200"), etag, &document(&[&key]));
        stage.pass(9 * SECOND);
        assert_eq!(stage.around.calls, 1);
        stage.pass(SECOND);
        assert_eq!((stage.around.calls, stage.asked_after()), (2, None));
        assert_eq!(stage.around.asked.last().unwrap().as_deref(), etag);
    }
}

#[test]
fn changes_come_no_quicker_than_ten_times_a_second() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let mut stage = watching_from(&one);
    let calls = stage.around.calls;
    stage.change(Some("\"v2\""), adding("v1", "two", &two));
    stage.pass(5_000_000);
    assert_eq!((stage.around.calls, stage.around.busy), (calls, false));
    stage.pass(SECOND / 10);
    assert_eq!(stage.around.calls, calls + 1);
}

/// Whatever is wrong with changes, none of them is made, and the whole document is asked for.
#[test]
fn changes_that_are_wrong_are_rejected_whole() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let (good, new, old) = (adding("v1", "two", &two), row("two", &two), one.sha256_hex());
    let long = "x".repeat(300);
    let cases: Vec<(Option<&str>, String, &str)> = vec![
        (
            Some("\"v2\""),
            adding("v0", "two", &two),
            "after: found `v0`, expected `v1`",
        ),
        (
            Some("\"v2\""),
            adding(&"y".repeat(100_000), "two", &two),
            "after: found `yyy",
        ),
        (None, good.clone(), "no `ETag`"),
        (Some("\"\""), good.clone(), "no `ETag`"),
        (Some(&long), good.clone(), "no `ETag`"),
        (Some("\"v\u{1}\""), good.clone(), "no `ETag`"),
        (Some("\"v1\""), good.clone(), "in force before"),
        (Some("\"v2\""), String::new(), "the list of changes is empty"),
        (Some("\"v2\""), good[..good.len() - 1].to_owned(), "cut short"),
        (Some("\"v2\""), good.clone() + "x", "something follows"),
        (Some("\"v2\""), "[".repeat(100_000), "expected `{`"),
        (
            Some("\"v2\""),
            changes("v1", &format!(r#""keys": [{}]"#, "[".repeat(1_000_000))),
            "keys[0]",
        ),
        (
            Some("\"v2\""),
            changes(
                "v1",
                &format!(r#""orgs": {{"a": {}"#, r#"{"projects":"#.repeat(100_000)),
            ),
            "orgs.a",
        ),
        (Some("\"v2\""), good.replacen("1", "2", 1), "version: found `2`"),
        (
            Some("\"v2\""),
            r#"{"after": "v1"}"#.into(),
            "missing field `version`",
        ),
        (
            Some("\"v2\""),
            r#"{"version": 1}"#.into(),
            "missing field `after`",
        ),
        (
            Some("\"v2\""),
            changes("v1", r#""after": "v1""#),
            "after: is given twice",
        ),
        (
            Some("\"v2\""),
            changes("v1", r#""keys": [], "keys": []"#),
            "keys: is given twice",
        ),
        (
            Some("\"v2\""),
            changes("v1", r#""keys": null"#),
            "keys: expected `[`",
        ),
        (
            Some("\"v2\""),
            changes("v1", r#""keys": {}"#),
            "keys: expected `[`",
        ),
        (
            Some("\"v2\""),
            changes("v1", r#""removed_keys": [1]"#),
            "removed_keys[0]: invalid type",
        ),
        (
            Some("\"v2\""),
            changes("v1", r#""removed_keys": ["ab"]"#),
            "removed_keys[0]: expected the SHA-256",
        ),
        (
            Some("\"v2\""),
            changes("v1", &format!(r#""removed_keys": ["{old}", "{old}"]"#)),
            "removed_keys[1]: is given twice",
        ),
        (
            Some("\"v2\""),
            changes("v1", r#""orgs": []"#),
            "orgs: invalid type",
        ),
        (
            Some("\"v2\""),
            changes("v1", r#""orgs": {"b": null, "b": null}"#),
            "`b` is given twice",
        ),
        (
            Some("\"v2\""),
            changes("v1", r#""orgs": {"b": {"models": ["a b"]}}"#),
            "orgs.b.models[0]",
        ),
        (
            Some("\"v2\""),
            changes("v1", r#""orgs": {"b": {"teir": "pro"}}"#),
            "orgs.b.teir: unknown field",
        ),
        (
            Some("\"v2\""),
            changes("v1", &format!(r#""keys": [{new}, {new}]"#)),
            "keys[1].sha256: is given twice",
        ),
        (
            Some("\"v2\""),
            changes("v1", &format!(r#""keys": [{new}, {}]"#, row("two", &one))),
            "keys[1].id: is given twice",
        ),
        (
            Some("\"v2\""),
            changes(
                "v1",
                &format!(r#""keys": [{}], "removed_keys": ["{old}"]"#, row("one", &one)),
            ),
            "removed_keys: has a key that is in `keys` too",
        ),
        (
            Some("\"v2\""),
            good.replace("acme", "globex"),
            "keys[0].org: found `globex`, expected an organization, among the changes or in force",
        ),
        (
            Some("\"v2\""),
            good.replace(r#""org": "acme""#, r#""org": "acme", "project": "x""#),
            "keys[0].project: found `x`, expected a project of its organization",
        ),
        (
            Some("\"v2\""),
            good.replace(r#""orgs": {}"#, r#""orgs": {"acme": null}"#),
            "keys[0].org: found `acme`",
        ),
        (
            Some("\"v2\""),
            removing("v1", &one),
            "keys: is empty, and the directory in force has 1",
        ),
        (
            Some("\"v2\""),
            changes("v1", r#""orgs": {"acme": null}"#),
            "keys: is empty",
        ),
        (
            Some("\"v2\""),
            format!("{}{good}", " ".repeat(16 << 20)),
            "has more than 16777216 bytes",
        ),
    ];
    for (etag, body, reason) in cases {
        let mut stage = watching_from(&one);
        let before = stage.host.filled();
        stage.change(etag, body);
        assert!(stage.complaint().contains("the last good one stays in force"));
        assert!(stage.complaint().len() <= 4_096, "{}", stage.complaint().len());
        assert_eq!(stage.host.filled(), before, "{reason}");
        assert!(stage.knows(&one) && !stage.knows(&two), "{reason}");
        stage.expect_rejected(reason);
    }
    // The same that nothing is wrong with.
    let mut stage = watching_from(&one);
    stage.change(Some("\"v2\""), good);
    assert!(stage.knows(&two));
}

#[test]
fn changes_that_nobody_asked_for_are_not_made() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let mut stage = stage();
    stage.change(Some("\"v2\""), adding("", "two", &two));
    assert!(stage.complaint().contains("was not asked for"));
    stage.pass(10 * SECOND);
    stage.answer(Some("200"), Some("\"v1\""), &document(&[&one]));
    stage.pass(10 * SECOND);
    stage.change(Some("\"v2\""), adding("v1", "two", &two));
    stage.expect_rejected("was not asked for");
    assert!(stage.knows(&one) && !stage.knows(&two));
}

/// Another database, with versions of its own: its server sends the whole document.
#[test]
fn a_whole_document_may_come_at_any_time() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let mut stage = watching_from(&one);
    stage.pass(SECOND);
    stage.answer(None, None, "");
    stage.pass(10 * SECOND);
    assert_eq!(stage.asked_after(), Some("v1"), "it may be the same still");
    stage.answer(Some("200"), Some("\"other-7\""), &document(&[&two]));
    assert!(!stage.knows(&one) && stage.knows(&two));
    stage.pass(SECOND / 4);
    assert_eq!(stage.asked_after(), Some("other-7"));
}

#[test]
fn what_others_published_is_not_changed() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let mut stage = watching_from(&one);
    let published = Published::read(&mut stage.host).unwrap();
    let other = Published {
        generation: published.generation + 1,
        ..published
    };
    other.write(&mut stage.host).unwrap();
    stage.change(Some("\"v2\""), adding("v1", "two", &two));
    stage.expect_rejected("is not the one that was put there");
    assert!(!stage.knows(&two));
}

#[test]
fn changes_that_are_shared_in_part_are_followed_by_a_whole_document() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let mut stage = watching_from(&one);
    stage.host.refuse_writes(true);
    stage.change(Some("\"v2\""), adding("v1", "two", &two));
    assert_eq!(stage.around.fetched.last(), Some(&Fetched::Failed));
    stage.host.refuse_writes(false);
    stage.pass(10 * SECOND);
    assert_eq!(
        (stage.around.asked.last().unwrap(), stage.asked_after()),
        (&None, None)
    );
    stage.answer(Some("200"), Some("\"v2\""), &document(&[&one, &two]));
    assert!(stage.knows(&two));
}

#[test]
fn an_answer_may_be_compressed() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let packed = |coding, content_type| Response {
        status: Some("200"),
        etag: Some("\"v1\""),
        content_type,
        content_encoding: Some(coding),
    };
    for coding in ["gzip", "x-gzip", "GZip"] {
        let mut stage = watching();
        stage.respond(&packed(coding, None), gzip(document(&[&one]).as_bytes()));
        assert!(stage.knows(&one));
        stage.pass(SECOND / 4);
        let response = Response {
            etag: Some("\"v2\""),
            ..packed(coding, Some(CHANGES))
        };
        stage.respond(&response, gzip(adding("v1", "two", &two).as_bytes()));
        assert!(stage.knows(&two));
    }
    // Without having been asked for it too.
    let mut stage = stage();
    stage.respond(&packed("gzip", None), gzip(document(&[&one]).as_bytes()));
    assert!(stage.knows(&one));
    for (coding, body, complaint) in [
        ("br", Vec::new(), "coded in a way that was not asked for"),
        ("gzip, gzip", Vec::new(), "coded in a way"),
        ("gzip", Vec::new(), "is not whole and valid gzip"),
        (
            "gzip",
            document(&[&two]).into_bytes(),
            "is not whole and valid gzip",
        ),
        ("gzip", gzip(b"{}")[..15].to_vec(), "is not whole and valid gzip"),
        (
            "gzip",
            [gzip(document(&[&two]).as_bytes()), gzip(b"x")].concat(),
            "is not whole and valid gzip",
        ),
    ] {
        let mut stage = watching();
        stage.respond(&packed(coding, None), body);
        assert!(stage.complaint().contains(complaint), "{}", stage.complaint());
        assert!(!stage.knows(&two));
    }
}

/// Sixteen megabytes of blanks, and what makes a gigabyte of them.
#[test]
fn a_bomb_ends_where_it_has_to() {
    let key = ApiKey::mint(&[1; 40]);
    let mut stage = watching_from(&key);
    let response = Response {
        status: Some("200"),
        etag: Some("\"v2\""),
        content_type: Some(CHANGES),
        content_encoding: Some("gzip"),
    };
    stage.respond(&response, gzip(&vec![b' '; (16 << 20) + 1]));
    stage.expect_rejected("has more than 16777216 bytes once it is decompressed");
    assert!(stage.knows(&key));
}

#[test]
fn a_clock_that_is_set_back_puts_nothing_off() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let mut stage = watching_from(&one);
    // While it waits: the answer comes all the same.
    stage.host.set_back(500 * SECOND);
    stage.change(Some("\"v2\""), adding("v1", "two", &two));
    assert!(stage.knows(&two));
    stage.pass(10 * SECOND);
    assert_eq!(stage.asked_after(), Some("v2"));
    // And an answer that is never to come is not waited for.
    stage.pass(2 * (30 + 25) * SECOND + 1);
    assert!(stage.complaint().contains("no answer came"));
    stage.pass(SECOND);
    assert_eq!(stage.asked_after(), Some("v2"));
}

#[test]
fn an_answer_is_waited_for_as_long_as_it_may_take() {
    let key = ApiKey::mint(&[1; 40]);
    let mut stage = watching_from(&key);
    let calls = stage.around.calls;
    stage.pass(2 * (30 + 25) * SECOND);
    assert_eq!(stage.around.calls, calls);
    stage.answer(Some("304"), None, "");
    assert_eq!(stage.around.fetched.last(), Some(&Fetched::Unchanged));
}
