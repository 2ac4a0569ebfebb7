//! What is counted. Organizations, models and limits are the operator's names, and beyond [`MOST_SERIES`] pairs of
//! them all others count as one, so the number of metrics is bounded. They reach Envoy with every tick.

use std::collections::HashMap;

use tollgate_core::limits::Table;
use tollgate_core::usage::record::{Outcome, Used};
use tollgate_host::{Counter, Gauge, Histogram, Result};

/// Pairs of organization and model that have metrics of their own.
const MOST_SERIES: usize = 1_000;
/// Stands for all others.
const OTHER: &str = "_other";
const KINDS: [&str; 5] = ["input", "output", "cached", "reasoning", "cost_micros"];

pub(crate) struct Metrics {
    limits: Vec<Limit>,
    slowed_down: Counter,
    distrusted: Counter,
    first_byte: Spread,
    gateway: Spread,
    under_way: Gauge,
    /// Requests that began less those that ended, since the last tick.
    balance: i64,
    series: Vec<Series>,
    /// The place in `series`, by organization, then by model.
    places: HashMap<String, HashMap<String, usize>>,
}

/// Of one limit.
struct Limit {
    refused: Counter,
    would_refuse: Counter,
}

/// Of one organization and model, since the last tick.
struct Series {
    outcomes: [Pending; Outcome::ALL.len()],
    used: [Pending; KINDS.len()],
}

/// Numbers whose spread is of interest, since the last tick. Handing each over at once would cost every request a
/// crossing more.
struct Spread {
    histogram: Histogram,
    noted: Vec<u64>,
}

impl Spread {
    /// Beyond so many between two ticks the spread is known well enough.
    const MOST: usize = 10_000;

    fn define(name: &str) -> Result<Self> {
        Ok(Self {
            histogram: Histogram::define(name)?,
            noted: Vec::new(),
        })
    }

    fn note(&mut self, number: u64) {
        if self.noted.len() < Self::MOST {
            self.noted.push(number);
        }
    }

    fn flush(&mut self) {
        self.noted
            .drain(..)
            .for_each(|number| self.histogram.record(number));
    }
}

struct Pending {
    counter: Counter,
    count: u64,
}

impl Pending {
    fn define(name: &str) -> Result<Self> {
        Ok(Self {
            counter: Counter::define(name)?,
            count: 0,
        })
    }

    fn add(&mut self, count: u64) {
        self.count = self.count.saturating_add(count);
    }

    fn flush(&mut self) {
        if self.count > 0 {
            self.counter.add(core::mem::take(&mut self.count));
        }
    }
}

impl Metrics {
    pub(crate) fn define(limits: &Table) -> Result<Self> {
        let limit = |name: &str| {
            Ok(Limit {
                refused: Counter::define(&format!("tollgate_limit_refusals.limit.{name}"))?,
                would_refuse: Counter::define(&format!("tollgate_limit_shadow_refusals.limit.{name}"))?,
            })
        };
        Ok(Self {
            limits: limits
                .rows()
                .iter()
                .map(|row| limit(&row.name))
                .collect::<Result<_>>()?,
            slowed_down: Counter::define("tollgate_capacity_refusals")?,
            distrusted: Counter::define("tollgate_usage_distrusted")?,
            first_byte: Spread::define("tollgate_first_byte_ms")?,
            gateway: Spread::define("tollgate_gateway_us")?,
            under_way: Gauge::define("tollgate_requests_under_way")?,
            balance: 0,
            series: Vec::new(),
            places: HashMap::new(),
        })
    }

    pub(crate) fn limited(&self, row: usize) {
        if let Some(limit) = self.limits.get(row) {
            limit.refused.increment();
        }
    }

    pub(crate) fn would_limit(&self, row: usize) {
        if let Some(limit) = self.limits.get(row) {
            limit.would_refuse.increment();
        }
    }

    pub(crate) fn slowed_down(&self) {
        self.slowed_down.increment();
    }

    /// A request passes, so many nanoseconds after all of it was there.
    pub(crate) fn began(&mut self, gateway_nanos: u64) {
        self.balance += 1;
        self.gateway.note(gateway_nanos / 1_000);
    }

    /// A request that began has ended.
    pub(crate) fn ended_open(
        &mut self,
        org: &str,
        model: &str,
        outcome: Outcome,
        used: &Used,
        first_byte_ms: Option<u64>,
    ) {
        self.balance -= 1;
        if used.distrusted {
            self.distrusted.increment();
        }
        if let Some(millis) = first_byte_ms {
            self.first_byte.note(millis);
        }
        self.ended(org, model, outcome, used);
    }

    pub(crate) fn ended(&mut self, org: &str, model: &str, outcome: Outcome, used: &Used) {
        let Some(series) = self.series(org, model) else {
            return;
        };
        let at = Outcome::ALL.iter().position(|one| *one == outcome);
        if let Some(pending) = at.and_then(|at| series.outcomes.get_mut(at)) {
            pending.add(1);
        }
        let amounts = [
            used.input_tokens,
            used.output_tokens,
            used.cached_tokens,
            used.reasoning_tokens,
            used.cost_micros.unwrap_or(0),
        ];
        for (pending, amount) in series.used.iter_mut().zip(amounts) {
            pending.add(amount);
        }
    }

    fn series(&mut self, org: &str, model: &str) -> Option<&mut Series> {
        let at = match self.place(org, model) {
            Some(at) => at,
            None if self.series.len() < MOST_SERIES => self.begin(org, model)?,
            None => match self.place(OTHER, OTHER) {
                Some(at) => at,
                None => self.begin(OTHER, OTHER)?,
            },
        };
        self.series.get_mut(at)
    }

    fn place(&self, org: &str, model: &str) -> Option<usize> {
        self.places.get(org)?.get(model).copied()
    }

    fn begin(&mut self, org: &str, model: &str) -> Option<usize> {
        let at = self.series.len();
        self.series.push(Series::define(org, model).ok()?);
        let models = self.places.entry(org.to_owned()).or_default();
        models.insert(model.to_owned(), at);
        Some(at)
    }

    /// Hands what was counted to Envoy.
    pub(crate) fn tick(&mut self) {
        self.under_way.add(core::mem::take(&mut self.balance));
        self.first_byte.flush();
        self.gateway.flush();
        for series in &mut self.series {
            series
                .outcomes
                .iter_mut()
                .chain(&mut series.used)
                .for_each(Pending::flush);
        }
    }
}

impl Series {
    fn define(org: &str, model: &str) -> Result<Self> {
        let name = |what: &str, kind: &str| format!("tollgate_{what}.{kind}.org.{org}.model.{model}");
        let [complete, aborted, errored, no_answer, failed, limited, refused] = Outcome::ALL
            .map(|outcome| Pending::define(&name("requests", &format!("outcome.{}", outcome.name()))));
        let [input, output, cached, reasoning, cost] =
            KINDS.map(|kind| Pending::define(&name("usage", &format!("kind.{kind}"))));
        Ok(Self {
            outcomes: [
                complete?, aborted?, errored?, no_answer?, failed?, limited?, refused?,
            ],
            used: [input?, output?, cached?, reasoning?, cost?],
        })
    }
}
