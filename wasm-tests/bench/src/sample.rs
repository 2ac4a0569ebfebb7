//! What a row's turn gave, and the middle of many.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::load::Run;
use crate::rows::Row;

/// One turn of one row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Requests a second.
    pub(crate) rps: f64,
    /// CPU time of the Envoy process a request, in microseconds.
    pub(crate) cpu_us: f64,
    /// That of the server which it asked about each request, where it did.
    pub(crate) server_us: Option<f64>,
    /// Median latency, in microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile of latency, in microseconds.
    pub(crate) p99_us: f64,
    /// The part of the time that Envoy's CPU was in use by it.
    pub(crate) busy: f64,
}

impl Sample {
    /// From what the load saw and the CPU time that Envoy, and the server it asked, used meanwhile.
    pub(crate) fn of(run: &Run, used: Duration, server: Option<Duration>) -> Result<Self> {
        ensure!(
            run.latencies.len() >= 4,
            "only {} requests were answered",
            run.latencies.len()
        );
        let requests = run.latencies.len() as f64;
        let mut latencies: Vec<f64> = run.latencies.iter().map(|latency| micros(*latency)).collect();
        latencies.sort_by(f64::total_cmp);
        Ok(Self {
            rps: requests / run.elapsed.as_secs_f64(),
            cpu_us: micros(used) / requests,
            server_us: server.map(|server| micros(server) / requests),
            p50_us: quantile(&latencies, 0.5),
            p99_us: quantile(&latencies, 0.99),
            busy: used.as_secs_f64() / run.elapsed.as_secs_f64(),
        })
    }
}

/// All turns of one row.
pub(crate) struct Sampled {
    /// Its name.
    pub(crate) name: String,
    /// What it does.
    pub(crate) title: String,
    /// One for each round; those of one round stand at the same place in every row.
    pub(crate) samples: Vec<Sample>,
    /// Resident memory at the end of each generation, in kilobytes.
    pub(crate) rss_kb: Vec<u64>,
    /// The most resident memory in each generation, in kilobytes.
    pub(crate) peak_rss_kb: Vec<u64>,
}

impl Sampled {
    /// No turn yet.
    pub(crate) fn new(row: &Row) -> Self {
        Self {
            name: row.name.to_owned(),
            title: row.title.to_owned(),
            samples: Vec::new(),
            rss_kb: Vec::new(),
            peak_rss_kb: Vec::new(),
        }
    }
}

/// The middle of many values, and the range that half of them lie in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Middle {
    /// Half of the values are below.
    pub(crate) median: f64,
    /// A quarter is below.
    pub(crate) low: f64,
    /// A quarter is above.
    pub(crate) high: f64,
}

impl Middle {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |part| quantile(&values, part);
        Self {
            median: at(0.5),
            low: at(0.25),
            high: at(0.75),
        }
    }
}

/// The value below which `part` of the sorted values lie, between two of them if need be; NaN of none.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len().saturating_sub(1)) as f64;
    let value = |at: f64| sorted.get(at as usize).copied().unwrap_or(f64::NAN);
    value(place.floor()) + (value(place.ceil()) - value(place.floor())) * place.fract()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_many() {
        let middle = Middle::of([5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(
            middle,
            Middle {
                median: 3.0,
                low: 2.0,
                high: 4.0
            }
        );
        assert_eq!(Middle::of([1.0, 2.0]).median, 1.5);
        assert_eq!(Middle::of([7.0]).high, 7.0);
    }

    #[test]
    fn a_sample_is_counted_by_request() {
        let run = Run {
            elapsed: Duration::from_secs(2),
            latencies: vec![Duration::from_micros(300); 1000],
        };
        let sample = Sample::of(&run, Duration::from_millis(50), Some(Duration::from_millis(20))).unwrap();
        assert_eq!(sample.server_us, Some(20.0));
        assert_eq!((sample.rps, sample.cpu_us, sample.busy), (500.0, 50.0, 0.025));
        assert!((sample.p99_us - 300.0).abs() < 1e-6);
    }
}
