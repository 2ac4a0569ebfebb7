//! Several workers on one store, each step of one between any two of another's.
//!
//! Each worker runs in a thread, but one at a time: before it reads the clock or calls the store it waits until it is its
//! turn by a random schedule.

use std::sync::{Arc, Condvar, Mutex};

use proptest::prelude::*;

use super::*;

/// The store and the clock, and whose turn it is.
struct Shared {
    store: Memory,
    now: u64,
    /// Who is next, and how many half milliseconds that takes; from the end.
    schedule: Vec<(usize, u64)>,
    /// Who still works.
    at_work: Vec<bool>,
    /// Requests in flight, and the most that ever were.
    in_flight: (usize, usize),
}

impl Shared {
    /// The next of the schedule that still works, or, once it is over, the first that does.
    fn turn(&mut self) -> Option<usize> {
        while let Some((worker, _)) = self.schedule.last() {
            if self.at_work.get(*worker) == Some(&true) {
                return Some(*worker);
            }
            self.schedule.pop();
        }
        self.at_work.iter().position(|works| *works)
    }
}

struct Seat {
    shared: Arc<(Mutex<Shared>, Condvar)>,
    worker: usize,
    /// When its last turn was.
    last: u64,
}

impl Seat {
    fn call<T>(&mut self, call: impl FnOnce(&mut Memory) -> T) -> T {
        let (shared, turns) = &*self.shared;
        let mut shared = turns
            .wait_while(shared.lock().unwrap(), |shared| {
                shared.turn() != Some(self.worker)
            })
            .unwrap();
        let result = call(&mut shared.store);
        self.last = shared.now;
        let (_, step) = shared.schedule.pop().unwrap_or_default();
        shared.now += step * 500_000;
        turns.notify_all();
        result
    }

    /// Reading the clock is a turn as well: what is read may be old when it is used.
    fn now(&mut self) -> u64 {
        self.call(|_| ());
        self.last
    }

    fn begin(&self) {
        let (now, most) = &mut self.shared.0.lock().unwrap().in_flight;
        *now += 1;
        *most = (*most).max(*now);
    }

    fn end(&self) {
        self.shared.0.lock().unwrap().in_flight.0 -= 1;
    }

    fn leave(&self) {
        let (shared, turns) = &*self.shared;
        shared.lock().unwrap().at_work[self.worker] = false;
        turns.notify_all();
    }
}

impl Store for Seat {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        self.call(|store| store.get(key))
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        self.call(|store| store.swap(key, value, version))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.call(|store| store.put(key, value))
    }
}

/// What a worker does: requests that are estimated to take so much, and then use so much.
type Work = Vec<(u64, u64)>;

/// A request that passed: between which moments, and what it used.
#[derive(Debug, Clone, Copy)]
struct Passed {
    from: u64,
    to: u64,
    used: u64,
}

fn work_off(table: &Table, mut store: Seat, work: Work) -> Vec<Passed> {
    let mut passed = Vec::new();
    for (estimate, used) in work {
        let from = store.now();
        let subject = acme();
        let ask = Ask {
            workers: who_sees_all(store.worker as u32),
            ..ask(&subject, from, tokens(estimate, 0))
        };
        match table.reserve(&mut store, &ask) {
            Ok(admitted) => {
                store.begin();
                let to = store.last;
                passed.push(Passed { from, to, used });
                // The answer takes its time.
                let now = (0..9).map(|_| store.now()).max().unwrap_or(from);
                store.end();
                let settled = admitted.reservation.settle(&mut store, now, &tokens(used, 0));
                assert!(settled.is_ok());
            }
            Err(refused) => {
                assert!(refused.unreturned.is_none());
                refused.denied();
            }
        }
    }
    store.leave();
    passed
}

