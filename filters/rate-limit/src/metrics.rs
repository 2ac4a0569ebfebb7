//! What is counted. Organizations, models and limits are the operator's names, and beyond [`MAX_SERIES`] pairs of
//! them all others count as one, so the number of metrics is bounded. They reach Envoy with every tick.

use std::collections::HashMap;

use tollgate_core::limiter::Finished;
use tollgate_core::limits::{Refusal, Table};
use tollgate_core::usage::record::Outcome;
use tollgate_host::{Counter, Gauge, Histogram, Result};

/// Pairs of organization and model that have metrics of their own.
const MAX_SERIES: usize = 1_000;
/// Stands for all others.
const OTHER: &str = "_other";
/// What a request used; parts of the tokens stand apart, so that no sum counts them twice.
const USED: [&str; 5] = [
    "tokens.kind.input",
    "tokens.kind.output",
    "token_parts.kind.cached",
    "token_parts.kind.reasoning",
    "cost_micros",
];

pub(crate) struct Metrics {
    limits: Vec<Limit>,
    capacity: Counter,
    store: Counter,
    distrusted: Counter,
    first_byte: Spread,
    gateway: Spread,
    in_flight_gauge: Gauge,
    /// Requests that began less those that ended, since the last tick.
    in_flight: i64,
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
    /// By the order of [`USED`].
    used: [Pending; USED.len()],
}

/// Numbers whose spread is of interest, since the last tick. Handing each over at once would cost every request a
/// crossing more.
struct Spread {
    histogram: Histogram,
    noted: Vec<u64>,
}

impl Spread {
    /// Beyond so many between two ticks the spread is known well enough.
    const MAX: usize = 10_000;

    fn define(name: &str) -> Result<Self> {
        Ok(Self {
            histogram: Histogram::define(name)?,
            noted: Vec::new(),
        })
    }

    fn note(&mut self, number: u64) {
        if self.noted.len() < Self::MAX {
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
                refused: Counter::define(&format!("{}.limit.{name}", Refusal::Limit(0).metric()))?,
                would_refuse: Counter::define(&format!("tollgate_limit_shadow_refusals.limit.{name}"))?,
            })
        };
        Ok(Self {
            limits: limits
                .rows()
                .iter()
                .map(|row| limit(&row.name))
                .collect::<Result<_>>()?,
            capacity: Counter::define(Refusal::Capacity.metric())?,
            store: Counter::define(Refusal::Unavailable.metric())?,
            distrusted: Counter::define("tollgate_usage_distrusted")?,
            first_byte: Spread::define("tollgate_first_byte_ms")?,
            gateway: Spread::define("tollgate_gateway_us")?,
            in_flight_gauge: Gauge::define("tollgate_requests_in_flight")?,
            in_flight: 0,
            series: Vec::new(),
            places: HashMap::new(),
        })
    }

    /// A request is refused.
    pub(crate) fn refused(&self, refusal: Refusal) {
        match refusal {
            Refusal::Limit(row) => {
                if let Some(limit) = self.limits.get(row) {
                    limit.refused.increment();
                }
            }
            Refusal::Capacity => self.capacity.increment(),
            Refusal::Unavailable => self.store.increment(),
        }
    }

    /// Limits in shadow mode would have refused it.
    pub(crate) fn would_refuse(&self, rows: &[usize]) {
        for limit in rows.iter().filter_map(|row| self.limits.get(*row)) {
            limit.would_refuse.increment();
        }
    }

    /// A request passes, so many nanoseconds after all of it was there.
    pub(crate) fn began(&mut self, gateway_nanos: u64) {
        self.in_flight += 1;
        self.gateway.note(gateway_nanos / 1_000);
    }

    /// A request that began has ended.
    pub(crate) fn finished(&mut self, request: &Finished) {
        self.in_flight -= 1;
        if request.used.distrusted {
            self.distrusted.increment();
        }
        if let Some(millis) = request.first_byte_ms {
            self.first_byte.note(millis);
        }
        self.ended(request);
    }

    /// A request has ended, whether it began or was refused.
    pub(crate) fn ended(&mut self, request: &Finished) {
        let used = &request.used;
        let Some(series) = self.series(&request.who.org, &request.model) else {
            return;
        };
        let at = Outcome::ALL.iter().position(|one| *one == request.outcome);
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
            None if self.series.len() < MAX_SERIES => self.begin(org, model)?,
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
        self.in_flight_gauge.add(core::mem::take(&mut self.in_flight));
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
        let name = |what: &str| format!("tollgate_{what}.org.{org}.model.{model}");
        let [complete, aborted, errored, no_answer, failed, limited, refused] = Outcome::ALL
            .map(|outcome| Pending::define(&name(&format!("requests.outcome.{}", outcome.name()))));
        let [input, output, cached, reasoning, cost] = USED.map(|what| Pending::define(&name(what)));
        Ok(Self {
            outcomes: [
                complete?, aborted?, errored?, no_answer?, failed?, limited?, refused?,
            ],
            used: [input?, output?, cached?, reasoning?, cost?],
        })
    }
}
