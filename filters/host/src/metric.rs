//! What is counted, and by what labels.

/// A metric, or one for each set of its labels' values.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What its labels are called.
    pub labels: &'static [&'static str],
    pub(crate) kind: Kind,
}

/// What a metric does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It grows.
    Counter,
    /// It is set, or moved.
    Gauge,
    /// It notes numbers whose spread is of interest.
    Histogram,
}

impl Family {
    /// Of counters.
    #[must_use]
    pub const fn counters(name: &'static str, labels: &'static [&'static str]) -> Self {
        let kind = Kind::Counter;
        Self { name, labels, kind }
    }

    /// Of one gauge.
    #[must_use]
    pub const fn gauge(name: &'static str) -> Self {
        let (labels, kind): (&[_], _) = (&[], Kind::Gauge);
        Self { name, labels, kind }
    }

    /// Of one histogram.
    #[must_use]
    pub const fn histogram(name: &'static str) -> Self {
        let (labels, kind): (&[_], _) = (&[], Kind::Histogram);
        Self { name, labels, kind }
    }
}
