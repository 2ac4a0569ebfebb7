mod watch;

use std::sync::Arc;

use super::*;
use crate::directory::lookup::Lookup;
use crate::directory::{OnStale, Source};
use crate::key::ApiKey;
use crate::request::Request;
use crate::state::fake::Worker;

const SECOND: u64 = 1_000_000_000;

/// What a fetcher has done.
#[derive(Default)]
struct Around {
    calls: u32,
    asked: Vec<Option<String>>,
    after: Vec<Option<String>>,
    unreachable: bool,
    fetched: Vec<Fetched>,
    complaints: Vec<String>,
    busy: bool,
    age: Option<u64>,
    in_force: Option<(u64, u64)>,
}

impl Outside<Worker> for Around {
    type Call = u32;

    fn ask(&mut self, _host: &mut Worker, question: &Question<'_>) -> Result<u32, String> {
        if self.unreachable {
            return Err("no such cluster".into());
        }
        self.asked.push(question.etag.map(str::to_owned));
        self.after.push(question.after.map(str::to_owned));
        self.calls += 1;
        Ok(self.calls)
    }

    fn busy(&mut self, _host: &mut Worker, busy: bool) {
        self.busy = busy;
    }

    fn count(&mut self, fetched: Fetched) {
        self.fetched.push(fetched);
    }

    fn age(&mut self, seconds: u64) {
        self.age = Some(seconds);
    }

    fn in_force(&mut self, keys: u64, orgs: u64) {
        self.in_force = Some((keys, orgs));
    }

    fn complain(&mut self, complaint: &str) {
        self.complaints.push(complaint.to_owned());
    }
}

struct Stage {
    fetcher: Fetcher<u32>,
    host: Worker,
    around: Around,
}

/// A fetcher that has just asked for the first time.
fn stage() -> Stage {
    stage_of(Plan {
        refresh: 10 * SECOND,
        timeout: 30 * SECOND,
        watch: None,
        allow_empty: false,
    })
}

fn stage_of(plan: Plan) -> Stage {
    let mut stage = Stage {
        fetcher: Fetcher::new(plan),
        host: Worker::at(1_000 * SECOND),
        around: Around::default(),
    };
    stage.tick();
    stage
}

fn document(keys: &[&ApiKey]) -> String {
    let rows: Vec<String> = keys
        .iter()
        .enumerate()
        .map(|(at, key)| {
            format!(
                r#"{{"id": "k{at}", "sha256": "{}", "org": "acme"}}"#,
                key.sha256_hex()
            )
        })
        .collect();
    format!(
        r#"{{"version": 1, "orgs": {{"acme": {{"models": ["*"]}}}}, "keys": [{}]}}"#,
        rows.join(",")
    )
}

impl Stage {
    fn tick(&mut self) {
        self.fetcher.tick(&mut self.host, &mut self.around);
    }

    /// So much time passes, and the fetcher looks at the clock.
    fn pass(&mut self, nanos: u64) {
        self.host.pass(nanos);
        self.tick();
    }

    /// Answers the last call, and lets the fetcher work until it is done.
    fn answer(&mut self, status: Option<&str>, etag: Option<&str>, body: &str) {
        let response = Response {
            status,
            etag,
            ..Response::default()
        };
        self.respond(&response, body.into());
    }

    /// The same with any answer.
    fn respond(&mut self, response: &Response<'_>, body: Vec<u8>) {
        let call = self.around.calls;
        let body = || Ok(body);
        self.fetcher
            .answered(call, response, body, &mut self.host, &mut self.around);
        while matches!(self.fetcher.state, State::Working(..)) {
            assert!(self.around.busy);
            self.tick();
        }
    }

    fn knows(&mut self, key: &ApiKey) -> bool {
        let source = Source::Http {
            max_stale: 60 * SECOND,
            on_stale: OnStale::Deny,
        };
        let bearer = format!("Bearer {}", key.reveal());
        let request = Request::read([(&b"authorization"[..], bearer.as_bytes())].into_iter());
        let secret = crate::auth::presented(&request).unwrap();
        let host = &mut self.host;
        matches!(Lookup::new(Arc::new(source), host).key(secret, host), Ok(Some(_)))
    }

