//! The table for a reader and the summary for a program.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::measure::Plan;
use crate::rows::{BARE, FLOOR};
use crate::sample::{Middle, Sample, Sampled};

/// The table `name` in `docs/performance.md` lies between two such lines.
fn begin(name: &str) -> String {
    format!("<!-- {name}: begin, written by `make bench` -->")
}

fn end(name: &str) -> String {
    format!("<!-- {name}: end -->")
}

/// A row's figures: medians over rounds; differences and ratios are taken within each round first.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) name: String,
    #[serde(skip)]
    title: String,
    rps: f64,
    rps_ratio: f64,
    rps_ratio_spread: [f64; 2],
    /// Of the Envoy process.
    pub(crate) cpu_us: f64,
    /// Of the Envoy process, beside bare Envoy.
    pub(crate) added_cpu_us: f64,
    /// The middle half of that.
    pub(crate) added_cpu_us_spread: [f64; 2],
    /// Of the server that the row asks about each request.
    pub(crate) server_cpu_us: Option<f64>,
    /// This row's added CPU time in those of the floor.
    added_cpu_to_floor: Option<f64>,
    p50_us: f64,
    p50_ratio: f64,
    p99_us: f64,
    p99_ratio: f64,
    rss_kb: u64,
    rss_ratio: f64,
    peak_rss_kb: u64,
    envoy_busy: f64,
}

/// Under what circumstances the figures were taken.
pub(crate) struct Setting {
    rounds: usize,
    generations: usize,
    slice_ms: u128,
    others: f64,
    quick: bool,
}

impl Setting {
    /// `foreign`: what other programs used of a CPU in each turn.
    pub(crate) fn of(plan: &Plan, foreign: &[f64]) -> Self {
        Self {
            rounds: plan.rounds * plan.generations,
            generations: plan.generations,
            slice_ms: plan.slice.as_millis(),
            others: Middle::of(foreign.iter().copied()).median,
            quick: plan.quick,
        }
    }

    /// What a reader has to know of it.
    pub(crate) fn words(&self) -> String {
        let Self {
            rounds,
            generations,
            slice_ms,
            others,
            quick,
        } = self;
        let starts = if *generations == 1 { "start" } else { "starts" };
        let rough = if *quick {
            " A short run: rough figures."
        } else {
            ""
        };
        let noise = if *others > 0.1 {
            " **That is too much: measure again on a quiet machine.**"
        } else {
            ""
        };
        format!(
            "Medians over {rounds} rounds of {slice_ms} ms a row, {generations} {starts} of every Envoy.{rough} Other \
             programs used {:.0}% of one CPU meanwhile.{noise}\n",
            others * 100.0
        )
    }
}

/// The figures of every row, in order.
///
/// # Errors
/// There is no bare row.
pub(crate) fn results(sampled: &[Sampled]) -> Result<Vec<Figures>> {
    let bare = sampled
        .iter()
        .find(|row| row.name == BARE)
        .context("there is no bare row")?;
    let mut results: Vec<Figures> = sampled.iter().map(|row| figures(row, bare)).collect();
    let floor = results
        .iter()
        .find(|row| row.name == FLOOR)
        .map(|row| row.added_cpu_us);
    for row in results.iter_mut().filter(|row| row.name != BARE) {
        row.added_cpu_to_floor = floor.map(|floor| row.added_cpu_us / floor);
    }
    Ok(results)
}

fn figures(row: &Sampled, bare: &Sampled) -> Figures {
    let of = |figure: fn(&Sample) -> f64| Middle::of(row.samples.iter().map(figure)).median;
    let paired = |compare: fn(&Sample, &Sample) -> f64| {
        Middle::of(
            row.samples
                .iter()
                .zip(&bare.samples)
                .map(|(row, bare)| compare(row, bare)),
        )
    };
    let rps_ratio = paired(|row, bare| row.rps / bare.rps);
    let added = paired(|row, bare| row.cpu_us - bare.cpu_us);
    let (rss_kb, bare_rss_kb) = (middle_kb(&row.rss_kb), middle_kb(&bare.rss_kb));
    Figures {
        name: row.name.clone(),
        title: row.title.clone(),
        rps: of(|sample| sample.rps),
        rps_ratio: rps_ratio.median,
        rps_ratio_spread: [rps_ratio.low, rps_ratio.high],
        cpu_us: of(|sample| sample.cpu_us),
        added_cpu_us: added.median,
        added_cpu_us_spread: [added.low, added.high],
        server_cpu_us: middle_of_some(row.samples.iter().filter_map(|sample| sample.server_us)),
        added_cpu_to_floor: None,
        p50_us: of(|sample| sample.p50_us),
        p50_ratio: paired(|row, bare| row.p50_us / bare.p50_us).median,
        p99_us: of(|sample| sample.p99_us),
        p99_ratio: paired(|row, bare| row.p99_us / bare.p99_us).median,
        rss_kb,
        rss_ratio: rss_kb as f64 / bare_rss_kb as f64,
        peak_rss_kb: middle_kb(&row.peak_rss_kb),
        envoy_busy: of(|sample| sample.busy),
    }
}

fn middle_of_some(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values = values.peekable();
    values.peek().is_some().then(|| Middle::of(values).median)
}

fn middle_kb(values: &[u64]) -> u64 {
    Middle::of(values.iter().map(|kb| *kb as f64)).median as u64
}

/// The figures as JSON: a list of rows.
pub(crate) fn summary(results: &[Figures]) -> Result<String> {
    Ok(serde_json::to_string_pretty(results)? + "\n")
}

