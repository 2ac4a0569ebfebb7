//! The usage records, held against what clients and model servers saw.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tollgate_harness::models::Seen as Served;
use tollgate_harness::net;
use tollgate_harness::usage_log::UsageRecord;

use crate::plan::{Api, DEEP, Ending, LIAR, Plan, SWIFT};
use crate::stage::{NUMBER, PRICE, Seen, Stage};

pub(crate) struct Books {
    /// By `x-request-id`.
    pub(crate) records: HashMap<String, UsageRecord>,
    /// What model servers saw, by `x-request-id`, in the order of arrival.
    served: HashMap<String, Vec<Served>>,
    /// Requests that reached a model server, by their number.
    ids: HashMap<usize, String>,
    /// Of all that Envoy logged.
    logged: BTreeSet<String>,
}

impl Books {
    /// Waits until every request has ended and is written down.
    pub(crate) async fn close(stage: &Stage) -> Self {
        let records = stage.gateway.usage_records().await;

        let mut rows: Vec<Served> = stage.models.iter().flat_map(|server| server.seen()).collect();
        rows.sort_by_key(|row| row.arrived);
        let (mut served, mut ids) = (HashMap::<String, Vec<Served>>::new(), HashMap::new());
        for row in rows {
            let id = row.request_id.clone().unwrap();
            if let Some(number) = row.header(NUMBER) {
                let before = ids.insert(number.parse().unwrap(), id.clone());
                assert!(
                    before.is_none_or(|before| before == id),
                    "one id for all attempts"
                );
            }
            served.entry(id).or_default().push(row);
        }
        let logged = net::eventually("the access log is written", async || {
            let logged: Vec<_> = stage.gateway.access_log().records();
            (logged.len() >= records.len()).then_some(logged)
        })
        .await;
        Self {
            records,
            served,
            ids,
            logged: logged.into_iter().filter_map(|line| line.request_id).collect(),
        }
    }

    pub(crate) fn one_record_for_each_request(&self, seen: &[(usize, Seen)]) {
        let recorded: BTreeSet<String> = self.records.keys().cloned().collect();
        assert_eq!(recorded, self.logged, "the access log knows the same requests");
        let answered = seen.iter().filter_map(|(_, seen)| seen.id.as_ref());
        let missing: Vec<_> = answered
            .chain(self.served.keys())
            .filter(|id| !recorded.contains(*id))
            .collect();
        assert_eq!(missing, Vec::<&String>::new(), "without a record");
    }

    pub(crate) fn each_ended_as_planned(&self, plans: &[Plan], seen: &[(usize, Seen)]) {
        let mut outcomes = BTreeMap::<Ending, BTreeMap<&str, usize>>::new();
        let mut untraced = 0;
        for (plan, (number, seen)) in plans.iter().zip(seen) {
            assert_eq!(plan.number, *number);
            let Some(id) = seen.id.as_ref().or_else(|| self.ids.get(number)) else {
                // Its client left before it came to a model server.
                assert_eq!(plan.ending, Ending::LeftBefore);
                untraced += 1;
                continue;
            };
            let record = &self.records[id];
            let outcome = record.outcome.as_deref().unwrap_or("unknown");
            let ending = match plan.ending {
                Ending::LeftAfter(_) => Ending::LeftAfter(0),
                Ending::Status(_) => Ending::Status(0),
                other => other,
            };
            *outcomes.entry(ending).or_default().entry(outcome).or_default() += 1;
            self.check(plan, seen, record);
        }
        println!("{untraced} without a trace; {outcomes:#?}");
        for (ending, outcomes) in &outcomes {
            let [wanted, ..] = planned(*ending) else { continue };
            let as_planned = outcomes.get(wanted).copied().unwrap_or(0);
            // What the limits refused had no ending of its own.
            let limited = outcomes.get("limited").copied().unwrap_or(0);
            let [stopped, least] = stopped_by_breakers(*ending, outcomes);
            let all = outcomes.values().sum::<usize>() - limited - stopped;
            assert!(
                as_planned >= 10 && as_planned * 100 >= all * least,
                "{ending:?} came about too rarely: {outcomes:?}"
            );
        }
    }

