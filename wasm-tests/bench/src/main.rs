//! `make bench`: what each filter costs, beside bare Envoy, in one interleaved run on this machine.
//!
//! Every row is an Envoy of its own with one worker on one CPU; load and model servers share another CPU. The
//! rows take turns, a second or so each, for many rounds, and each is compared with bare Envoy *of the same
//! round*, so that what slows the machine for a while slows both. `docs/performance.md` says how to read it.

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
    #[arg(long, conflicts_with = "streams")]
    sizes: bool,
    /// What an event of a streamed answer costs, instead of the table of all rows.
    #[arg(long)]
    streams: bool,
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
        let wanted = |row: &Row| match (self.rows.as_slice(), self.sizes, self.streams) {
            ([], true, _) => among(&rows::BY_SIZE, row),
            ([], _, true) => among(&rows::BY_EVENT, row),
            // It is of interest for streams alone.
            ([], false, false) => row.name != rows::FOR_STREAMS,
            (names, ..) => names.iter().any(|name| name == row.name),
        };
        let rows = all.into_iter();
        Ok(rows.filter(|row| row.name == rows::BARE || wanted(row)).collect())
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let plan = if args.quick { Plan::QUICK } else { Plan::FULL };
    let cpus = cpu::split()?;

    eprintln!("minting 1,000 and 1,000,000 keys");
    let (thousand, million) = (Keys::mint(1_000, 1_000)?, Keys::mint(1_000_000, 10_000)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let documents = runtime.block_on(Documents::start(&serde_json::Value::Null))?;
    documents.set_bytes(million.document.clone());
    let processor = Processor::start()?;

    let parts = rows::Parts {
        dist: args.root.join("dist"),
        modules: args.root.join(&args.modules),
        large: model::start(model::LARGE)?,
        small: model::start(model::SMALL)?,
        documents: documents.addr(),
        processor: processor.addr,
        thousand: &thousand,
    };
    let rows = args.rows(rows::all(&parts)?)?;
    let bench = Bench {
        envoy: args.envoy.clone(),
        cpus,
        parts,
        million: &million,
        processor: &processor,
    };
    if args.sizes {
        by_columns(&args, &bench, &rows, &plan, &Ask::by_size(), &grid::BY_SIZE)
    } else if args.streams {
        by_columns(&args, &bench, &rows, &plan, &Ask::by_pace(), &grid::BY_EVENT)
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
    let table = grid.table(&columns, &report::Setting::of(plan, &foreign));
    write(
        &args.root.join(format!("target/bench/{}.json", grid.name)),
        &grid::summary(&columns)?,
    )?;
    publish(args, grid.name, &table)
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