    fn complaint(&self) -> &str {
        self.around.complaints.last().unwrap()
    }
}

#[test]
fn a_document_is_in_force_once_it_is_read_and_stays_until_the_next() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let mut stage = stage();
    stage.answer(Some("200"), Some("v1"), &document(&[&one]));
    assert_eq!(stage.around.in_force, Some((1, 1)));
    assert!(stage.knows(&one) && !stage.knows(&two));
    // Not before it is time.
    stage.pass(9 * SECOND);
    assert_eq!((stage.around.calls, stage.around.age), (1, Some(9)));
    stage.pass(SECOND);
    stage.answer(Some("304"), None, "");
    stage.pass(10 * SECOND);
    stage.answer(Some("200"), Some("v2"), &document(&[&two]));
    assert!(!stage.knows(&one) && stage.knows(&two));
    assert_eq!(stage.around.asked, [None, Some("v1".into()), Some("v1".into())]);
    assert_eq!(
        stage.around.fetched,
        [Fetched::Changed, Fetched::Unchanged, Fetched::Changed]
    );
    assert!(
        stage.around.complaints.is_empty(),
        "{:?}",
        stage.around.complaints
    );
}

#[test]
fn what_goes_wrong_is_said_once_and_the_last_good_one_stays() {
    let key = ApiKey::mint(&[1; 40]);
    let mut stage = stage();
    stage.answer(None, None, "");
    assert!(stage.around.complaints[0].contains("every request is refused"));
    // There is none at all: soon again.
    stage.pass(SECOND);
    stage.answer(Some("200"), Some("v1"), &document(&[&key]));
    for (status, etag, body, complaint) in [
        (Some("503"), None, "", "answered with status 503"),
        (Some("503"), None, "", "answered with status 503"),
        (Some("200"), Some("v2"), "{}", "the document is rejected"),
        (
            Some("200"),
            Some("v2"),
            &document(&[])[..],
            "is empty, and the directory in force has 1",
        ),
        (None, None, "", "cannot be reached"),
    ] {
        stage.pass(10 * SECOND);
        stage.answer(status, etag, body);
        assert!(stage.complaint().contains(complaint), "{complaint}");
        assert!(stage.knows(&key));
    }
    assert_eq!(stage.around.complaints.len(), 5);
    assert!(
        stage
            .around
            .asked
            .iter()
            .skip(2)
            .all(|etag| etag.as_deref() == Some("v1"))
    );
    stage.around.unreachable = true;
    stage.pass(10 * SECOND);
    assert!(stage.complaint().contains("no such cluster"));
}

#[test]
fn what_is_shared_in_part_is_confirmed_by_nobody() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let mut stage = stage();
    stage.answer(Some("200"), Some("v1"), &document(&[&one]));
    stage.host.refuse_writes(true);
    stage.pass(10 * SECOND);
    stage.answer(Some("200"), Some("v2"), &document(&[&two]));
    assert_eq!(stage.around.fetched.last(), Some(&Fetched::Failed));
    stage.host.refuse_writes(false);
    stage.pass(10 * SECOND);
    assert_eq!(stage.around.asked.last(), Some(&None));
    stage.answer(Some("200"), Some("v2"), &document(&[&two]));
    assert!(stage.knows(&two));
}

#[test]
fn an_answer_that_never_comes_is_not_waited_for_and_none_of_another_call_is_taken() {
    let mut stage = stage();
    let response = Response {
        status: Some("200"),
        ..Response::default()
    };
    let never = || panic!("not its body");
    stage
        .fetcher
        .answered(99, &response, never, &mut stage.host, &mut stage.around);
    stage.pass(61 * SECOND);
    assert!(stage.around.complaints[0].contains("no answer came"));
}

#[test]
fn a_clock_that_is_set_back_keeps_no_directory_young() {
    let key = ApiKey::mint(&[1; 40]);
    let mut stage = stage();
    stage.answer(Some("200"), None, &document(&[&key]));
    stage.host.set_back(500 * SECOND);
    stage.tick();
    stage.host.pass(61 * SECOND);
    assert!(!stage.knows(&key));
    // And the next fetch is not put off either.
    stage.tick();
    assert_eq!(stage.around.calls, 2);
}