/// The figures as a table in Markdown, with what was around them.
pub(crate) fn table(results: &[Figures], setting: &Setting) -> String {
    let mut table = String::from(
        "| row | requests/s | ÷ bare | CPU µs a request | added | ÷ floor | p50 ms (÷ bare) | p99 ms (÷ bare) | memory MB (÷ bare) |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for row in results {
        line(&mut table, row);
    }
    table.push('\n');
    for row in results {
        push(&mut table, format_args!("- `{}`: {}\n", row.name, row.title));
    }
    push(
        &mut table,
        format_args!(
            "\nIn brackets behind a ratio or difference to bare: the range that the middle half of the rounds lies in. {}",
            setting.words()
        ),
    );
    for row in results {
        if let Some(server) = row.server_cpu_us {
            push(
                &mut table,
                format_args!(
                    "\nBeside Envoy's CPU time, the server that `{}` asks took {server:.1} µs a request of its own.\n",
                    row.name
                ),
            );
        }
    }
    let idle: Vec<String> = results
        .iter()
        .filter(|row| row.envoy_busy < 0.9)
        .map(|row| format!("`{}`", row.name))
        .collect();
    if !idle.is_empty() {
        push(
            &mut table,
            format_args!(
                "\nNot kept busy for 90% of the time: {}. Their requests/s say what the load could do; CPU time holds.\n",
                idle.join(", ")
            ),
        );
    }
    table
}

fn line(table: &mut String, row: &Figures) {
    let [ratio_low, ratio_high] = row.rps_ratio_spread;
    let [added_low, added_high] = row.added_cpu_us_spread;
    let bare = row.name == BARE;
    let beside = |text: String| if bare { String::new() } else { text };
    push(
        table,
        format_args!(
            "| `{}` | {:.0} | {}{} | {:.1} | {} | {} | {:.2}{} | {:.2}{} | {:.0}{} |\n",
            row.name,
            row.rps,
            if bare {
                "1".to_owned()
            } else {
                format!("{:.3}", row.rps_ratio)
            },
            beside(format!(" [{ratio_low:.3} – {ratio_high:.3}]")),
            row.cpu_us,
            beside(format!(
                "{:+.1} [{added_low:.1} – {added_high:.1}]",
                row.added_cpu_us
            )),
            row.added_cpu_to_floor
                .map(|ratio| format!("{ratio:.2}"))
                .unwrap_or_default(),
            row.p50_us / 1e3,
            beside(format!(" ({:.2})", row.p50_ratio)),
            row.p99_us / 1e3,
            beside(format!(" ({:.2})", row.p99_ratio)),
            row.rss_kb as f64 / 1e3,
            beside(format!(" ({:.1})", row.rss_ratio)),
        ),
    );
}

/// Writing to a string cannot fail.
pub(crate) fn push(text: &mut String, more: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(more);
}

/// The page with the table `name` between its markers replaced.
///
/// # Errors
/// A marker is missing.
pub(crate) fn insert(page: &str, name: &str, table: &str) -> Result<String> {
    let (begin, end) = (begin(name), end(name));
    let missing = |line: &str| format!("the page has no line `{line}`");
    let (before, rest) = page.split_once(&begin).with_context(|| missing(&begin))?;
    let (_, after) = rest.split_once(&end).with_context(|| missing(&end))?;
    Ok(format!("{before}{begin}\n\n{table}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, cpu_us: &[f64]) -> Sampled {
        let sample = |cpu_us: &f64| Sample {
            rps: 1e6 / cpu_us,
            cpu_us: *cpu_us,
            server_us: None,
            p50_us: 1e3,
            p99_us: 2e3,
            busy: 1.0,
        };
        Sampled {
            name: name.to_owned(),
            title: format!("what {name} does"),
            samples: cpu_us.iter().map(sample).collect(),
            rss_kb: vec![50_000],
            peak_rss_kb: vec![60_000],
        }
    }

    #[test]
    fn differences_are_taken_within_a_round() {
        // The machine is slower by half in the second round; the filter adds a fifth in each.
        let rows = [
            row("bare", &[40.0, 60.0, 40.0]),
            row("floor", &[48.0, 72.0, 48.0]),
            row("x", &[44.0, 66.0, 44.0]),
        ];
        let results = results(&rows).unwrap();
        let floor = &results[1];
        assert_eq!((floor.added_cpu_us, floor.added_cpu_to_floor), (8.0, Some(1.0)));
        assert!((floor.rps_ratio - 1.0 / 1.2).abs() < 1e-9);
        assert_eq!(results[2].added_cpu_to_floor, Some(0.5));
        assert_eq!(
            (results[0].added_cpu_us, results[0].added_cpu_to_floor),
            (0.0, None)
        );
    }

    #[test]
    fn the_table_takes_the_place_of_the_last_one() {
        let (begin, end) = (begin("bench"), end("bench"));
        let page = format!("# Title\n\n{begin}\nold\n{end}\n\nmore\n");
        let once = insert(&page, "bench", "| new |\n").unwrap();
        assert_eq!(once, format!("# Title\n\n{begin}\n\n| new |\n\n{end}\n\nmore\n"));
        assert_eq!(insert(&once, "bench", "| new |\n").unwrap(), once);
        assert!(insert(&page, "bench-sizes", "").is_err());
    }

    #[test]
    fn a_busy_machine_and_a_short_run_are_said() {
        let results = results(&[row("bare", &[40.0])]).unwrap();
        let plan = Plan {
            generations: 1,
            rounds: 1,
            ..Plan::QUICK
        };
        let table = table(&results, &Setting::of(&plan, &[0.3]));
        assert!(table.contains("| `bare` | 25000 | 1 | 40.0 |"), "{table}");
        assert!(
            table.contains("short run") && table.contains("30% of one CPU") && table.contains("too much")
        );
    }
}
