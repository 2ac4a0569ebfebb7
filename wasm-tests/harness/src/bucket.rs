//! What passed, held against what one token bucket allows.

use std::fmt;
use std::time::{Duration, Instant};

/// A request that passed.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// When it was sent.
    pub sent: Instant,
    /// When its answer had come.
    pub answered: Instant,
}

/// A limit on requests.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// In a second.
    pub rate: f64,
    /// At once.
    pub burst: f64,
}

/// More than a limit allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    /// So many passed,
    pub count: usize,
    /// in this span of time.
    pub span: Duration,
}

impl Bucket {
    /// How many may pass in this time at most.
    pub fn most(&self, span: Duration) -> f64 {
        self.rate.mul_add(span.as_secs_f64(), self.burst)
    }

    /// Looks at each span of time from when a request was sent to when an answer came. Each request that was sent after its
    /// beginning and answered before its end was let pass within it.
    ///
    /// # Errors
    /// More passed in one of them than may.
    pub fn holds(&self, passed: &[Passed]) -> Result<(), Excess> {
        for Passed { sent: begin, .. } in passed {
            let within = passed.iter().filter(|one| one.sent >= *begin);
            let mut ends: Vec<Instant> = within.map(|one| one.answered).collect();
            ends.sort_unstable();
            for (before, end) in ends.into_iter().enumerate() {
                let (count, span) = (before + 1, end - *begin);
                if count as f64 > self.most(span) {
                    return Err(Excess { count, span });
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:.3} s", self.count, self.span.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUCKET: Bucket = Bucket {
        rate: 10.0,
        burst: 2.0,
    };

    /// Requests that were sent at these milliseconds, and answered one later.
    fn passed(begin: Instant, sent: &[u64]) -> Vec<Passed> {
        let one = |at: &u64| {
            let sent = begin + Duration::from_millis(*at);
            let answered = sent + Duration::from_millis(1);
            Passed { sent, answered }
        };
        sent.iter().map(one).collect()
    }

    #[test]
    fn a_burst_and_then_the_rate_are_within_it() {
        let passed = passed(Instant::now(), &[0, 0, 100, 200, 300, 700, 700]);
        assert_eq!(BUCKET.holds(&passed), Ok(()));
    }

    #[test]
    fn one_too_many_in_any_span_is_found() {
        let begin = Instant::now();
        // In their order or not, at the beginning or later.
        for sent in [
            &[0, 0, 0][..],
            &[0, 5_000, 5_000, 5_100, 5_100],
            &[5_099, 0, 5_000, 5_000, 5_097],
        ] {
            let excess = BUCKET.holds(&passed(begin, sent)).unwrap_err();
            assert!(excess.count as f64 > BUCKET.most(excess.span), "{excess}");
        }
        let excess = BUCKET.holds(&passed(begin, &[0, 0, 0])).unwrap_err();
        assert_eq!(excess.to_string(), "3 in 0.001 s");
    }
}