fn run(table: &Table, schedule: Vec<(usize, u64)>, work: Vec<Work>) -> (Memory, Vec<Passed>, usize) {
    let shared = Arc::new((
        Mutex::new(Shared {
            store: Memory::default(),
            now: START,
            schedule,
            at_work: vec![true; work.len()],
            in_flight: (0, 0),
        }),
        Condvar::new(),
    ));
    let passed = std::thread::scope(|scope| {
        let start = |(worker, work)| {
            let seat = Seat {
                shared: shared.clone(),
                worker,
                last: START,
            };
            scope.spawn(move || work_off(table, seat, work))
        };
        let threads: Vec<_> = work.into_iter().enumerate().map(start).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let mut shared = shared.0.lock().unwrap();
    (std::mem::take(&mut shared.store), passed, shared.in_flight.1)
}

fn work() -> impl Strategy<Value = Vec<Work>> {
    let one = (1..8_u64, 0..=100_u64).prop_map(|(estimate, part)| (estimate, estimate * part / 100));
    proptest::collection::vec(proptest::collection::vec(one, 0..8), 2..5)
}

/// Less than a second in all: no worker's reading of the clock is so old that the clock seems to be set back.
fn schedule(longest: u64) -> impl Strategy<Value = Vec<(usize, u64)>> {
    proptest::collection::vec((0..5_usize, 0..=longest), 0..400)
}

/// Whether more passed in some span than may.
fn over(passed: &[Passed], of: impl Fn(&Passed) -> u64, rate: u64, burst: u64) -> bool {
    let spans = passed.iter().flat_map(|a| passed.iter().map(|b| (a.from, b.to)));
    let mut spans = spans.filter(|(from, to)| from <= to);
    spans.any(|(from, to)| {
        let within = passed.iter().filter(|one| one.from >= from && one.to <= to);
        within.map(&of).sum::<u64>() * SECOND > burst * SECOND + (to - from) * rate
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever overtakes what: no row lets more pass than its burst and rate in any span, nothing of a refused request
    /// stays, and when all is over nobody is under way.
    #[test]
    fn never_over(schedule in schedule(4), work in work()) {
        let table = table(r#"[
            {"name": "rps", "per": ["org"], "rate": "50/second", "burst": 6},
            {"name": "tps", "per": ["key"], "count": "tokens", "rate": "100/second", "burst": 12},
            {"name": "itps", "per": ["key", "model"], "count": "input_tokens", "rate": "200/second", "burst": 15},
            {"name": "inflight", "per": ["project"], "count": "concurrent", "max": 2}]"#);
        let (mut store, passed, most) = run(&table, schedule, work);
        prop_assert!(most <= 2);
        prop_assert!(!over(&passed, |_| 1, 50, 6), "{passed:?}");
        prop_assert!(!over(&passed, |one| one.used, 100, 12), "{passed:?}");
        prop_assert!(!over(&passed, |one| one.used, 200, 15), "{passed:?}");
        let admitted = table.go(&mut store, &acme(), START + 100 * SECOND, tokens(12, 0)).unwrap();
        let remaining: Vec<_> = admitted.statuses.iter().map(|one| one.remaining).collect();
        prop_assert_eq!(remaining, [5, 0, 3, 1]);
    }

    /// While no time passes: exactly the burst, however workers overtake each other.
    #[test]
    fn exactly_the_burst(schedule in schedule(0), workers in 2..5_usize) {
        let table = table(r#"[{"name": "a", "per": ["key"], "rate": "1000/second"}, {"name": "b", "per": ["org"], "rate": "10/second"}]"#);
        let (mut store, passed, _) = run(&table, schedule, vec![vec![(1, 1); 8]; workers]);
        prop_assert_eq!(passed.len(), 10);
        // What refused requests took from the other row is back, too.
        let denied = table.go(&mut store, &acme(), START, tokens(0, 0)).unwrap_err().denied();
        prop_assert_eq!(denied.statuses[0].used, 10);
    }
}

#[test]
fn a_swap_lost_too_often_is_the_stores_failure_and_leaves_nothing() {
    let table = table(r#"[{"name": "a", "per": ["org"], "rate": "10/second"}]"#);
    let mut store = Memory {
        losses: 63,
        ..Memory::default()
    };
    assert!(table.go(&mut store, &acme(), START, tokens(0, 0)).is_ok());
    store.losses = 64;
    let refused = table.go(&mut store, &acme(), START, tokens(0, 0)).unwrap_err();
    assert_eq!(refused.reason, Reason::Store(StoreError::Contended));
    let next = table.go(&mut store, &acme(), START, tokens(0, 0)).unwrap();
    assert_eq!(next.statuses[0].used, 2);
}

/// A store in which a row is used up between this worker's reading and its writing.
struct Overtaken {
    memory: Memory,
    /// At which swap, and by which table.
    at: usize,
    by: Table,
    fails_then: bool,
}

impl Store for Overtaken {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        self.memory.get(key)
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        if self.memory.swaps == self.at {
            self.by.how_many(&mut self.memory, &acme(), START, tokens(0, 0));
            self.at = usize::MAX;
            if self.fails_then {
                self.memory.fails_after = Some(2);
            }
        }
        self.memory.swap(key, value, version)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.memory.put(key, value)
    }
}

#[test]
fn a_row_used_up_at_the_last_moment_gives_the_others_back() {
    let json = r#"[{"name": "a", "per": ["key"], "rate": "10/second"}, {"name": "b", "per": ["org"], "rate": "3/second"}]"#;
    let other = r#"[{"name": "b", "per": ["org"], "rate": "3/second"}]"#;
    let table = table(json);
    let subject = acme();
    for fails_then in [false, true] {
        let mut store = Overtaken {
            memory: Memory::default(),
            at: 1,
            by: super::table(other),
            fails_then,
        };
        let refused = table
            .reserve(&mut store, &ask(&subject, START, tokens(0, 0)))
            .unwrap_err();
        store.memory.fails_after = None;
        assert_eq!(refused.unreturned.is_some(), fails_then);
        if let Some(unsettled) = refused.unreturned {
            unsettled.retry(&mut store, START).unwrap();
        }
        assert!(matches!(&refused.reason, Reason::Limited(denied) if denied.status.row == 1));
        let next = table
            .reserve(&mut store, &ask(&subject, START + SECOND, tokens(0, 0)))
            .unwrap();
        assert_eq!((next.statuses[0].used, next.statuses[1].used), (1, 1));
    }
}
