//! Envoys that spend a budget by a control plane that is played by the ledger's own rule: whatever is lost, no more is spent
//! than there is, and what the ledger counts is what requests spent.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate_budgets::{Account, Book, Report, Rules, Terms as LedgerTerms, Totals};

use super::*;
use crate::budget::{Budget, Budgets, Scope, Terms, Unit};
use crate::directory::publication::Published;
use crate::limits::{Amounts, OnError};
use crate::state::fake::Worker;
use crate::state::{Clock as _, read, write};
use crate::usage::record::{Source, Used};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;
/// Milliseconds of a window.
const WINDOW: i64 = 60_000;

/// What the control plane keeps, and the network before it.
struct Control {
    amount: u64,
    accounts: BTreeMap<(i64, String), Account>,
    totals: BTreeMap<i64, Totals>,
    /// It answers that there is no such budget.
    is_unknown: bool,
}

impl Control {
    fn new(amount: u64) -> Self {
        Self {
            amount,
            accounts: BTreeMap::new(),
            totals: BTreeMap::new(),
            is_unknown: false,
        }
    }

    fn window(now: u64) -> i64 {
        millis(now) / WINDOW * WINDOW
    }

    fn answer(&mut self, message: &[u8], now: u64) -> Vec<u8> {
        let message: Value = serde_json::from_slice(message).unwrap();
        let holder = message["holder"].as_str().unwrap();
        let items = message["items"].as_array().unwrap().iter();
        let items: Vec<Value> = items.map(|item| self.answer_one(holder, item, now)).collect();
        json!({"items": items}).to_string().into_bytes()
    }

    fn answer_one(&mut self, holder: &str, item: &Value, now: u64) -> Value {
        let budget = &item["budget"];
        if self.is_unknown {
            let nothing = json!({"granted": 0, "keep": 0, "amount": 0, "spent": 0});
            let mut answer = nothing;
            answer["budget"] = budget.clone();
            answer["problem"] = json!("there is no such budget");
            return answer;
        }
        let window = item["window"].as_i64().unwrap_or_else(|| Self::window(now));
        assert_eq!(window % WINDOW, 0, "{item}");
        let mut report = item.clone();
        let members = report.as_object_mut().unwrap();
        members.remove("budget");
        members.remove("window");
        let report: Report = serde_json::from_value(report).unwrap();
        let others = self
            .accounts
            .keys()
            .filter(|(from, name)| *from == window && name != holder);
        let mut book = Book {
            terms: LedgerTerms {
                amount: self.amount,
                holders: others.count() as u64 + 1,
                believes: self.amount,
                grants: window - 60_000 <= millis(now) && millis(now) < window + WINDOW,
                rules: Rules::default(),
            },
            totals: self.totals.get(&window).copied().unwrap_or_default(),
        };
        let account = self.accounts.entry((window, holder.to_owned())).or_default();
        let answer = book.exchange(account, &report).unwrap();
        self.totals.insert(window, book.totals);
        json!({
            "budget": budget, "window": window, "ends_at": window + WINDOW, "granted": answer.granted,
            "keep": answer.keep, "amount": answer.amount, "spent": answer.spent,
        })
    }

    fn spent(&self, window: i64) -> u64 {
        self.totals.get(&window).map_or(0, |totals| totals.spent)
    }
}

/// What an exchanger sends goes here, and is carried on by the test.
#[derive(Default)]
struct Post {
    sent: Option<Vec<u8>>,
    calls: u64,
    failed: u64,
    complaints: Vec<String>,
}

impl Outside<Worker> for Post {
    type Call = u64;

    fn send(&mut self, _: &mut Worker, message: &[u8], _: u32) -> Result<u64, String> {
        self.sent = Some(message.to_vec());
        self.calls += 1;
        Ok(self.calls)
    }

    fn count(&mut self, answered: bool) {
        self.failed += u64::from(!answered);
    }

    fn stand(&mut self, _: u64) {}

    fn complain(&mut self, complaint: &str) {
        self.complaints.push(complaint.to_owned());
    }
}

struct Envoy {
    host: Worker,
    exchanger: Exchanger<u64>,
    post: Post,
}

impl Envoy {
    fn new(number: u64, now: u64) -> Self {
        Self {
            host: Worker::at(now),
            exchanger: Exchanger::new([number, 7]),
            post: Post::default(),
        }
    }

    fn now(&self) -> u64 {
        self.host.now().unwrap()
    }

