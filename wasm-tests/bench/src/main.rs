//! `make bench`: what each filter costs, beside bare Envoy, in one interleaved run on this machine.
//!
//! Every row is an Envoy of its own with one worker on one CPU; load and model server share another CPU. The
//! rows take turns, a second or so each, for many rounds, and each is compared with bare Envoy *of the same
//! round*, so that what slows the machine for a while slows both. `docs/performance.md` says how to read it.

mod cpu;
mod envoy;
mod keys;
mod load;
mod model;
mod report;
mod rows;
mod sample;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use tollgate_harness::documents::Documents;

use crate::envoy::Envoy;
use crate::keys::Keys;
use crate::load::Load;
use crate::rows::Row;
use crate::sample::{Sample, Sampled};

/// Measures what each filter adds to Envoy; `make bench` runs it.
#[derive(Parser)]
struct Args {
    /// The repository.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// The Envoy to measure.
    #[arg(long)]
    envoy: PathBuf,
    /// Where the floor's module is.
    #[arg(long, default_value = "target/bench")]
    modules: PathBuf,
    /// A short run, for a first look: its figures are rough.
    #[arg(long)]
    quick: bool,
    /// Only these rows, beside `bare`; nothing is then written into docs/performance.md.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
}

/// How long and how often. Each generation starts every Envoy anew, as where the pieces of a process come to lie
/// in memory can favour one row for as long as it lives.
#[derive(Clone, Copy)]
struct Plan {
    generations: usize,
    rounds: usize,
    slice: Duration,
}

const FULL: Plan = Plan {
    generations: 4,
    rounds: 8,
    slice: Duration::from_millis(1_000),
};
const QUICK: Plan = Plan {
    generations: 1,
    rounds: 6,
    slice: Duration::from_millis(400),
};

/// Before each slice, with the load on: the processor's caches hold the row that ran before.
const WARM_UP: Duration = Duration::from_millis(200);

fn main() -> Result<()> {
    let args = Args::parse();
    let plan = if args.quick { QUICK } else { FULL };
    let cpus = cpu::split()?;

    eprintln!("minting 1,000 and 1,000,000 keys");
    let (thousand, million) = (Keys::mint(1_000, 1_000)?, Keys::mint(1_000_000, 10_000)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let documents = runtime.block_on(Documents::start(&serde_json::Value::Null))?;
    documents.set_bytes(million.document.clone());
    let model = model::start()?;

    let parts = rows::Parts {
        dist: args.root.join("dist"),
        modules: args.root.join(&args.modules),
        model,
        documents: documents.addr(),
        thousand: &thousand,
    };
    let mut rows = rows::all(&parts)?;
    let partial = !args.rows.is_empty();
    for name in &args.rows {
        ensure!(
            rows.iter().any(|row| row.name == name),
            "there is no row `{name}`"
        );
    }
    rows.retain(|row| !partial || row.name == rows::BARE || args.rows.iter().any(|name| name == row.name));

    let mut sampled: Vec<Sampled> = rows.iter().map(Sampled::new).collect();
    let mut foreign = Vec::new();
    let priority = cpu::Priority::first();
    for generation in 1..=plan.generations {
        let mut running = start(&rows, &args.envoy, cpus, &thousand, &million)?;
        eprint!("generation {generation} of {}:", plan.generations);
        for round in 0..plan.rounds {
            eprint!(" {}", round + 1);
            // Another row begins each time, so that none always follows the same neighbour.
            for turn in 0..rows.len() {
                let at = (round + turn) % rows.len();
                let (Some((envoy, load)), Some(sampled)) = (running.get_mut(at), sampled.get_mut(at)) else {
                    bail!("more rows than Envoys")
                };
                let busy = cpu::Busy::before(envoy)?;
                let sample = measure(envoy, load, plan.slice).with_context(|| sampled.name.clone())?;
                foreign.push(busy.by_others(envoy)?);
                sampled.samples.push(sample);
            }
        }
        eprintln!();
        for ((envoy, _), sampled) in running.iter().zip(&mut sampled) {
            sampled.rss_kb.push(envoy.rss_kb()?);
            sampled.peak_rss_kb.push(envoy.peak_rss_kb()?);
        }
    }

    drop(priority);

    let results = report::results(&sampled)?;
    let table = report::table(&results, &report::Setting::of(&plan, &foreign, args.quick));
    println!("{table}");
    write(
        &args.root.join("target/bench/summary.json"),
        &report::summary(&results)?,
    )?;
    if partial {
        eprintln!("docs/performance.md is left as it was: not all rows were measured");
    } else {
        let page = args.root.join("docs/performance.md");
        let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        write(&page, &report::insert(&text, &table)?)?;
    }
    Ok(())
}

/// An Envoy and a load for each row, once each answers.
fn start(
    rows: &[Row],
    program: &Path,
    cpus: cpu::Split,
    thousand: &Keys,
    million: &Keys,
) -> Result<Vec<(Envoy, Load)>> {
    rows.iter()
        .map(|row| {
            eprint!("starting {}", row.name);
            let envoy =
                Envoy::start(program, &row.bootstrap, cpus.envoy).with_context(|| row.name.to_owned())?;
            let keys = if row.million { million } else { thousand };
            let mut load = Load::new(envoy.listener(), &keys.used)?;
            let took = load
                .until_answered(Duration::from_secs(180))
                .with_context(|| envoy.log_tail())?;
            eprintln!(": answers after {:.1} s", took.as_secs_f64());
            Ok((envoy, load))
        })
        .collect()
}

/// One row's turn.
fn measure(envoy: &Envoy, load: &mut Load, slice: Duration) -> Result<Sample> {
    load.run(WARM_UP)?;
    let before = envoy.cpu_time()?;
    let run = load.run(slice)?;
    let used = envoy.cpu_time()?.saturating_sub(before);
    load.drain()?;
    Sample::of(&run, used)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