    fn check(&self, plan: &Plan, seen: &Seen, record: &UsageRecord) {
        let outcome = record.outcome.as_deref().unwrap_or("unknown");
        let about = || {
            format!(
                "{plan:?}\n{seen:?}\n{record:?}\n{:?}",
                self.served.get(&record.id)
            )
        };
        if let Some(status) = seen.status {
            assert_eq!(record.status, status, "{}", about());
        }
        match outcome {
            "unknown" => {
                assert_eq!(
                    (plan.ending, record.status),
                    (Ending::Stranger, 401),
                    "{}",
                    about()
                );
                assert_eq!(record.attempts, 0, "{}", about());
            }
            "limited" => {
                assert!(record.status == 429 || seen.status.is_none(), "{}", about());
                assert_eq!((record.attempts, record.tokens()), (0, 0), "{}", about());
                assert!(!self.served.contains_key(&record.id), "{}", about());
            }
            "refused" => {
                let breaker = matches!(record.status, 503) && record.model.is_none();
                assert!(
                    planned(plan.ending).contains(&"refused") || breaker,
                    "{}",
                    about()
                );
                assert_eq!((record.attempts, record.tokens()), (0, 0), "{}", about());
            }
            _ => {
                assert!(planned(plan.ending).contains(&outcome), "{}", about());
                assert!(record.attempts > 0, "{}", about());
                assert_eq!(record.endpoint.as_deref(), Some(plan.api.name()), "{}", about());
                assert_eq!(record.stream, Some(plan.stream), "{}", about());
                let model = record.model.as_deref().unwrap();
                let stood_in = plan.ending == Ending::Fallback && model == DEEP;
                assert!(model == plan.model || stood_in, "{}", about());
            }
        }
        match outcome {
            "complete" => self.check_complete(plan, record, &about),
            "aborted" => self.check_aborted(plan, record, &about),
            "no_answer" => {
                let served = &self.served[&record.id][0];
                assert_eq!(record.source.as_deref(), Some("estimated"), "{}", about());
                assert!(near_input(record, served_input(served)), "{}", about());
                assert_eq!(record.output_tokens, Some(0), "{}", about());
            }
            "failed" => self.check_failed(record, &about),
            _ => assert_eq!(record.tokens(), 0, "{}", about()),
        }
        check_cost(record, &about);
    }

    fn check_complete(&self, plan: &Plan, record: &UsageRecord, about: &dyn Fn() -> String) {
        let served = self.served[&record.id].last().unwrap();
        let used = [
            record.input_tokens,
            record.output_tokens,
            record.cached_tokens,
            record.reasoning_tokens,
        ];
        let used = used.map(|tokens| tokens.unwrap());
        if plan.ending == Ending::Unreported {
            assert_eq!(record.source.as_deref(), Some("estimated"), "{}", about());
            assert!(near_input(record, served.input_tokens), "{}", about());
            // What stands around the text of a body that is no stream counts as text, up to the client's cap.
            let most = record.reserved_tokens.unwrap();
            let bounded = !plan.stream && used[1] >= served.output_tokens && used[1] <= most;
            assert!(
                bounded || near_stream(used[1], served.output_tokens),
                "{}",
                about()
            );
            return;
        }
        assert_eq!(record.source.as_deref(), Some("reported"), "{}", about());
        let expected = match (plan.says, plan.api) {
            (None, _) => [served.input_tokens, served.output_tokens, 0, 0],
            (Some([input, ..]), Api::Embeddings) => [input, 0, 0, 0],
            (Some([input, output, cached, _]), Api::Messages) => [input, output, cached, 0],
            (Some(says), _) => says,
        };
        assert_eq!(used, expected, "{}", about());
    }

    /// What was read by attempts that nobody answered.
    fn check_failed(&self, record: &UsageRecord, about: &dyn Fn() -> String) {
        // One that was sent on a connection which the model server was closing never came to it.
        let served = self.served.get(&record.id).map_or(&[][..], Vec::as_slice);
        let unanswered = served.iter().filter(|served| served.status == 0);
        let read: u64 = unanswered.map(served_input).sum();
        assert!(near_input(record, read), "{}", about());
        let all_came = served.len() == record.attempts as usize;
        assert!(
            read > 0 || !all_came || record.input_tokens == Some(0),
            "{}",
            about()
        );
        assert_eq!(record.output_tokens, Some(0), "{}", about());
    }

