//! Organizations that ask one model for more than it can do, and what each gets.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tokio::task::JoinSet;

use super::ask::{Answer, Customer};
use tollgate_harness::net;
use tollgate_models::FAULT_HEADER;

const MODEL: &str = "llama-8b";
/// How long an answer takes: so long that a busy machine still fills the model.
const SERVICE: &str = "first-byte=400ms";
/// Answers until the shares have settled: each of the model's 70 places was given away five times.
const WARM_UP: usize = 350;
/// Answers of which the shares are taken.
const MEASURED: usize = 600;
/// From one request of the quiet one to its next.
const NOW_AND_THEN: Duration = Duration::from_millis(300);

/// Clients that ask on and on. Dropped, they stop.
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    orgs: Vec<Flooder>,
    clients: JoinSet<Result<()>>,
    quiet: Arc<Counts>,
}

struct Flooder {
    name: String,
    weight: usize,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    served: AtomicUsize,
    refused: AtomicUsize,
}

impl Flood {
    /// Begins it with so many clients of each organization, by its weight; and with one client of `quiet`.
    pub(super) fn begin(quiet: &Arc<Customer>, orgs: &[(&Arc<Customer>, usize, usize)]) -> Self {
        let mut flood = Self {
            stop: Arc::default(),
            orgs: Vec::new(),
            clients: JoinSet::new(),
            quiet: Arc::default(),
        };
        for (customer, weight, clients) in orgs {
            let counts = Arc::<Counts>::default();
            for number in 0..*clients {
                // Sooner than they are told, and not all at the same time.
                let pause = Duration::from_millis(400 + number as u64 % 10 * 40);
                flood.client(customer, &counts, Duration::ZERO, pause);
            }
            flood.orgs.push(Flooder {
                name: customer.org.name.clone(),
                weight: *weight,
                counts,
            });
        }
        flood.client(quiet, &flood.quiet.clone(), NOW_AND_THEN, NOW_AND_THEN);
        flood
    }

    /// One client, with its pauses after an answer and after a refusal.
    fn client(
        &mut self,
        customer: &Arc<Customer>,
        counts: &Arc<Counts>,
        served: Duration,
        refused: Duration,
    ) {
        let (customer, counts, stop) = (Arc::clone(customer), counts.clone(), self.stop.clone());
        self.clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let pause = match ask(&customer).await? {
                    Answer::Served { .. } => {
                        counts.served.fetch_add(1, Ordering::Relaxed);
                        served
                    }
                    Answer::Refused { code, .. } if code == "slow_down" => {
                        counts.refused.fetch_add(1, Ordering::Relaxed);
                        refused
                    }
                    other => bail!("{}: {other}", customer.org.name),
                };
                tokio::time::sleep(pause).await;
            }
            Ok(())
        });
    }

    /// What each organization gets of the model, once every one of them is refused at times.
    ///
    /// # Errors
    /// The model is not flooded within `patience`.
    pub(super) async fn watch(&self, patience: Duration) -> Result<Shares> {
        let flooded = net::within(patience, async || {
            let refused = |org: &Flooder| org.counts.refused.load(Ordering::Relaxed) > 0;
            let ready = self.orgs.iter().all(refused) && self.served().iter().sum::<usize>() >= WARM_UP;
            ready.then(|| self.served())
        });
        let before = flooded.await.context("the model is not flooded")?;
        let measured = net::within(patience, async || {
            let now = self.served();
            let since: Vec<usize> = now.iter().zip(&before).map(|(now, then)| now - then).collect();
            (since.iter().sum::<usize>() >= MEASURED).then_some(since)
        });
        let served = measured.await.context("the model answers too slowly")?;
        let org = |(org, served): (&Flooder, usize)| (org.name.clone(), org.weight, served);
        Ok(Shares(self.orgs.iter().zip(served).map(org).collect()))
    }

    fn served(&self) -> Vec<usize> {
        let of = |org: &Flooder| org.counts.served.load(Ordering::Relaxed);
        self.orgs.iter().map(of).collect()
    }

    /// Ends it: how often the quiet one asked, and how often it was refused.
    ///
    /// # Errors
    /// There was an answer that is neither served nor `slow_down`, or none.
    pub(super) async fn end(self) -> Result<(usize, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.join_all().await {
            client?;
        }
        let refused = self.quiet.refused.load(Ordering::Relaxed);
        Ok((self.quiet.served.load(Ordering::Relaxed) + refused, refused))
    }
}

async fn ask(customer: &Customer) -> Result<Answer> {
    let body =
        json!({"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": "Say hello"}]});
    let reply = customer
        .chat(body)
        .header(FAULT_HEADER, SERVICE)
        .try_send()
        .await?;
    Ok(Answer::read(&reply))
}

/// Organizations, their weights, and how many answers each got.
pub(super) struct Shares(Vec<(String, usize, usize)>);

impl Shares {
    /// `shares as weighted`, or who got a fifth more or less than its own.
    pub(super) fn verdict(&self) -> String {
        let weights: usize = self.0.iter().map(|(_, weight, _)| weight).sum();
        let unfair = self.0.iter().filter_map(|(name, weight, served)| {
            let due = (self.answers() * weight) as f64 / weights as f64;
            let part = *served as f64 / due;
            (!(0.8..=1.2).contains(&part)).then(|| format!("{name} got {:.0} % of its share", part * 100.0))
        });
        let unfair: Vec<String> = unfair.collect();
        if unfair.is_empty() {
            "shares as weighted".to_owned()
        } else {
            unfair.join(", ")
        }
    }

    fn answers(&self) -> usize {
        self.0.iter().map(|(_, _, served)| served).sum()
    }
}

impl fmt::Display for Shares {
    /// `umbrella 86 (14 %), acme 172 (29 %), globex 344 (57 %)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.answers().max(1) as f64;
        for (at, (name, _, served)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(
                f,
                "{comma}{name} {served} ({:.0} %)",
                *served as f64 / all * 100.0
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(served: [usize; 3]) -> Shares {
        let orgs = [("one", 1), ("two", 2), ("four", 4)].into_iter().zip(served);
        Shares(
            orgs.map(|((name, weight), served)| (name.to_owned(), weight, served))
                .collect(),
        )
    }

    #[test]
    fn a_share_may_be_a_fifth_off() {
        let fair = shares([110, 200, 390]);
        assert_eq!(fair.verdict(), "shares as weighted");
        assert_eq!(
            fair.to_string(),
            "one 110 (16 %), two 200 (29 %), four 390 (56 %)"
        );
    }

    #[test]
    fn those_that_are_further_off_are_named() {
        let unfair = shares([200, 200, 300]);
        assert_eq!(
            unfair.verdict(),
            "one got 200 % of its share, four got 75 % of its share"
        );
    }
}
