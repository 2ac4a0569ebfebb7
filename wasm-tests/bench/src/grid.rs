//! A small table: a line for each row, a column for each kind of request, added CPU time in each field.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::model::EVENTS;
use crate::report::{Figures, Setting, push};
use crate::rows::BARE;

/// One such table.
pub(crate) struct Grid {
    /// Of its markers in `docs/performance.md`, and of its summary.
    pub(crate) name: &'static str,
    /// What a field is the cost of.
    unit: &'static str,
    /// How many of those a request has.
    units: usize,
}

/// Cost of a request by the size of its body.
pub(crate) const BY_SIZE: Grid = Grid {
    name: "bench-sizes",
    unit: "a request",
    units: 1,
};

/// Cost of a request by the number of Envoy's workers.
pub(crate) const BY_WORKERS: Grid = Grid {
    name: "bench-workers",
    unit: "a request",
    units: 1,
};

/// Cost of an event by how events come.
pub(crate) const BY_EVENT: Grid = Grid {
    name: "bench-streams",
    unit: "an event",
    units: EVENTS,
};

impl Grid {
    /// The table in Markdown; every column has the same rows.
    pub(crate) fn table(&self, columns: &[(&str, Vec<Figures>)], setting: &Setting) -> String {
        let mut table = format!("| CPU µs {} |", self.unit);
        for (name, _) in columns {
            push(&mut table, format_args!(" {name} |"));
        }
        push(
            &mut table,
            format_args!("\n|---|{}\n", "---:|".repeat(columns.len())),
        );
        for (at, first) in columns.first().into_iter().flat_map(|(_, rows)| rows).enumerate() {
            let figures: Vec<&Figures> = columns.iter().filter_map(|(_, rows)| rows.get(at)).collect();
            self.line(&mut table, &first.name, &figures);
        }
        push(
            &mut table,
            format_args!(
                "\n`{BARE}` is what Envoy alone takes; the others what they add to it, and in brackets the range that \
                 the middle half of the rounds lies in.\n{}",
                setting.words()
            ),
        );
        table
    }

    fn line(&self, table: &mut String, name: &str, figures: &[&Figures]) {
        push(table, format_args!("| `{name}` |"));
        for row in figures {
            let field = if name == BARE {
                self.amount(row.cpu_us)
            } else {
                let [low, high] = row.added_cpu_us_spread.map(|value| self.amount(value));
                format!("{} [{low} – {high}]", self.amount(row.added_cpu_us))
            };
            push(table, format_args!(" {field} |"));
        }
        table.push('\n');
        if figures.iter().all(|row| row.server_cpu_us.is_some()) {
            push(table, format_args!("| and its server |"));
            for row in figures {
                let server = self.amount(row.server_cpu_us.unwrap_or_default());
                push(table, format_args!(" {server} |"));
            }
            table.push('\n');
        }
    }

    fn amount(&self, micros: f64) -> String {
        let amount = micros / self.units as f64;
        let digits = if amount.abs() < 100.0 { 1 } else { 0 };
        format!("{amount:.digits$}")
    }
}

/// The figures as JSON: rows by column.
pub(crate) fn summary(columns: &[(&str, Vec<Figures>)]) -> Result<String> {
    let columns: BTreeMap<_, _> = columns.iter().map(|(name, rows)| (name, rows)).collect();
    Ok(serde_json::to_string_pretty(&columns)? + "\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::Run;
    use crate::measure::Plan;
    use crate::report::results;
    use crate::sample::{Sample, Sampled};

    /// Two rounds of four requests, each of which took `cpu` of Envoy, and `server` of the server behind it.
    fn row(name: &str, cpu: u64, server: Option<u64>) -> Sampled {
        let run = Run {
            elapsed: Duration::from_secs(1),
            latencies: vec![Duration::from_millis(1); 4],
        };
        let of = |micros| Duration::from_micros(4 * micros);
        let sample = Sample::of(&run, of(cpu), server.map(of)).unwrap();
        Sampled {
            name: name.to_owned(),
            title: String::new(),
            samples: vec![sample; 2],
            rss_kb: vec![1],
            peak_rss_kb: vec![1],
        }
    }

    #[test]
    fn a_line_has_what_is_added_in_each_column_and_the_server_its_own() {
        let column = |base| results(&[row(BARE, base, None), row("x", base + 20, Some(7))]).unwrap();
        let columns = [("small", column(50)), ("large", column(500))];
        let table = BY_SIZE.table(&columns, &Setting::of(&Plan::QUICK, &[0.0]));
        let lines: Vec<&str> = table.lines().take(5).collect();
        assert_eq!(
            lines,
            [
                "| CPU µs a request | small | large |",
                "|---|---:|---:|",
                "| `bare` | 50.0 | 500 |",
                "| `x` | 20.0 [20.0 – 20.0] | 20.0 [20.0 – 20.0] |",
                "| and its server | 7.0 | 7.0 |",
            ]
        );
    }

    #[test]
    fn an_event_costs_its_part_of_a_request() {
        let events = EVENTS as u64;
        let column = results(&[row(BARE, 3 * events, None), row("x", 5 * events, None)]).unwrap();
        let table = BY_EVENT.table(&[("one by one", column)], &Setting::of(&Plan::QUICK, &[0.0]));
        assert!(
            table.contains("| `bare` | 3.0 |\n| `x` | 2.0 [2.0 – 2.0] |\n\n"),
            "{table}"
        );
    }
}