    fn ask(&mut self, budgets: &[Terms], tokens: u64) -> Result<Reservation, Box<Refused>> {
        self.ask_with(budgets, tokens, OnError::Deny)
    }

    fn ask_with(
        &mut self,
        budgets: &[Terms],
        tokens: u64,
        on_error: OnError,
    ) -> Result<Reservation, Box<Refused>> {
        let claim = Claim {
            budgets,
            most: Expense::reserved(&Amounts {
                input: tokens,
                ..Amounts::default()
            }),
            now: self.now(),
            on_error,
        };
        reserve(&mut self.host, &claim)
    }

    fn end(&mut self, reservation: Reservation, tokens: u64) {
        reservation
            .settle(&used(tokens))
            .carry_out(&mut self.host)
            .unwrap();
    }

    /// A tick; what it sends is answered, unless that is lost.
    fn tick(&mut self, control: &mut Control, (loses_message, loses_answer): (bool, bool)) {
        self.exchanger.tick(&mut self.host, &mut self.post);
        let Some(message) = self.post.sent.take() else {
            return;
        };
        let answer = (!loses_message).then(|| control.answer(&message, self.host.now().unwrap()));
        let answer = answer.filter(|_| !loses_answer);
        let status = answer.is_some().then_some("200");
        let body = || answer.ok_or_else(|| "nothing".to_owned());
        let call = self.post.calls;
        self.exchanger
            .answered(call, status, body, &mut self.host, &mut self.post);
    }

    /// Ticks for some seconds.
    fn pass(&mut self, control: &mut Control, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.host.pass(SECOND / 4);
            self.tick(control, (false, false));
        }
    }
}

fn used(tokens: u64) -> Expense {
    Expense::recorded(&Used {
        input_tokens: tokens,
        source: Source::Reported,
        ..Used::NOTHING
    })
}

fn budget(id: &str) -> Terms {
    Terms {
        id: id.into(),
        unit: Unit::Tokens,
        is_shared: false,
        begins_at: None,
        ends_at: None,
    }
}

fn verdict(refused: Result<Reservation, Box<Refused>>) -> Verdict {
    refused.unwrap_err().denied.verdict
}

#[test]
fn the_first_request_makes_it_known_and_the_next_ones_ask_nobody() {
    let (mut control, mut envoy) = (Control::new(1_000), Envoy::new(1, START));
    let budgets = [budget("b")];
    let refused = envoy.ask(&budgets, 10).unwrap_err();
    assert_eq!(refused.denied.verdict, Verdict::Unknown);
    let answer = refused.denied.answer(envoy.now());
    assert_eq!((answer.status, answer.code), (503, "rate_limit_unavailable"));
    envoy.pass(&mut control, 1);
    let calls = envoy.post.calls;
    let reservation = envoy.ask(&budgets, 10).unwrap();
    envoy.end(reservation, 7);
    assert_eq!(envoy.post.calls, calls);
    envoy.pass(&mut control, 2);
    assert_eq!(control.spent(Control::window(START)), 7);
}

#[test]
fn what_no_model_used_anything_for_is_not_spent() {
    let nothing = Expense::recorded(&Used::NOTHING);
    let each = [Unit::Requests, Unit::Tokens, Unit::CostMicros].map(|unit| nothing.of(unit));
    assert_eq!(each, [0, 0, 0]);
    let some = Expense::recorded(&Used {
        input_tokens: 3,
        output_tokens: 4,
        cached_tokens: 2,
        cost_micros: Some(9),
        source: Source::Estimated,
        ..Used::NOTHING
    });
    let each = [Unit::Requests, Unit::Tokens, Unit::CostMicros].map(|unit| some.of(unit));
    assert_eq!(each, [1, 7, 9]);
}

