//! Many requests of one customer, several at a time, and what came of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::task::JoinSet;

use super::ask::{Answer, Customer};

/// Under way at a time.
const CALLERS: usize = 4;

/// Requests that are being sent. Dropped, it sends no more.
pub(super) struct Load {
    count: usize,
    sent: Arc<AtomicUsize>,
    callers: JoinSet<Vec<Result<Answer>>>,
}

impl Load {
    /// Begins to send `count` chats with `model`.
    pub(super) fn begin(customer: &Arc<Customer>, model: &'static str, count: usize) -> Self {
        let sent = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (customer, sent) = (customer.clone(), sent.clone());
            callers.spawn(async move {
                let mut answers = Vec::new();
                while sent.fetch_add(1, Ordering::Relaxed) < count {
                    answers.push(customer.ask(model).await);
                }
                answers
            });
        }
        Self { count, sent, callers }
    }

    /// How many are sent already.
    pub(super) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed).min(self.count)
    }

    /// How many are still to be sent.
    pub(super) fn to_come(&self) -> usize {
        self.count - self.sent()
    }

    /// Waits for every answer.
    pub(super) async fn tally(self) -> Tally {
        Tally::of(self.callers.join_all().await.into_iter().flatten())
    }
}

/// Answers, counted by what the customer saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    served: BTreeMap<String, usize>,
    failed: BTreeMap<String, usize>,
}

impl Tally {
    /// Counts them.
    pub(super) fn of(answers: impl IntoIterator<Item = Result<Answer>>) -> Self {
        let mut tally = Self::default();
        for answer in answers {
            let (kind, what) = match answer {
                Ok(Answer::Served { route, server, .. }) => {
                    (&mut tally.served, format!("{server} ({route})"))
                }
                Ok(refused) => (&mut tally.failed, refused.to_string()),
                Err(error) => (&mut tally.failed, format!("{error:#}")),
            };
            *kind.entry(what).or_default() += 1;
        }
        tally
    }

    /// `40 answered, 0 failed`
    pub(super) fn outcome(&self) -> String {
        let sum = |counts: &BTreeMap<String, usize>| counts.values().sum::<usize>();
        format!("{} answered, {} failed", sum(&self.served), sum(&self.failed))
    }

    /// `31 by provider-a (primary), 9 by provider-b (primary)`, and what failed.
    pub(super) fn ways(&self) -> String {
        let served = self
            .served
            .iter()
            .map(|(what, count)| format!("{count} by {what}"));
        let failed = self
            .failed
            .iter()
            .map(|(what, count)| format!("{count} failed: {what}"));
        served.chain(failed).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn what_failed_is_counted_and_named() {
        let served = || {
            Ok(Answer::Served {
                model: "llama-70b".into(),
                route: "primary".into(),
                server: "provider-a".into(),
            })
        };
        let refused = Ok(Answer::Refused {
            status: 502,
            code: "upstream_error".into(),
            retry_after: None,
        });
        let tally = Tally::of([served(), refused, served(), Err(anyhow!("cut off"))]);
        assert_eq!(tally.outcome(), "2 answered, 2 failed");
        let ways = "2 by provider-a (primary), 1 failed: 502 upstream_error, 1 failed: cut off";
        assert_eq!(tally.ways(), ways);
    }
}
