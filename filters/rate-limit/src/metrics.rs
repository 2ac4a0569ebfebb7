//! What is counted. Organizations, models and limits are the operator's names, and beyond [`MAX_SERIES`] pairs of
//! them all others count as one, so the number of metrics is bounded. They reach Envoy with every tick.

use std::collections::HashMap;

use tollgate_core::limiter::Finished;
use tollgate_core::limits::{Refusal, Table};
use tollgate_core::usage::record::Outcome;
use tollgate_host::{BatchedCounter, BatchedGauge, BatchedHistogram, Counter, Family, Result};

/// All of them.
pub static FAMILIES: &[Family] = &[
    LIMITED,
    WOULD_LIMIT,
    FULL,
    UNAVAILABLE,
    BUDGETS,
    DISTRUSTED,
    FIRST_BYTE,
    GATEWAY,
    IN_FLIGHT,
    REQUESTS,
    TOKENS,
    TOKEN_PARTS,
    COST,
];
const LIMITED: Family = Family::counters(Refusal::Limit(0).metric(), &["limit"]);
const WOULD_LIMIT: Family = Family::counters("tollgate_limit_shadow_refusals", &["limit"]);
const FULL: Family = Family::counters(Refusal::Capacity.metric(), &[]);
const UNAVAILABLE: Family = Family::counters(Refusal::Unavailable.metric(), &[]);
const BUDGETS: Family = Family::counters(Refusal::Budget.metric(), &[]);
const DISTRUSTED: Family = Family::counters("tollgate_usage_distrusted", &[]);
const FIRST_BYTE: Family = Family::histogram("tollgate_first_byte_ms");
const GATEWAY: Family = Family::histogram("tollgate_gateway_us");
const IN_FLIGHT: Family = Family::gauge("tollgate_requests_in_flight");
const REQUESTS: Family = Family::counters("tollgate_requests", &["outcome", "org", "model"]);
const TOKENS: Family = Family::counters("tollgate_tokens", &["kind", "org", "model"]);
/// Parts of the tokens stand apart, so that no sum counts them twice.
const TOKEN_PARTS: Family = Family::counters("tollgate_token_parts", &["kind", "org", "model"]);
const COST: Family = Family::counters("tollgate_cost_micros", &["org", "model"]);

/// Pairs of organization and model that have metrics of their own.
const MAX_SERIES: usize = 1_000;
/// Stands for all others.
const OTHER: &str = "_other";
/// How many numbers tell what a request used.
const USED: usize = 5;

pub(crate) struct Metrics {
    limits: Vec<Limit>,
    capacity: Counter,
    store: Counter,
    budgets: Counter,
    distrusted: Counter,
    first_byte: BatchedHistogram,
    gateway: BatchedHistogram,
    in_flight: BatchedGauge,
    series: Vec<Series>,
    /// The place in `series`, by organization, then by model.
    places: HashMap<String, HashMap<String, usize>>,
}

/// Of one limit.
struct Limit {
    refused: Counter,
    would_refuse: Counter,
}

/// Of one organization and model.
struct Series {
    outcomes: [BatchedCounter; Outcome::ALL.len()],
    /// Tokens in, out, cached and of reasoning, and the cost.
    used: [BatchedCounter; USED],
}

impl Metrics {
    pub(crate) fn define(limits: &Table) -> Result<Self> {
        let limit = |name: &str| {
            Ok(Limit {
                refused: Counter::define(&LIMITED, &[name])?,
                would_refuse: Counter::define(&WOULD_LIMIT, &[name])?,
            })
        };
        Ok(Self {
            limits: limits
                .rows()
                .iter()
                .map(|row| limit(&row.name))
                .collect::<Result<_>>()?,
            capacity: Counter::define(&FULL, &[])?,
            store: Counter::define(&UNAVAILABLE, &[])?,
            budgets: Counter::define(&BUDGETS, &[])?,
            distrusted: Counter::define(&DISTRUSTED, &[])?,
            first_byte: BatchedHistogram::define(&FIRST_BYTE)?,
            gateway: BatchedHistogram::define(&GATEWAY)?,
            in_flight: BatchedGauge::define(&IN_FLIGHT)?,
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
            Refusal::Budget => self.budgets.increment(),
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
        self.in_flight.add(1);
        self.gateway.record(gateway_nanos / 1_000);
    }

    /// A request that began has ended.
    pub(crate) fn finished(&mut self, request: &Finished) {
        self.in_flight.add(-1);
        if request.used.distrusted {
            self.distrusted.increment();
        }
        if let Some(millis) = request.first_byte_ms {
            self.first_byte.record(millis);
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
        self.in_flight.flush();
        self.first_byte.flush();
        self.gateway.flush();
        for series in &mut self.series {
            series
                .outcomes
                .iter_mut()
                .chain(&mut series.used)
                .for_each(BatchedCounter::flush);
        }
    }
}

impl Series {
    fn define(org: &str, model: &str) -> Result<Self> {
        let [complete, aborted, errored, no_answer, failed, limited, refused] =
            Outcome::ALL.map(|outcome| BatchedCounter::define(&REQUESTS, &[outcome.name(), org, model]));
        let tokens = |family, kind| BatchedCounter::define(family, &[kind, org, model]);
        Ok(Self {
            outcomes: [
                complete?, aborted?, errored?, no_answer?, failed?, limited?, refused?,
            ],
            used: [
                tokens(&TOKENS, "input")?,
                tokens(&TOKENS, "output")?,
                tokens(&TOKEN_PARTS, "cached")?,
                tokens(&TOKEN_PARTS, "reasoning")?,
                BatchedCounter::define(&COST, &[org, model])?,
            ],
        })
    }
}
