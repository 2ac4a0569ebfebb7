//! The run: every row's Envoy at once, and each in turn under load.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::ask::Ask;
use crate::check;
use crate::cpu::{Busy, Priority};
use crate::envoy::{Envoy, Seat};
use crate::keys::Keys;
use crate::load::Load;
use crate::processor::Processor;
use crate::rows::{Parts, Row};
use crate::sample::{Sample, Sampled};

/// How long and how often. Each generation starts every Envoy anew, as where the pieces of a process come to lie
/// in memory can favour one row for as long as it lives.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Starts of every Envoy.
    pub(crate) generations: usize,
    /// Turns of each row in a generation.
    pub(crate) rounds: usize,
    /// How long a turn is.
    pub(crate) slice: Duration,
    /// Whether the figures are for a first look.
    pub(crate) quick: bool,
}

impl Plan {
    /// For a table that others rely on.
    pub(crate) const FULL: Self = Self {
        generations: 4,
        rounds: 8,
        slice: Duration::from_millis(1_000),
        quick: false,
    };
    /// For a first look.
    pub(crate) const QUICK: Self = Self {
        generations: 1,
        rounds: 6,
        slice: Duration::from_millis(400),
        quick: true,
    };
}

/// Before each slice, with the load on: the processor's caches hold the row that ran before.
const WARM_UP: Duration = Duration::from_millis(200);

/// What the rows run on.
pub(crate) struct Bench<'a> {
    /// The Envoy to measure.
    pub(crate) envoy: PathBuf,
    /// Where it runs.
    pub(crate) seat: Seat,
    /// The servers around it, and a thousand keys.
    pub(crate) parts: Parts<'a>,
    /// A million keys.
    pub(crate) million: &'a Keys,
    /// The server whose CPU time is a row's too.
    pub(crate) processor: &'a Processor,
}

/// What a run gave.
pub(crate) struct Measured {
    /// For each kind of request, in order: every row's turns.
    pub(crate) sampled: Vec<Vec<Sampled>>,
    /// What other programs used of a CPU in each turn.
    pub(crate) foreign: Vec<f64>,
}

/// A row under way, with a load for each kind of request.
struct Running {
    envoy: Envoy,
    loads: Vec<Load>,
}

impl Bench<'_> {
    /// Measures each row with each kind of request.
    pub(crate) fn run(&self, rows: &[Row], asks: &[Ask], plan: &Plan) -> Result<Measured> {
        let none_yet = || rows.iter().map(Sampled::new).collect();
        let mut sampled: Vec<Vec<Sampled>> = asks.iter().map(|_| none_yet()).collect();
        let mut foreign = Vec::new();
        let _priority = Priority::first();
        for generation in 1..=plan.generations {
            let mut running: Vec<Running> = rows
                .iter()
                .map(|row| self.start(row, asks).with_context(|| row.name))
                .collect::<Result<_>>()?;
            eprint!("generation {generation} of {}:", plan.generations);
            for round in 0..plan.rounds {
                eprint!(" {}", round + 1);
                for (ask, sampled) in sampled.iter_mut().enumerate() {
                    // Another row begins each time, so that none always follows the same neighbour.
                    for turn in 0..rows.len() {
                        let at = (round + turn) % rows.len();
                        let (Some(row), Some(running), Some(sampled)) =
                            (rows.get(at), running.get_mut(at), sampled.get_mut(at))
                        else {
                            bail!("more rows than Envoys")
                        };
                        let turn = self.turn(row, ask, running, plan.slice);
                        let (sample, others) = turn.with_context(|| row.name)?;
                        sampled.samples.push(sample);
                        foreign.push(others);
                    }
                }
            }
            eprintln!();
            for sampled in &mut sampled {
                for (running, row) in running.iter().zip(sampled) {
                    row.rss_kb.push(running.envoy.rss_kb()?);
                    row.peak_rss_kb.push(running.envoy.peak_rss_kb()?);
                }
            }
        }
        Ok(Measured { sampled, foreign })
    }

    /// An Envoy that was seen to do its work, and its loads.
    fn start(&self, row: &Row, asks: &[Ask]) -> Result<Running> {
        eprint!("starting {}", row.name);
        let envoy = Envoy::start(&self.envoy, &row.bootstrap(&self.parts), &self.seat)?;
        let keys = if row.million {
            self.million
        } else {
            self.parts.thousand
        };
        let first = keys.used.first().context("there are keys")?;
        let took = check::row(row, &envoy, first).with_context(|| envoy.log_tail())?;
        eprintln!(": answers after {:.1} s", took.as_secs_f64());
        let loads = asks
            .iter()
            .map(|ask| Load::new(envoy.listener(), &keys.used, ask))
            .collect::<Result<_>>()?;
        Ok(Running { envoy, loads })
    }

    /// One row's turn with the kind of request at `ask`, and what other programs used of a CPU meanwhile.
    fn turn(&self, row: &Row, ask: usize, running: &mut Running, slice: Duration) -> Result<(Sample, f64)> {
        let busy = Busy::before(&running.envoy)?;
        let sample = self.load(row, ask, running, slice)?;
        Ok((sample, busy.by_others(&running.envoy)?))
    }

    fn load(&self, row: &Row, ask: usize, running: &mut Running, slice: Duration) -> Result<Sample> {
        let (envoy, load) = (&running.envoy, running.loads.get_mut(ask));
        let load = load.context("more kinds of requests than loads")?;
        load.run(WARM_UP)?;
        let (envoy_before, server_before) = (envoy.cpu_time()?, self.processor.cpu_time()?);
        let run = load.run(slice)?;
        let used = envoy.cpu_time()?.saturating_sub(envoy_before);
        let server = self.processor.cpu_time()?.saturating_sub(server_before);
        Sample::of(&run, used, row.asks_processor.then_some(server))
    }
}
