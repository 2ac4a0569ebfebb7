use super::*;
use crate::directory::lookup::Lookup;
use crate::directory::{OnStale, Source};
use crate::key::ApiKey;
use crate::request::Request;
use crate::state::{Memory, StoreError};

const SECOND: u64 = 1_000_000_000;

/// What is around a fetcher: a store that may fail, a clock that is set by hand, and what it had done.
#[derive(Default)]
struct Around {
    store: Memory,
    broken: bool,
    now: u64,
    calls: u32,
    asked: Vec<Option<String>>,
    unreachable: bool,
    fetched: Vec<Fetched>,
    complaints: Vec<String>,
    busy: bool,
    age: Option<u64>,
    in_force: Option<(u64, u64)>,
}

impl Store for Around {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        self.store.get(key)
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        self.store.swap(key, value, version)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        if self.broken {
            return Err(StoreError::Failed);
        }
        self.store.put(key, value)
    }
}

impl Clock for Around {
    fn now(&self) -> Option<u64> {
        Some(self.now)
    }
}

impl Outside for Around {
    type Call = u32;

    fn ask(&mut self, etag: Option<&str>) -> Result<u32, String> {
        if self.unreachable {
            return Err("no such cluster".into());
        }
        self.asked.push(etag.map(str::to_owned));
        self.calls += 1;
        Ok(self.calls)
    }

    fn busy(&mut self, busy: bool) {
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

fn fetcher() -> Fetcher<u32> {
    Fetcher::new(Plan {
        refresh: 10 * SECOND,
        timeout: 30 * SECOND,
        allow_empty: false,
    })
}

fn around() -> Around {
    Around {
        now: 1_000 * SECOND,
        ..Around::default()
    }
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

impl Around {
    /// Answers the last call, and lets the fetcher work until it is done.
    fn answer(&mut self, fetcher: &mut Fetcher<u32>, status: Option<&str>, etag: Option<&str>, body: &str) {
        let response = Response { status, etag };
        let call = self.calls;
        fetcher.answered(call, &response, || Ok(body.into()), self);
        while self.busy {
            fetcher.tick(self);
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
        matches!(Lookup::new(source, self).key(secret, self), Ok(Some(_)))
    }
}

#[test]
fn a_document_is_in_force_once_it_is_read_and_stays_until_the_next() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let (mut fetcher, mut around) = (fetcher(), around());
    fetcher.tick(&mut around);
    around.answer(&mut fetcher, Some("200"), Some("v1"), &document(&[&one]));
    assert_eq!(around.in_force, Some((1, 1)));
    assert!(around.knows(&one) && !around.knows(&two));
    // Not before it is time.
    around.now += 9 * SECOND;
    fetcher.tick(&mut around);
    assert_eq!((around.calls, around.age), (1, Some(9)));
    around.now += SECOND;
    fetcher.tick(&mut around);
    around.answer(&mut fetcher, Some("304"), None, "");
    around.now += 10 * SECOND;
    fetcher.tick(&mut around);
    around.answer(&mut fetcher, Some("200"), Some("v2"), &document(&[&two]));
    assert!(!around.knows(&one) && around.knows(&two));
    assert_eq!(around.asked, [None, Some("v1".into()), Some("v1".into())]);
    assert_eq!(
        around.fetched,
        [Fetched::Changed, Fetched::Unchanged, Fetched::Changed]
    );
    assert!(around.complaints.is_empty(), "{:?}", around.complaints);
}

#[test]
fn what_goes_wrong_is_said_once_and_the_last_good_one_stays() {
    let key = ApiKey::mint(&[1; 40]);
    let (mut fetcher, mut around) = (fetcher(), around());
    fetcher.tick(&mut around);
    around.answer(&mut fetcher, None, None, "");
    assert!(around.complaints[0].contains("every request is refused"));
    // There is none at all: soon again.
    around.now += SECOND;
    fetcher.tick(&mut around);
    around.answer(&mut fetcher, Some("200"), Some("v1"), &document(&[&key]));
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
        around.now += 10 * SECOND;
        fetcher.tick(&mut around);
        around.answer(&mut fetcher, status, etag, body);
        assert!(
            around.complaints.last().unwrap().contains(complaint),
            "{complaint}"
        );
        assert!(around.knows(&key));
    }
    assert_eq!(around.complaints.len(), 5);
    assert!(
        around
            .asked
            .iter()
            .skip(2)
            .all(|etag| etag.as_deref() == Some("v1"))
    );
    around.unreachable = true;
    around.now += 10 * SECOND;
    fetcher.tick(&mut around);
    assert!(around.complaints.last().unwrap().contains("no such cluster"));
}

#[test]
fn what_is_shared_in_part_is_confirmed_by_nobody() {
    let (one, two) = (ApiKey::mint(&[1; 40]), ApiKey::mint(&[2; 40]));
    let (mut fetcher, mut around) = (fetcher(), around());
    fetcher.tick(&mut around);
    around.answer(&mut fetcher, Some("200"), Some("v1"), &document(&[&one]));
    around.broken = true;
    around.now += 10 * SECOND;
    fetcher.tick(&mut around);
    around.answer(&mut fetcher, Some("200"), Some("v2"), &document(&[&two]));
    assert_eq!(around.fetched.last(), Some(&Fetched::Failed));
    around.broken = false;
    around.now += 10 * SECOND;
    fetcher.tick(&mut around);
    assert_eq!(around.asked.last(), Some(&None));
    around.answer(&mut fetcher, Some("200"), Some("v2"), &document(&[&two]));
    assert!(around.knows(&two));
}

#[test]
fn an_answer_that_never_comes_is_not_waited_for_and_none_of_another_call_is_taken() {
    let (mut fetcher, mut around) = (fetcher(), around());
    fetcher.tick(&mut around);
    let response = Response {
        status: Some("200"),
        etag: None,
    };
    fetcher.answered(99, &response, || panic!("not its body"), &mut around);
    around.now += 61 * SECOND;
    fetcher.tick(&mut around);
    assert!(around.complaints[0].contains("no answer came"));
}

#[test]
fn a_clock_that_is_set_back_keeps_no_directory_young() {
    let key = ApiKey::mint(&[1; 40]);
    let (mut fetcher, mut around) = (fetcher(), around());
    fetcher.tick(&mut around);
    around.answer(&mut fetcher, Some("200"), None, &document(&[&key]));
    around.now -= 500 * SECOND;
    fetcher.tick(&mut around);
    around.now += 61 * SECOND;
    assert!(!around.knows(&key));
    // And the next fetch is not put off either.
    fetcher.tick(&mut around);
    assert_eq!(around.calls, 2);
}
