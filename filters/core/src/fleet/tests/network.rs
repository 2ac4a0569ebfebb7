//! Envoys, the coordinator, and the messages between them, which take a while and get lost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use tollgate_shares::{Coordinator, Epoch, Message, Timing, micros};

use super::super::TICK_MILLIS;
use super::envoy::Envoy;
use super::oracle::{self, Passed};
use super::random::Random;
use super::{MILLI, SECOND};
use crate::bound::Bound;
use crate::config::{Object, from_json};
use crate::limits::{Count, RawLimit, Reservation, Table};

/// A request as a test asks it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) reserved: u64,
    pub(super) used: u64,
    /// How long, in nanoseconds.
    pub(super) takes: u64,
}

impl Request {
    pub(super) const ONE: Self = Self {
        reserved: 1,
        used: 1,
        takes: 0,
    };
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) asked: u64,
    pub(super) passed: u64,
    pub(super) used: u64,
}

pub(super) struct Fleet {
    table: Rc<Table>,
    envoys: Vec<Envoy>,
    /// No message of these comes through until then.
    cut: Vec<u64>,
    parts: u32,
    epochs: u64,
    coordinator: Coordinator,
    time: u64,
    random: Random,
    /// So many of a thousand messages are lost.
    lost: u64,
    /// By when it happens, and a number.
    to_come: BinaryHeap<Reverse<(u64, u64)>>,
    what: BTreeMap<u64, What>,
    numbers: u64,
    passed: Vec<Passed>,
    open: usize,
    starts: u64,
    figures: Figures,
}

enum What {
    Message(usize, u64, Vec<u8>),
    Answer(usize, u64, Option<Vec<u8>>),
    End(usize, Reservation, Passing),
}

/// Where in `passed`, and what it used.
struct Passing(usize, u64, u64);

const STEP: u64 = 20 * MILLI;

impl Fleet {
    pub(super) fn new(limits: &str, envoys: usize, parts: u32) -> Self {
        let raw: Vec<Object<RawLimit>> = from_json(limits.as_bytes()).unwrap();
        let table = Rc::new(Table::try_from(raw).unwrap());
        let offset = |at: u64| 1_700_000_000 * SECOND + at * 7_919_000_017;
        Self {
            envoys: (0..envoys as u64)
                .map(|at| Envoy::new(&table, at + 1, offset(at)))
                .collect(),
            table,
            cut: vec![0; envoys],
            parts,
            epochs: 1,
            coordinator: Coordinator::new(Timing::FLEET, Epoch(1), parts, 0),
            time: 0,
            random: Random::new(11),
            lost: 1,
            to_come: BinaryHeap::new(),
            what: BTreeMap::new(),
            numbers: 0,
            passed: Vec::new(),
            open: 0,
            starts: envoys as u64,
            figures: Figures::default(),
        }
    }

    pub(super) const fn loses(&mut self, of_a_thousand: u64) {
        self.lost = of_a_thousand;
    }

    pub(super) fn count_anew(&mut self) -> Figures {
        core::mem::take(&mut self.figures)
    }

    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// An Envoy is killed and starts again. Its requests are over, and count as they were reserved.
    pub(super) fn crash(&mut self, at: usize) {
        self.starts += 1;
        let offset = 1_700_000_000 * SECOND + self.starts * 7_919_000_017;
        self.envoys[at] = Envoy::new(&self.table, self.starts, offset);
        self.what.retain(|_, what| match what {
            What::End(envoy, ..) if *envoy == at => {
                self.open -= 1;
                false
            }
            What::Answer(envoy, ..) => *envoy != at,
            _ => true,
        });
    }

    /// More Envoys.
    pub(super) fn join(&mut self, count: usize) {
        for _ in 0..count {
            self.starts += 1;
            let offset = 1_700_000_000 * SECOND + self.starts * 7_919_000_017;
            self.envoys.push(Envoy::new(&self.table, self.starts, offset));
            self.cut.push(0);
        }
    }

    /// An Envoy has one more member.
    pub(super) fn add_member(&mut self, at: usize) {
        self.starts += 1;
        self.envoys[at].add_member(self.starts);
    }