    fn check_aborted(&self, plan: &Plan, record: &UsageRecord, about: &dyn Fn() -> String) {
        let served = self.served[&record.id].last().unwrap();
        assert!(near_input(record, served.input_tokens), "{}", about());
        let output = record.output_tokens.unwrap();
        if plan.stream {
            // All that was produced went by.
            assert!(near_stream(output, served.output_tokens), "{}", about());
        } else {
            // Half of an answer of forty tokens came; no embedding is made of tokens.
            let least = if plan.api == Api::Embeddings { 0 } else { 20 };
            let most = if plan.api == Api::Embeddings {
                0
            } else {
                record.reserved_tokens.unwrap()
            };
            assert!((least..=most).contains(&output), "{}", about());
        }
    }

    pub(crate) fn streams_overtaken_by_a_reload_are_complete(&self, ids: &[String]) {
        for id in ids {
            let (record, served) = (&self.records[id], &self.served[id][0]);
            assert_eq!(record.outcome.as_deref(), Some("complete"), "{record:#?}");
            assert_eq!(record.source.as_deref(), Some("reported"), "{record:#?}");
            let used = (record.input_tokens, record.output_tokens);
            assert_eq!(used, (Some(served.input_tokens), Some(200)), "{record:#?}");
        }
    }

    /// Requests and tokens by organization, model and outcome, and refusals by limit.
    pub(crate) async fn metrics_say_the_same(&self, stage: &Stage) {
        let mut requests = BTreeMap::<[String; 3], f64>::new();
        let mut tokens = BTreeMap::<[String; 3], f64>::new();
        let mut parts = BTreeMap::<[String; 3], f64>::new();
        for record in self.records.values() {
            // What never came to the limits is not counted by them.
            let (Some(org), Some(model), Some(outcome)) = (&record.org, &record.model, &record.outcome)
            else {
                continue;
            };
            *requests
                .entry([org.clone(), model.clone(), outcome.clone()])
                .or_default() += 1.0;
            let add = |sums: &mut BTreeMap<_, f64>, kind: &str, used: Option<u64>| {
                let sum = sums.entry([org.clone(), model.clone(), kind.to_owned()]);
                *sum.or_default() += used.unwrap() as f64;
            };
            add(&mut tokens, "input", record.input_tokens);
            add(&mut tokens, "output", record.output_tokens);
            add(&mut parts, "cached", record.cached_tokens);
        }
        let mut refusals = BTreeMap::<[&str; 2], f64>::new();
        for record in self.records.values() {
            match (record.outcome.as_deref(), &record.limit) {
                (Some("limited"), Some(limit)) => {
                    *refusals.entry(["tollgate_limit_refusals", limit]).or_default() += 1.0;
                }
                (Some("limited"), None) => {
                    *refusals.entry(["tollgate_capacity_refusals", ""]).or_default() += 1.0
                }
                _ => {}
            }
            for limit in &record.would_limit {
                *refusals
                    .entry(["tollgate_limit_shadow_refusals", limit])
                    .or_default() += 1.0;
            }
        }
        // The model's capacity, a limit, and one in shadow mode; of places see `after::places_are_free`.
        assert!(refusals.len() >= 3, "{refusals:?}");
        let mut differ = Vec::new();
        let same = net::within(std::time::Duration::from_secs(10), async || {
            let prometheus = stage.gateway.prometheus().await;
            differ.clear();
            for (metric, label, wanted) in [
                ("tollgate_requests", "outcome", &requests),
                ("tollgate_tokens", "kind", &tokens),
                ("tollgate_token_parts", "kind", &parts),
            ] {
                for ([org, model, what], wanted) in wanted {
                    let found = prometheus.value(metric, &[("org", org), ("model", model), (label, what)]);
                    if found.unwrap_or(0.0) != *wanted {
                        differ.push(format!(
                            "{metric} of {org}, {model}, {what}: {found:?}, {wanted} in the records"
                        ));
                    }
                }
            }
            for ([metric, limit], wanted) in &refusals {
                let labels = [("limit", *limit)];
                let labels = if limit.is_empty() {
                    &labels[..0]
                } else {
                    &labels[..]
                };
                let found = prometheus.value(metric, labels);
                if found != Some(*wanted) {
                    differ.push(format!(
                        "{metric} of `{limit}`: {found:?}, {wanted} in the records"
                    ));
                }
            }
            differ.is_empty().then_some(())
        })
        .await;
        assert!(same.is_some(), "{differ:#?}");
    }

