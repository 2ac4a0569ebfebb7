//! Counters, gauges and histograms by name: one set for the process, ids for each VM.

use std::collections::BTreeMap;

use crate::status::Status;

/// Which of the three a metric is; the ABI's numbers, and the low bits of a metric's id as in Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Counter = 0,
    Gauge = 1,
    Histogram = 2,
}

impl Kind {
    pub(crate) fn of(number: u32) -> Option<Self> {
        [Self::Counter, Self::Gauge, Self::Histogram]
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }
}

/// The process's metrics. A counter or gauge is its last value; a histogram is all values it was given.
#[derive(Default)]
pub(crate) struct Metrics {
    values: BTreeMap<(Kind, String), Vec<u64>>,
}

/// Where one VM keeps a metric's place; the id a module holds is `4 * position + kind`.
#[derive(Default)]
pub(crate) struct Ids(Vec<(Kind, String)>);

impl Ids {
    pub(crate) fn define(&mut self, kind: Kind, name: &str) -> u32 {
        self.0.push((kind, name.to_owned()));
        u32::try_from(self.0.len() * 4).expect("few metrics") | kind as u32
    }

    pub(crate) fn find(&self, id: u32) -> Result<&(Kind, String), Status> {
        (id as usize / 4)
            .checked_sub(1)
            .and_then(|at| self.0.get(at))
            .ok_or(Status::NotFound)
    }
}

impl Metrics {
    pub(crate) fn define(&mut self, kind: Kind, name: &str) {
        self.values.entry((kind, name.to_owned())).or_default();
    }

    /// A counter takes only what is above 0; a gauge stops at 0, where Envoy's would wrap.
    pub(crate) fn increment(&mut self, metric: &(Kind, String), by: i64) -> Result<(), Status> {
        match metric.0 {
            Kind::Counter if by <= 0 => Err(Status::BadArgument),
            Kind::Histogram => Err(Status::BadArgument),
            Kind::Counter | Kind::Gauge => {
                let value = self.last(metric).saturating_add_signed(by);
                self.values.insert(metric.clone(), vec![value]);
                Ok(())
            }
        }
    }

    pub(crate) fn record(&mut self, metric: &(Kind, String), value: u64) {
        let new = match metric.0 {
            Kind::Counter => vec![self.last(metric) + value],
            Kind::Gauge => vec![value],
            Kind::Histogram => [self.values.get(metric).cloned().unwrap_or_default(), vec![value]].concat(),
        };
        self.values.insert(metric.clone(), new);
    }

    pub(crate) fn value(&self, metric: &(Kind, String)) -> Result<u64, Status> {
        if metric.0 == Kind::Histogram {
            Err(Status::BadArgument)
        } else {
            Ok(self.last(metric))
        }
    }

    pub(crate) fn named(&self, kind: Kind, name: &str) -> Option<&[u64]> {
        self.values.get(&(kind, name.to_owned())).map(Vec::as_slice)
    }

    pub(crate) fn all(&self, kind: Kind) -> BTreeMap<String, u64> {
        let of_kind = self.values.iter().filter(|((have, _), _)| *have == kind);
        of_kind
            .map(|((_, name), values)| (name.clone(), values.last().copied().unwrap_or(0)))
            .collect()
    }

    fn last(&self, metric: &(Kind, String)) -> u64 {
        self.values
            .get(metric)
            .and_then(|values| values.last())
            .copied()
            .unwrap_or(0)
    }
}
