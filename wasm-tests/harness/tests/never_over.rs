//! Never over: 200 clients at once on each kind of limit, on all workers of a real Envoy, in real time.
//!
//! An accountant of the test's own sums up what the model server saw. It knows of each request when its client sent it
//! and when it was there; in between the gateway admitted it, by the same clock. So of any two moments: what was sent
//! after the first and was there before the second is at most burst + rate × time. No tolerance is needed.
//!
//! And while clients wait as they are told, at least 99% of what a limit allows is admitted: the burst until the first
//! of them is refused, and the rate from then to the last refusal.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::{Either, join_all, select};
use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::models::{Ending, FAULT_HEADER, ModelServer, Seen};
use tollgate_harness::{Catalogue, Client, Directory, Gateway, Options, net};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const MODELS: [&str; 2] = ["llama-70b", "llama-8b"];
/// Of each limit.
const CLIENTS: usize = 200;
/// Connections of HTTP/2 that half of a limit's clients share; the others have one of HTTP/1.1 each.
const SHARED: usize = 10;
const WAVE: Duration = Duration::from_millis(4_000);
/// How long a request that was given up holds what its model server may still do.
const HOLD: Duration = Duration::from_secs(1);
/// What a million tokens of input and of output cost.
const PRICE: (u64, u64) = (1, 4);
/// For each byte of text at least an eighth of a token is reserved, and this word is one: no estimate of an input
/// is too low.
const WORD: &str = "mnemonics ";

/// A limit, and who asks.
struct Case {
    name: &'static str,
    per: &'static [&'static str],
    count: &'static str,
    rate: u64,
    unit: &'static str,
    burst: u64,
    orgs: usize,
    /// Of each organization.
    keys: usize,
}

const fn case(name: &'static str, per: &'static [&'static str], count: &'static str) -> Case {
    Case {
        name,
        per,
        count,
        rate: 20,
        unit: "second",
        burst: 40,
        orgs: 1,
        keys: 1,
    }
}

/// Limits of which each wave is asked at once. The rates are such that a busy machine can keep up with them.
fn waves() -> [Vec<Case>; 3] {
    let tokens = |name, count| Case {
        rate: 10_000,
        burst: 20_000,
        ..case(name, &["key"], count)
    };
    [
        vec![
            case("each-key", &["key"], "requests"),
            Case {
                rate: 1_200,
                unit: "minute",
                burst: 15,
                keys: 4,
                ..case("keys-of-an-org", &["org"], "requests")
            },
            tokens("tokens", "tokens"),
        ],
        vec![
            tokens("input", "input_tokens"),
            tokens("output", "output_tokens"),
            Case {
                rate: 1_200_000,
                unit: "minute",
                burst: 60_000,
                orgs: 2,
                ..case("cost", &["org"], "cost")
            },
        ],
        vec![
            Case {
                rate: 10,
                burst: 10,
                orgs: 2,
                ..case("org-and-model", &["org", "model"], "requests")
            },
            Case {
                rate: 72_000,
                unit: "hour",
                burst: 20,
                orgs: 3,
                keys: 2,
                ..case("all-together", &[], "requests")
            },
            Case {
                per: &["model"],
                orgs: 2,
                ..tokens("model", "tokens")
            },
        ],
    ]
}

/// A client of a case: who it is, and what it asks for again and again.
struct Asker {
    org: String,
    key: Arc<ApiKey>,
    model: &'static str,
    number: usize,
}

impl Case {
    fn org(&self, at: usize) -> String {
        format!("{}-{at}", self.name)
    }

    /// The row, for the case's own organizations.
    fn row(&self) -> Value {
        let orgs: Vec<String> = (0..self.orgs).map(|at| self.org(at)).collect();
        json!({
            "name": self.name, "per": self.per, "when": {"org": orgs}, "count": self.count,
            "rate": format!("{}/{}", self.rate, self.unit), "burst": self.burst,
        })
    }

    fn period(&self) -> u128 {
        match self.unit {
            "second" => 1_000_000_000,
            "minute" => 60_000_000_000,
            "hour" => 3_600_000_000_000,
            other => panic!("no unit: {other}"),
        }
    }

    fn askers(&self, directory: &mut Directory) -> Vec<Asker> {
        let keys: Vec<(String, Arc<ApiKey>)> = (0..self.orgs * self.keys)
            .map(|at| {
                let org = self.org(at % self.orgs);
                directory.org(&org, json!({"tier": "pro", "models": ["llama-*"]}));
                let key = Arc::new(directory.key(&org));
                (org, key)
            })
            .collect();
        (0..CLIENTS)
            .map(|number| {
                let (org, key) = &keys[number % keys.len()];
                Asker {
                    org: org.clone(),
                    key: key.clone(),
                    model: MODELS[number / keys.len() % 2],
                    number,
                }
            })
            .collect()
    }

    /// Whose account a request goes to.
    fn account(&self, asker: &Asker) -> String {
        let parts = self.per.iter().map(|dimension| match *dimension {
            "key" => asker.key.id(),
            "org" => &asker.org,
            "model" => asker.model,
            other => panic!("no account by {other}"),
        });
        parts.collect::<Vec<_>>().join(" ")
    }

    /// What a request took of the limit.
    fn amount(&self, seen: &Seen) -> u64 {
        let (input, output) = (seen.input_tokens, seen.output_tokens);
        match self.count {
            "requests" => 1,
            "tokens" => input + output,
            "input_tokens" => input,
            "output_tokens" => output,
            "cost" => input * PRICE.0 + output * PRICE.1,
            other => panic!("nothing to count: {other}"),
        }
    }
}

/// What one request takes of its account, and when.
#[derive(Clone, Copy)]
struct Entry {
    /// When its client sent it, in nanoseconds since 1970.
    sent: u64,
    /// When the model server had it, likewise.
    arrived: u64,
    amount: u64,
}

/// What became of a client's requests.
#[derive(Default)]
struct Answers {
    /// By id, when it was sent.
    admitted: Vec<(String, u64)>,
    /// When each that was refused was sent, and when its answer was there.
    refused: Vec<(u64, u64)>,
}

fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}