#[test]
fn one_that_is_spent_says_when_it_resets_and_asks_no_more() {
    let (mut control, mut envoy) = (Control::new(100), Envoy::new(1, START));
    let budgets = [budget("b")];
    assert!(envoy.ask(&budgets, 10).is_err());
    envoy.pass(&mut control, 1);
    for _ in 0..10 {
        // What is left is granted for a request that waits.
        let reservation = loop {
            match envoy.ask(&budgets, 10) {
                Ok(reservation) => break reservation,
                Err(refused) => assert_eq!(refused.denied.verdict, Verdict::Short),
            }
            envoy.pass(&mut control, 1);
        };
        envoy.end(reservation, 10);
    }
    let refused = envoy.ask(&budgets, 1).unwrap_err();
    let answer = refused.denied.answer(envoy.now());
    assert_eq!((answer.status, answer.code), (429, "insufficient_quota"));
    let told = "Budget b is spent: Limit 100 tokens, Used 100, Requested 1. It resets at ";
    assert!(answer.message.starts_with(told), "{}", answer.message);
    let mut headers = vec![("ratelimit", "\"other\";r=1".to_owned())];
    refused.denied.tell(&mut headers, envoy.now());
    assert!(
        headers[0].1.starts_with("\"other\";r=1, \"b\";r=0;t="),
        "{headers:?}"
    );
    assert_eq!(headers[1], ("ratelimit-policy", "\"b\";q=100".to_owned()));
    // It is known to be spent: no hurried message is sent for those who come all the same.
    envoy.pass(&mut control, 1);
    let calls = envoy.post.calls;
    for _ in 0..4 {
        assert!(envoy.ask(&budgets, 1).is_err());
        envoy.host.pass(SECOND / 4);
        envoy.tick(&mut control, (false, false));
    }
    assert!(envoy.post.calls <= calls + 1, "the one of each second at most");
    // More of it is there for those who ask.
    control.amount += 10;
    assert!(envoy.ask(&budgets, 10).is_err());
    envoy.pass(&mut control, 2);
    assert_eq!(verdict(envoy.ask(&budgets, 10)), Verdict::Short);
    envoy.pass(&mut control, 1);
    assert!(envoy.ask(&budgets, 10).is_ok());
}

/// The last part of a budget is in no slice that no request fits in, and is there for who comes again when he was told to.
#[test]
fn two_envoys_come_to_the_end_of_a_budget() {
    for amount in 90..120 {
        let mut control = Control::new(amount);
        let mut envoys = [Envoy::new(1, START), Envoy::new(2, START)];
        let budgets = [budget("b")];
        let (mut spent, mut rounds) = (0, 0);
        let mut is_spent = [false; 2];
        while is_spent != [true; 2] {
            rounds += 1;
            assert!(rounds < 100, "{spent} of {amount}");
            for (envoy, is_spent) in envoys.iter_mut().zip(&mut is_spent) {
                match envoy.ask(&budgets, 30) {
                    Ok(reservation) => {
                        envoy.end(reservation, 30);
                        spent += 30;
                    }
                    Err(refused) => *is_spent = matches!(refused.denied.verdict, Verdict::Spent(_)),
                }
                // Nobody waits for as long as he was told to.
                envoy.host.pass(SECOND / 4);
                envoy.tick(&mut control, (false, false));
            }
        }
        assert_eq!(spent, 90, "of {amount}");
    }
}

/// Others may be in it, and its name may be theirs.
#[test]
fn of_a_shared_one_nothing_is_told_but_when_it_resets() {
    let (mut control, mut envoy) = (Control::new(100), Envoy::new(1, START));
    let shared = [Terms {
        is_shared: true,
        ..budget("acme-and-globex")
    }];
    assert!(envoy.ask(&shared, 1).is_err());
    envoy.pass(&mut control, 1);
    let refused = envoy.ask(&shared, 101).unwrap_err();
    let answer = refused.denied.answer(envoy.now());
    assert!(
        answer
            .message
            .starts_with("A budget that organizations share is spent. It resets at ")
    );
    assert!(!answer.message.contains("globex") && !answer.message.contains("100"));
    let mut headers = Vec::new();
    refused.denied.tell(&mut headers, envoy.now());
    assert_eq!(headers, []);
}

#[test]
fn of_several_budgets_all_have_room_or_none_is_used() {
    let (mut control, mut envoy) = (Control::new(1_000), Envoy::new(1, START));
    let both = [budget("a"), budget("b")];
    assert!(envoy.ask(&both, 10).is_err());
    envoy.pass(&mut control, 1);
    let first = envoy.ask(&both[..1], 500).map(drop);
    assert!(first.is_ok(), "half of it");
    // Of `a` there is too little here; nothing of `b` stays reserved.
    for _ in 0..100 {
        assert_eq!(verdict(envoy.ask(&both, 450)), Verdict::Short);
    }
    assert!(envoy.ask(&both[1..], 500).is_ok());
}