    /// How often members of an Envoy stopped for others.
    pub(super) fn stops(&self, at: usize) -> u64 {
        self.envoys[at].stops()
    }

    pub(super) fn lose_the_books(&mut self) {
        self.epochs += 1;
        self.coordinator = Coordinator::new(Timing::FLEET, Epoch(self.epochs), self.parts, micros(self.time));
    }

    pub(super) fn cut_off(&mut self, at: usize, span: u64) {
        self.cut[at] = self.time + span;
    }

    pub(super) fn run(&mut self, span: u64, mut plan: impl FnMut(&mut Random, &mut Vec<(usize, Request)>)) {
        let end = self.time + span;
        let mut requests = Vec::new();
        while self.time < end {
            self.time += STEP;
            self.happen();
            requests.clear();
            plan(&mut self.random, &mut requests);
            for (at, request) in &requests {
                self.ask(*at, request);
            }
            if self.time.is_multiple_of(u64::from(TICK_MILLIS) * MILLI) {
                for at in 0..self.envoys.len() {
                    for (call, message) in self.envoys[at].tick(self.time) {
                        self.post(What::Message(at, call, message));
                    }
                }
            }
        }
    }

    fn ask(&mut self, at: usize, request: &Request) {
        self.figures.asked += 1;
        let Some(reservation) = self.envoys[at].admit(request, self.time) else {
            return;
        };
        self.figures.passed += 1;
        self.figures.used += request.used;
        self.open += 1;
        let amount = match self.rate().2 {
            true => 1,
            false => request.reserved,
        };
        self.passed.push(Passed {
            time: self.time,
            amount,
        });
        let passing = Passing(self.passed.len() - 1, request.used, request.reserved);
        let end = What::End(at, reservation, passing);
        self.later(request.takes, end);
    }

    /// It takes 2 to 20 ms, and some are lost.
    fn post(&mut self, what: What) {
        if self.random.below(1_000) >= self.lost {
            let takes = 2 * MILLI + self.random.below(18) * MILLI;
            self.later(takes, what);
        }
    }

    fn later(&mut self, span: u64, what: What) {
        self.numbers += 1;
        self.to_come.push(Reverse((self.time + span, self.numbers)));
        self.what.insert(self.numbers, what);
    }

    fn happen(&mut self) {
        while let Some(Reverse((at, number))) = self.to_come.peek().copied() {
            if at > self.time {
                return;
            }
            self.to_come.pop();
            match self.what.remove(&number) {
                Some(What::Message(envoy, call, message)) if self.cut[envoy] <= self.time => {
                    let message: Message = serde_json::from_slice(&message).unwrap();
                    message.check().unwrap();
                    let answer = self.coordinator.receive(&message, micros(self.time));
                    let answer = answer.map(|answer| serde_json::to_vec(&answer).unwrap());
                    self.post(What::Answer(envoy, call, answer));
                }
                Some(What::Answer(envoy, call, answer)) if self.cut[envoy] <= self.time => {
                    self.envoys[envoy].answered(call, answer, self.time);
                }
                Some(What::End(envoy, reservation, Passing(place, used, reserved))) => {
                    self.open -= 1;
                    self.envoys[envoy].settle(reservation, used, self.time);
                    if !self.rate().2 {
                        // What is used beyond that is a debt.
                        self.passed[place].amount = used.min(reserved);
                    }
                }
                Some(What::Message(..) | What::Answer(..)) | None => {}
            }
        }
    }

    /// Rate, burst, and whether it counts requests.
    fn rate(&self) -> ((u64, u64), u64, bool) {
        let row = self.table.row(0).unwrap();
        match row.bound {
            Some(Bound::Rate(quota)) => (
                (quota.amount(), quota.period()),
                quota.burst(),
                row.count == Count::Requests,
            ),
            _ => ((1, 1), u64::MAX, true),
        }
    }

    /// When it was over first, and by how much.
    pub(super) fn over(&self) -> Option<(u64, u128)> {
        let (rate, burst, _) = self.rate();
        oracle::over(&self.passed, rate, burst)
    }

    pub(super) fn is_never_over(&self) {
        assert!(self.passed.len() > 100, "{} passed", self.passed.len());
        assert_eq!(self.over(), None);
    }
}