    /// What a key used: requests that count, and tokens.
    pub(crate) fn of_key(&self, key: &str) -> (u64, u64) {
        let counts = |record: &&UsageRecord| {
            let outcome = record.outcome.as_deref();
            record.key.as_deref() == Some(key) && !matches!(outcome, Some("limited" | "refused"))
        };
        let records: Vec<_> = self.records.values().filter(counts).collect();
        (
            records.len() as u64,
            records.iter().map(|record| record.tokens()).sum(),
        )
    }
}

/// What may become of it; what should, first. A limit may stop it earlier.
fn planned(ending: Ending) -> &'static [&'static str] {
    match ending {
        Ending::Whole | Ending::Unreported | Ending::Misreported | Ending::LeftAtEnd | Ending::NextTarget => {
            &["complete"]
        }
        Ending::Status(_) | Ending::Lost | Ending::Late => &["failed"],
        // The reset may overtake the head of the answer.
        Ending::BrokenOff => &["aborted", "failed"],
        Ending::TooLong | Ending::LeftAfter(_) => &["aborted"],
        // A client that leaves early may do so before a model server is asked.
        Ending::LeftBefore => &["no_answer", "refused"],
        Ending::Fallback => &["complete", "failed"],
        Ending::RefusedLater | Ending::UnknownModel | Ending::BrokenBody => &["refused"],
        Ending::Stranger => &["unknown"],
    }
}

/// Requests that found a breaker open, and how many percent of the others must have ended as planned: nearly all, but that
/// a failing target is asked until its breaker opens.
fn stopped_by_breakers(ending: Ending, outcomes: &BTreeMap<&str, usize>) -> [usize; 2] {
    let refused = outcomes.get("refused").copied().unwrap_or(0);
    match ending {
        Ending::Late => [refused, 75],
        Ending::Fallback => [refused, 50],
        _ => [0, 75],
    }
}

/// A model server that never answers does not read the request's text either.
fn served_input(served: &Served) -> u64 {
    let text = String::from_utf8_lossy(&served.body).into_owned();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let words = value["input"].as_str().or(value["prompt"].as_str());
    let words = words.or(value["messages"][0]["content"].as_str()).unwrap();
    tollgate_harness::models::tokens(words)
}

/// An estimate of input, and what it is of: never less. At most twice as much, or as much as a model could make of all
/// bytes that came, each time that it read them. The models here read the words of a request alone.
fn near_input(record: &UsageRecord, true_count: u64) -> bool {
    let all = u64::from(record.attempts.max(1)) * (record.bytes_in * 27 / 100 + 16);
    (true_count..=all.max(2 * true_count + 16)).contains(&record.input_tokens.unwrap())
}

/// An estimate of a stream by its events and bytes, and what it is of. Each API puts another frame around a token, and short
/// answers are mostly frame; models here are asked in all of them, so an estimate may be a fifth or four times as much.
fn near_stream(estimated: u64, true_count: u64) -> bool {
    let anything = estimated > 0 || true_count == 0;
    anything && estimated * 5 + 10 >= true_count && estimated <= true_count * 4 + 10
}

fn check_cost(record: &UsageRecord, about: &dyn Fn() -> String) {
    let used = record.source.as_deref().is_some_and(|source| source != "nothing");
    let priced = matches!(record.model.as_deref(), Some(SWIFT | LIAR));
    if !priced || !used {
        assert_eq!(record.cost_micros, None, "{}", about());
        return;
    }
    let [input, cached, output] = PRICE;
    let cached_tokens = record.cached_tokens.unwrap();
    let expected = (record.input_tokens.unwrap() - cached_tokens) * input
        + cached_tokens * cached
        + record.output_tokens.unwrap() * output;
    assert_eq!(record.cost_micros, Some(expected), "{}", about());
}
