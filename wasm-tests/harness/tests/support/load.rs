//! Constant load on both workers by several callers, and the account of every request of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tollgate_harness::client::Credential;
use tollgate_harness::{Gateway, net};

use super::lane::{self, Seat};

/// From one answer to the next request of a lane.
const PACE: Duration = Duration::from_millis(8);

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Name of the caller.
    pub(crate) caller: &'static str,
    /// The worker that served it.
    pub(crate) worker: usize,
    /// When it was sent.
    pub(crate) sent: Instant,
    /// When its answer was there.
    pub(crate) done: Instant,
    /// The answer's status; 0 where the connection was lost.
    pub(crate) status: u16,
    /// The answer, where it is not 200.
    pub(crate) text: String,
}

/// Load that goes on until it is stopped. Each caller asks on a connection to each worker.
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
    lanes: usize,
}

struct Shared {
    stop: AtomicBool,
    callers: Vec<(&'static str, Mutex<String>)>,
    samples: Mutex<Vec<Sample>>,
}

/// The account of a load.
#[derive(Debug)]
pub(crate) struct Journal(Vec<Sample>);

impl Load {
    /// Starts it. It runs on a thread of its own, so that nothing the test does delays a request.
    pub(crate) async fn start(gateway: &Gateway, callers: &[(&'static str, &dyn Credential)]) -> Self {
        let mut seats = Vec::new();
        for _ in callers {
            seats.push(lane::seats(gateway).await);
        }
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            callers: callers
                .iter()
                .map(|(name, key)| (*name, Mutex::new(key.credential().to_owned())))
                .collect(),
            samples: Mutex::default(),
        });
        let lanes = 2 * callers.len();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || run(&shared, seats)
        });
        let load = Self {
            shared,
            thread: Some(thread),
            lanes,
        };
        load.go_on(5).await;
        load
    }

    /// Waits until each lane has sent and got `requests` more.
    pub(crate) async fn go_on(&self, requests: usize) {
        let now = Instant::now();
        net::eventually("the load goes on", async || {
            let samples = self.shared.samples.lock().unwrap();
            let mut counts = std::collections::HashMap::new();
            for sample in samples.iter().rev().take_while(|sample| sample.done >= now) {
                if sample.sent >= now {
                    *counts.entry((sample.caller, sample.worker)).or_insert(0) += 1;
                }
            }
            (counts.len() == self.lanes && counts.values().all(|count| *count >= requests)).then_some(())
        })
        .await;
    }

    /// Gives a caller another key from its next requests on.
    pub(crate) fn switch(&self, caller: &str, key: &impl Credential) {
        let found = self.shared.callers.iter().find(|(name, _)| *name == caller);
        let (_, held) = found.expect("a caller of this load");
        *held.lock().unwrap() = key.credential().to_owned();
    }

    /// Stops it.
    pub(crate) fn stop(mut self) -> Journal {
        self.end();
        Journal(std::mem::take(&mut self.shared.samples.lock().unwrap()))
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok(); // its panic was already printed
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(shared: &Arc<Shared>, seats: Vec<[Seat; 2]>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (caller, seats) in seats.into_iter().enumerate() {
            for seat in seats {
                tasks.spawn(drive(shared.clone(), caller, seat));
            }
        }
        tasks.join_all().await;
    });
}

async fn drive(shared: Arc<Shared>, caller: usize, seat: Seat) {
    let mut lane = seat.open();
    let (name, key) = &shared.callers[caller];
    while !shared.stop.load(Ordering::Relaxed) {
        let key = key.lock().unwrap().clone();
        let sent = Instant::now();
        let reply = lane.ask(&key).await;
        let sample = Sample {
            caller: name,
            worker: lane.worker,
            sent,
            done: Instant::now(),
            status: reply.status,
            text: if reply.status == 200 {
                String::new()
            } else {
                reply.text()
            },
        };
        shared.samples.lock().unwrap().push(sample);
        if reply.status == 0 {
            return;
        }
        tokio::time::sleep(PACE).await;
    }
}

impl Journal {
    /// Every request, in the order of the answers.
    pub(crate) fn samples(&self) -> &[Sample] {
        &self.0
    }

    /// Those of one caller.
    pub(crate) fn of(&self, caller: &str) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| sample.caller == caller)
    }

    /// The part of it that was over by then.
    pub(crate) fn before(&self, moment: Instant) -> Self {
        Self(
            self.0
                .iter()
                .filter(|sample| sample.done <= moment)
                .cloned()
                .collect(),
        )
    }

    /// The part of it that began later.
    pub(crate) fn since(&self, moment: Instant) -> Self {
        Self(
            self.0
                .iter()
                .filter(|sample| sample.sent >= moment)
                .cloned()
                .collect(),
        )
    }

    /// Asserts that each request of a caller had this status; how many there were.
    pub(crate) fn always(&self, caller: &str, status: u16) -> usize {
        for sample in self.of(caller) {
            assert_eq!(sample.status, status, "{sample:?}");
        }
        self.of(caller).count()
    }

    /// Asserts that a caller's answers went from one status to another because of what was done at `at`: never
    /// before it, always from `bound` after it, and on no worker back again. Returns how long after `at` the last
    /// request was sent that still met the old state.
    pub(crate) fn turns(&self, caller: &str, at: Instant, bound: Duration, from: u16, to: u16) -> Duration {
        for worker in [0, 1] {
            let of_worker: Vec<_> = self.of(caller).filter(|sample| sample.worker == worker).collect();
            let turned = of_worker.iter().position(|sample| sample.status == to);
            let turned = turned.unwrap_or_else(|| panic!("{caller} never got {to} on worker {worker}"));
            assert!(turned > 0, "{caller} never got {from} on worker {worker}");
            let (before, after) = of_worker.split_at(turned);
            for sample in before {
                assert_eq!(sample.status, from, "{sample:?}");
                assert!(
                    sample.sent < at + bound,
                    "{:?} after: {sample:?}",
                    sample.sent - at
                );
            }
            for sample in after {
                assert_eq!(sample.status, to, "{sample:?}");
                assert!(sample.done > at, "{:?} before: {sample:?}", at - sample.done);
            }
            let last = after.last().expect("it turned");
            assert!(
                last.sent > at + bound,
                "the load was stopped before the bound was over"
            );
        }
        let old = self.of(caller).filter(|sample| sample.status == from);
        old.map(|sample| sample.sent.saturating_duration_since(at))
            .max()
            .unwrap_or_default()
    }

    /// The 99th percentile and the longest of the time that a caller waited for its answers.
    pub(crate) fn latency(&self, caller: &str) -> (Duration, Duration) {
        latency(self.of(caller).map(|sample| sample.done - sample.sent))
    }

    /// Lines for people: how many of which status each caller had.
    pub(crate) fn summary(&self) -> String {
        let mut counts = std::collections::BTreeMap::new();
        for sample in &self.0 {
            *counts.entry((sample.caller, sample.status)).or_insert(0) += 1;
        }
        let line = |((caller, status), count)| format!("  {caller}: {count} of {status}\n");
        counts.into_iter().map(line).collect()
    }
}

/// The 99th percentile and the maximum.
pub(crate) fn latency(times: impl Iterator<Item = Duration>) -> (Duration, Duration) {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let at = (times.len() * 99 / 100).min(times.len().saturating_sub(1));
    (times[at], *times.last().expect("there are requests"))
}