impl Asker {
    /// Whether it shares a connection of HTTP/2.
    fn shares(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    /// Chats of words, and completions of token numbers.
    fn body(&self) -> (&'static str, Value) {
        let (output, input) = (300 + self.number % 5 * 50, 20 + self.number % 7 * 5);
        let mut body =
            json!({"model": self.model, "max_tokens": output, "stream": self.number.is_multiple_of(8)});
        if self.number % 4 < 2 {
            body["messages"] = json!([{"role": "user", "content": WORD.repeat(input)}]);
            (CHAT, body)
        } else {
            body["prompt"] = json!(vec![7; 10 * input]);
            (COMPLETIONS, body)
        }
    }

    /// Asks until `deadline`, and waits as it is told.
    async fn insist(&self, client: &Client, deadline: Instant) -> Answers {
        let (path, body) = self.body();
        let mut answers = Answers::default();
        loop {
            let request = client
                .post(path)
                .key(self.key.as_ref())
                .header(
                    FAULT_HEADER,
                    &format!("tokens={}, batch=1000", body["max_tokens"]),
                )
                .json(body.clone());
            let request = if self.shares() { request.http2() } else { request };
            let sent = nanos();
            let reply = request.send().await;
            let mut again = Instant::now();
            if reply.status == 200 {
                answers
                    .admitted
                    .push((reply.request_id().unwrap().to_owned(), sent));
            } else {
                let reply = reply.expect(429).code("rate_limit_exceeded");
                answers.refused.push((sent, nanos()));
                let told = reply.header("retry-after-ms").unwrap().parse().unwrap();
                again += Duration::from_millis(told);
            }
            if again >= deadline {
                return answers;
            }
            tokio::time::sleep_until(again.into()).await;
        }
    }
}

/// What the model server saw for one account, and the refusals.
#[derive(Default)]
struct Account {
    entries: Vec<Entry>,
    refused: Vec<(u64, u64)>,
}

impl Account {
    /// Asserts that it is what the limit allows: never more, in no span of time, and hardly less in all.
    fn audit(&self, case: &Case, name: &str) -> String {
        let mut entries = self.entries.clone();
        entries.sort_by_key(|entry| entry.arrived);
        let allowed =
            |nanos: u64| u128::from(case.burst) * case.period() + u128::from(nanos) * u128::from(case.rate);
        for since in &entries {
            let mut sum = 0;
            for entry in entries.iter().filter(|entry| entry.sent >= since.sent) {
                sum += u128::from(entry.amount) * case.period();
                let span = entry.arrived - since.sent;
                assert!(
                    sum <= allowed(span),
                    "{} {name}: {} in {span} ns, and {} are allowed",
                    case.name,
                    sum / case.period(),
                    allowed(span) / case.period()
                );
            }
        }
        // Where somebody is refused the burst is spent, and from then on what leaks is.
        let (_, first) = *self.refused.iter().min_by_key(|(_, answered)| answered).unwrap();
        let (last, answered) = *self.refused.iter().max().unwrap();
        let span = last.saturating_sub(first);
        let could = u64::try_from(allowed(span) / case.period()).unwrap();
        let until = entries.iter().filter(|entry| entry.sent <= answered);
        let sum: u64 = until.map(|entry| entry.amount).sum();
        let line = format!(
            "{:14} {name:24} {:4} requests, {sum:6} of {could:6} in {:4} ms, {:5} refused",
            case.name,
            entries.len(),
            span / 1_000_000,
            self.refused.len()
        );
        // The one that was refused last would still have been too much.
        let next = entries.iter().map(|entry| entry.amount).max().unwrap();
        assert!((sum + next) * 100 >= could * 99, "{line}");
        assert!(span > u64::try_from(WAVE.as_nanos()).unwrap() / 2, "{line}");
        line
    }
}

struct Stage {
    gateway: Gateway,
    model: ModelServer,
}

impl Stage {
    async fn set(workers: u32, directory: &Directory, limits: Vec<Value>) -> Self {
        let model = ModelServer::start().await.unwrap();
        let mut catalogue = Catalogue::new();
        for name in MODELS {
            catalogue.change(name, json!({"price": {"input": PRICE.0, "output": PRICE.1}}));
        }
        let gateway = Options::new()
            .workers(workers)
            .directory(directory)
            .catalogue(&catalogue)
            .llama(model.addr())
            .limits(json!({"limits": limits, "abandoned_hold": format!("{}s", HOLD.as_secs())}))
            .start()
            .await;
        Self { gateway, model }
    }