#[test]
fn one_that_has_not_begun_or_is_over_counts_nothing() {
    let mut envoy = Envoy::new(1, START);
    let second = (START / SECOND) as i64;
    for (begins_at, ends_at) in [(Some(second + 1), None), (None, Some(second))] {
        let terms = Terms {
            begins_at,
            ends_at,
            ..budget("once")
        };
        assert!(envoy.ask(&[terms], 10).unwrap().is_empty());
    }
}

#[test]
fn without_the_control_plane_it_spends_what_it_has_and_then_does_what_is_declared() {
    let (mut control, mut envoy) = (Control::new(1_000), Envoy::new(1, START));
    let budgets = [budget("b")];
    assert!(envoy.ask(&budgets, 10).is_err());
    envoy.pass(&mut control, 1);
    // Nobody answers any more, and the window lasts.
    envoy.host.pass(31 * SECOND);
    assert_eq!(Control::window(envoy.now()), Control::window(START));
    let mut spent = 0;
    while let Ok(reservation) = envoy.ask(&budgets, 10) {
        envoy.end(reservation, 10);
        spent += 10;
    }
    assert!((400..=500).contains(&spent), "{spent}");
    assert_eq!(verdict(envoy.ask(&budgets, 10)), Verdict::Unknown);
    let passed = envoy.ask_with(&budgets, 10, OnError::Allow).unwrap();
    envoy.end(passed, 10);
    envoy.pass(&mut control, 2);
    let counted = control.spent(Control::window(START));
    assert_eq!(counted, spent + 10, "also what passed without being asked about");
}

#[test]
fn a_store_that_fails_refuses_and_what_it_did_not_take_is_settled_later() {
    let (mut control, mut envoy) = (Control::new(1_000), Envoy::new(1, START));
    let budgets = [budget("b")];
    assert!(envoy.ask(&budgets, 10).is_err());
    envoy.pass(&mut control, 1);
    let reservation = envoy.ask(&budgets, 10).unwrap();
    envoy.host.fail(true);
    assert_eq!(verdict(envoy.ask(&budgets, 10)), Verdict::Unknown);
    let mut backlog = Backlog::default();
    backlog.keep(reservation.settle(&used(9)).carry_out(&mut envoy.host));
    envoy.host.fail(false);
    backlog.retry(&mut envoy.host);
    envoy.pass(&mut control, 2);
    assert_eq!(control.spent(Control::window(START)), 9);
}

#[test]
fn a_budget_of_the_directory_is_there_before_its_first_request() {
    let (mut control, mut envoy) = (Control::new(1_000), Envoy::new(1, START));
    let budgets = Budgets::new(vec![Budget {
        scope: Scope::Org("acme".into()),
        terms: budget("b"),
    }]);
    write(&mut envoy.host, "", budgets).unwrap();
    let published = Published {
        generation: 1,
        confirmed_at: START,
        keys: 1,
    };
    published.write(&mut envoy.host).unwrap();
    envoy.pass(&mut control, 2);
    assert!(envoy.ask(&[budget("b")], 10).is_ok());
}

#[test]
fn a_window_that_ends_is_settled_in_itself_and_the_next_one_is_there() {
    let (mut control, mut envoy) = (Control::new(1_000), Envoy::new(1, START));
    let budgets = [budget("b")];
    assert!(envoy.ask(&budgets, 10).is_err());
    envoy.pass(&mut control, 1);
    let first = Control::window(envoy.now());
    let (long, short) = (envoy.ask(&budgets, 10).unwrap(), envoy.ask(&budgets, 10).unwrap());
    envoy.end(short, 10);
    while Control::window(envoy.now()) == first {
        envoy.host.pass(SECOND / 4);
        envoy.tick(&mut control, (false, false));
    }
    let next = envoy.ask(&budgets, 10).unwrap();
    envoy.end(next, 5);
    envoy.end(long, 3);
    envoy.pass(&mut control, 3);
    assert_eq!((control.spent(first), control.spent(first + WINDOW)), (13, 5));
    let purse = read::<purse::Purse>(&mut envoy.host, "b").unwrap().unwrap();
    let windows: Vec<i64> = purse.windows().iter().map(|window| window.from).collect();
    assert_eq!(windows, [first + WINDOW], "what is over and told is forgotten");
}

