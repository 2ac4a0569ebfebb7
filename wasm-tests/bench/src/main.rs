//! `make bench`: what each filter costs, beside bare Envoy, in one interleaved run on this machine.
//!
//! Every row is an Envoy of its own with one worker on one CPU, but for the table by the number of workers; load and
//! model servers share another CPU. The rows take turns, a second or so each, for many rounds, and each is compared
//! with bare Envoy *of the same round*, so that what slows the machine for a while slows both. `docs/performance.md`
//! says how to read it.

mod ask;
mod check;
mod cpu;
mod envoy;
mod grid;
mod keys;
mod load;
mod measure;
mod model;
mod processor;
mod report;
mod rows;
mod sample;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tollgate_harness::documents::Documents;

use crate::ask::Ask;
use crate::grid::Grid;
use crate::keys::Keys;
use crate::measure::{Bench, Measured, Plan};
use crate::processor::Processor;
use crate::rows::Row;

/// Measures what each filter adds to Envoy; `make bench` runs it.
#[derive(Parser)]
struct Args {
    /// The repository.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// The Envoy to measure.
    #[arg(long)]
    envoy: PathBuf,
    /// Where the bench's own modules are.
    #[arg(long, default_value = "target/bench")]
    modules: PathBuf,
    /// A short run, for a first look: its figures are rough.
    #[arg(long)]
    quick: bool,
    /// What a request costs by the size of its body, instead of the table of all rows.
    #[arg(long, conflicts_with_all = ["streams", "workers"])]
    sizes: bool,
    /// What an event of a streamed answer costs, instead of the table of all rows.
    #[arg(long, conflicts_with = "workers")]
    streams: bool,
    /// What a request costs by the number of Envoy's workers, instead of the table of all rows.
    #[arg(long)]
    workers: bool,
    /// Only these rows, beside `bare`; nothing is then written into docs/performance.md.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
}

impl Args {
    /// The rows to measure, bare Envoy first.
    fn rows(&self, all: Vec<Row>) -> Result<Vec<Row>> {
        for name in &self.rows {
            ensure!(all.iter().any(|row| row.name == name), "there is no row `{name}`");
        }
        let among = |names: &[&str], row: &Row| names.contains(&row.name);
        let wanted = |row: &Row| match self.rows.as_slice() {
            [] if self.sizes => among(&rows::BY_SIZE, row),
            [] if self.streams => among(&rows::BY_EVENT, row),
            [] if self.workers => among(&rows::BY_WORKERS, row),
            // It is of interest for streams alone.
            [] => row.name != rows::FOR_STREAMS,
            names => names.iter().any(|name| name == row.name),
        };
        let rows = all.into_iter();
        Ok(rows.filter(|row| row.name == rows::BARE || wanted(row)).collect())
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let plan = if args.quick { Plan::QUICK } else { Plan::FULL };
    let split = cpu::split()?;

    eprintln!("minting 1,000 and 1,000,000 keys");
    let (thousand, million) = (Keys::mint(1_000, 1_000)?, Keys::mint(1_000_000, 10_000)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let documents = runtime.block_on(Documents::start(&serde_json::Value::Null))?;
    documents.set_bytes(million.document.clone());
    let processor = Processor::start()?;

    let scratch = tempfile::tempdir()?;
    let memory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
    let parts = rows::Parts {
        dist: args.root.join("dist"),
        modules: args.root.join(&args.modules),
        large: model::start(model::LARGE)?,
        small: model::start(model::SMALL)?,
        documents: documents.addr(),
        processor: processor.addr,
        scratch: scratch.path().to_owned(),
        memory: memory.path().to_owned(),
        thousand: &thousand,
    };
    let rows = args.rows(rows::all(&parts)?)?;
    let mut bench = Bench {
        envoy: args.envoy.clone(),
        seat: split.alone(),
        parts,
        million: &million,
        processor: &processor,
    };
    if args.sizes {
        by_columns(&args, &bench, &rows, &plan, &Ask::by_size(), &grid::BY_SIZE)
    } else if args.streams {
        by_columns(&args, &bench, &rows, &plan, &Ask::by_pace(), &grid::BY_EVENT)
    } else if args.workers {
        by_workers(&args, &mut bench, &rows, &plan, split)
    } else {
        all_rows(&args, &bench, &rows, &plan)
    }
}

/// The table of all rows, with one kind of request.
fn all_rows(args: &Args, bench: &Bench<'_>, rows: &[Row], plan: &Plan) -> Result<()> {
    let Measured { sampled, foreign } = bench.run(rows, &[Ask::chat()], plan)?;
    let results = report::results(sampled.first().context("one kind of request was measured")?)?;
    let table = report::table(&results, &report::Setting::of(plan, &foreign));
    write(
        &args.root.join("target/bench/summary.json"),
        &report::summary(&results)?,
    )?;
    publish(args, "bench", &table)
}

/// A small table: a line for each row, a column for each kind of request.
fn by_columns(
    args: &Args,
    bench: &Bench<'_>,
    rows: &[Row],
    plan: &Plan,
    asks: &[Ask],
    grid: &Grid,
) -> Result<()> {
    let Measured { sampled, foreign } = bench.run(rows, asks, plan)?;
    let columns = asks
        .iter()
        .zip(&sampled)
        .map(|(ask, sampled)| Ok((ask.name, report::results(sampled)?)))
        .collect::<Result<Vec<_>>>()?;
    publish_grid(args, grid, &columns, &report::Setting::of(plan, &foreign))
}

/// A small table: a column for each number of workers, each a run of its own on both CPUs.
fn by_workers(
    args: &Args,
    bench: &mut Bench<'_>,
    rows: &[Row],
    plan: &Plan,
    split: cpu::Split,
) -> Result<()> {
    let mut columns = Vec::new();
    let mut others = Vec::new();
    for (workers, name) in [(1, "1 worker"), (2, "2 workers")] {
        bench.seat = split.shared(workers);
        let Measured { sampled, foreign } = bench.run(rows, &[Ask::chat()], plan)?;
        let sampled = sampled.first().context("one kind of request was measured")?;
        columns.push((name, report::results(sampled)?));
        others.extend(foreign);
    }
    publish_grid(
        args,
        &grid::BY_WORKERS,
        &columns,
        &report::Setting::of(plan, &others),
    )
}

fn publish_grid(
    args: &Args,
    grid: &Grid,
    columns: &[(&str, Vec<report::Figures>)],
    setting: &report::Setting,
) -> Result<()> {
    let summary = args.root.join(format!("target/bench/{}.json", grid.name));
    write(&summary, &grid::summary(columns)?)?;
    publish(args, grid.name, &grid.table(columns, setting))
}

/// Shows a table, and puts it into the page where all of its rows were measured.
fn publish(args: &Args, name: &str, table: &str) -> Result<()> {
    println!("{table}");
    if !args.rows.is_empty() {
        eprintln!("docs/performance.md is left as it was: not all rows were measured");
        return Ok(());
    }
    let page = args.root.join("docs/performance.md");
    let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    write(&page, &report::insert(&text, name, table)?)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