    /// Asks for all cases at once; a line for each account.
    async fn run(&self, cases: &[(Case, Vec<Asker>)]) -> Vec<String> {
        self.model.ledger().clear();
        let deadline = Instant::now() + WAVE;
        let mut tasks = Vec::new();
        for (at, (case, askers)) in cases.iter().enumerate() {
            let clients: Vec<Client> = (0..SHARED).map(|_| self.gateway.client()).collect();
            for asker in askers {
                let client = clients[asker.number / 2 % SHARED].clone();
                let whose = (at, case.account(asker));
                tasks.push(async move { (whose, asker.insist(&client, deadline).await) });
            }
        }
        let mut accounts: BTreeMap<(usize, String), Account> = BTreeMap::new();
        let mut admitted = HashMap::new();
        for (whose, answers) in join_all(tasks).await {
            let account = accounts.entry(whose.clone()).or_default();
            account.refused.extend(answers.refused);
            for (id, sent) in answers.admitted {
                let before = admitted.insert(id, (whose.clone(), sent));
                assert_eq!(before, None, "an id came twice");
            }
        }
        let seen = self.model.wait_for(admitted.len(), Duration::from_secs(10)).await;
        for row in seen.unwrap() {
            assert_eq!(row.ending, Ending::Completed);
            // One that nobody was answered would be no request of a client's.
            let (whose, sent) = admitted.remove(row.request_id.as_deref().unwrap()).unwrap();
            let amount = cases[whose.0].0.amount(&row);
            accounts.get_mut(&whose).unwrap().entries.push(Entry {
                sent,
                arrived: row.arrived,
                amount,
            });
        }
        assert_eq!(admitted.len(), 0, "answered, and not by the model server");
        accounts
            .iter()
            .map(|((at, name), account)| account.audit(&cases[*at].0, name))
            .collect()
    }
}

async fn never_over(workers: u32) {
    let mut directory = Directory::empty();
    let waves = waves().map(|cases| {
        cases
            .into_iter()
            .map(|case| {
                let askers = case.askers(&mut directory);
                (case, askers)
            })
            .collect::<Vec<_>>()
    });
    let rows = waves.iter().flatten().map(|(case, _)| case.row()).collect();
    let stage = Stage::set(workers, &directory, rows).await;
    for wave in &waves {
        for line in stage.run(wave).await {
            println!("{workers} workers: {line}");
        }
    }
}

#[tokio::test]
async fn never_over_with_two_workers() {
    never_over(2).await;
}

#[tokio::test]
async fn never_over_with_four_workers() {
    never_over(4).await;
}

/// Requests under way at once, most of them ever.
fn most_at_once(mut spans: Vec<(u64, u64)>) -> usize {
    spans.sort_unstable();
    let under_way = |at: u64| {
        spans
            .iter()
            .filter(move |(from, to)| (*from..*to).contains(&at))
            .count()
    };
    spans.iter().map(|(from, _)| under_way(*from)).max().unwrap_or(0)
}

/// 200 clients of an organization with 4 keys, every third of which leaves before its answer is there. The gateway counts
/// a request from before the model server has it until the last byte is on its way, or its client has left.
#[tokio::test]
async fn never_more_at_once() {
    const MAX: usize = 20;
    let case = Case {
        keys: 4,
        ..case("at-once", &["org"], "concurrent")
    };
    let mut directory = Directory::empty();
    let askers = case.askers(&mut directory);
    let row = json!({"name": "org-concurrent", "per": ["org"], "count": "concurrent", "max": MAX});
    let stage = Stage::set(4, &directory, vec![row]).await;
    let deadline = Instant::now() + WAVE;
    let client = stage.gateway.client();
    let ask = |asker: &Asker, number: &str| {
        let request = client
            .post(CHAT)
            .key(asker.key.as_ref())
            .header(FAULT_HEADER, "tokens=10, first-byte=100ms")
            .header("x-number", number)
            .json(json!({"model": asker.model, "max_tokens": 10, "messages": []}));
        if asker.shares() { request.http2() } else { request }
    };
    let left: Mutex<HashMap<String, u64>> = Mutex::default();
    let tasks = askers.iter().map(async |asker| {
        for round in 0.. {
            let number = format!("{}-{round}", asker.number);
            let request = ask(asker, &number).send();
            if asker.number.is_multiple_of(3) {
                let mut request = pin!(request);
                let patience = tokio::time::sleep(Duration::from_millis(60));
                if let Either::Right(_) = select(request.as_mut(), pin!(patience)).await {
                    left.lock().unwrap().insert(number, nanos());
                }
                // Given up here.
            } else {
                let reply = request.await;
                if reply.status != 200 {
                    reply
                        .expect(429)
                        .kind("concurrent_requests")
                        .has("retry-after-ms", "1000");
                }
            }
            if Instant::now() >= deadline {
                return;
            }
            // Sooner than told, so that a place is wanted as soon as it is free.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    join_all(tasks).await;
    let seen = stage.model.wait_for(1, Duration::from_secs(10)).await.unwrap();
    let spans = seen.iter().map(|row| {
        let left = left.lock().unwrap().get(row.header("x-number").unwrap()).copied();
        // The place of one that was given up stays taken.
        let taken = left.map(|left| left + u64::try_from(HOLD.as_nanos()).unwrap());
        let ended = match row.ending {
            Ending::Aborted => taken.unwrap_or(row.ended),
            _ => left.map_or(row.ended, |left| left.min(row.ended)),
        };
        (row.arrived, ended)
    });
    let most = most_at_once(spans.collect());
    let aborted = seen.iter().filter(|row| row.ending == Ending::Aborted).count();
    println!(
        "{} requests, {aborted} of them given up, {most} at once",
        seen.len()
    );
    assert!(aborted > 20 && seen.len() - aborted > 20);
    assert_eq!(most, MAX);

    // Nobody holds a place any more, once what was given up must be over.
    net::eventually("all places are free", async || {
        let whole = join_all(askers[..MAX].iter().map(|asker| ask(asker, "").send())).await;
        whole.iter().all(|reply| reply.status == 200).then_some(())
    })
    .await;
}