#[test]
fn a_budget_that_there_is_not_is_told_to_the_operator_once() {
    let (mut control, mut envoy) = (Control::new(1_000), Envoy::new(1, START));
    control.is_unknown = true;
    for _ in 0..5 {
        assert_eq!(verdict(envoy.ask(&[budget("b")], 10)), Verdict::Unknown);
        envoy.pass(&mut control, 1);
    }
    assert_eq!(envoy.post.complaints, ["budgets: b: there is no such budget"]);
    control.is_unknown = false;
    envoy.pass(&mut control, 2);
    assert!(envoy.ask(&[budget("b")], 10).is_ok());
}

#[test]
fn an_exchanger_that_begins_anew_goes_on_as_the_same_holder() {
    let (mut control, mut envoy) = (Control::new(1_000), Envoy::new(1, START));
    let budgets = [budget("b")];
    assert!(envoy.ask(&budgets, 10).is_err());
    envoy.pass(&mut control, 1);
    let reservation = envoy.ask(&budgets, 10).unwrap();
    envoy.exchanger = Exchanger::new([99, 99]);
    envoy.end(reservation, 10);
    envoy.pass(&mut control, 2);
    assert_eq!(control.accounts.len(), 1, "{:?}", control.accounts);
    assert_eq!(control.spent(Control::window(START)), 10);
}

/// What happens at one of the Envoys.
#[derive(Debug, Clone)]
enum Step {
    Ask(u64),
    /// The oldest request that is under way ends: so many percent of what it reserved.
    End(u64),
    /// A quarter of a second passes; whether the message, or its answer, is lost.
    Tick(bool, bool),
    /// The exchanger begins anew.
    Reload,
    /// Two seconds with nothing but ticks.
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..60_u64).prop_map(Step::Ask),
        6 => (0..=100_u64).prop_map(Step::End),
        8 => (prop::bool::weighted(0.2), prop::bool::weighted(0.2)).prop_map(|(one, other)| Step::Tick(one, other)),
        1 => Just(Step::Reload),
        1 => Just(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// In any history no window is passed, and in the end the ledger counts what requests spent, to the unit.
    #[test]
    fn no_more_is_spent_than_there_is_and_all_of_it_is_counted(
        steps in prop::collection::vec((0..3_usize, step()), 1..600),
        amount in 50..2_000_u64,
    ) {
        let mut control = Control::new(amount);
        let mut envoys: Vec<Envoy> = (0..3).map(|at| Envoy::new(at, START)).collect();
        let budgets = [budget("b")];
        let mut open: Vec<Vec<(i64, Reservation, u64)>> = vec![Vec::new(), Vec::new(), Vec::new()];
        let mut spent: BTreeMap<i64, u64> = BTreeMap::new();
        for (at, step) in steps {
            let envoy = &mut envoys[at];
            match step {
                Step::Ask(tokens) => {
                    let window = Control::window(envoy.now());
                    if let Ok(reservation) = envoy.ask(&budgets, tokens) {
                        prop_assert!(!reservation.is_empty());
                        open[at].push((window, reservation, tokens));
                    }
                }
                Step::End(percent) if !open[at].is_empty() => {
                    let (window, reservation, tokens) = open[at].remove(0);
                    let tokens = tokens * percent / 100;
                    envoy.end(reservation, tokens);
                    *spent.entry(window).or_default() += tokens;
                }
                Step::End(_) => {}
                Step::Tick(message, answer) => {
                    for envoy in &envoys {
                        envoy.host.pass(SECOND / 4);
                    }
                    envoys[at].tick(&mut control, (message, answer));
                }
                Step::Reload => envoy.exchanger = Exchanger::new([99, at as u64]),
                Step::Wait => {
                    for _ in 0..8 {
                        for envoy in &mut envoys {
                            envoy.host.pass(SECOND / 4);
                            envoy.tick(&mut control, (false, false));
                        }
                    }
                }
            }
            for (window, spent) in &spent {
                let reserved = open.iter().flatten().filter(|(of, ..)| of == window);
                let reserved: u64 = reserved.map(|(_, _, tokens)| tokens).sum();
                prop_assert!(spent + reserved <= amount, "{spent} and {reserved} of {amount}");
            }
        }
        for (envoy, open) in envoys.iter_mut().zip(open) {
            for (window, reservation, tokens) in open {
                envoy.end(reservation, tokens);
                *spent.entry(window).or_default() += tokens;
            }
            envoy.pass(&mut control, 3);
        }
        for (window, spent) in spent {
            prop_assert_eq!(control.spent(window), spent);
        }
    }
}
