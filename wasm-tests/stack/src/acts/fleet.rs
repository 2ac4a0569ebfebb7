//! The act on a fleet: two Envoys keep one limit together, wherever its requests come, and where one of them is killed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::bill::Bill;
use crate::control::{Control, Key};
use crate::redis::Redis;
use tollgate_harness::bucket::{Bucket, Passed};
use tollgate_harness::{Gateway, Options};
use tollgate_models::ModelServer;

/// As an operator writes it.
const LIMITS: &str = include_str!("fleet.yaml");
/// The same.
const LIMIT: Bucket = Bucket {
    rate: 5.0,
    burst: 10.0,
};
/// When books begin: an Envoy in one of them has so much of every limit without asking.
const SLOTS: f64 = 4.0;
/// What of the limit has to pass where it is asked for in full,
const FULL: f64 = 0.75;
/// and at each of several Envoys of an equal share.
const EACH: f64 = 0.6;
/// What takes longer is a broken promise: leases of 12 seconds may have to run out first.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long nobody has what a dead Envoy had.
const LEASE: Duration = Duration::from_secs(12);
/// Twice the limit.
const MUCH: f64 = 10.0;
const ALL: &str = "nearly all of the limit, and never more";

/// Shows it on `bill`. All of the limit counts as used once it was for `window`.
///
/// # Errors
/// Something can't be started, or a request is left without an answer.
pub(super) async fn act(bill: &mut Bill, window: Duration) -> Result<()> {
    println!("Starting a model server, a control plane, and two Envoys with this limit ...\n");
    LIMITS.lines().for_each(|line| println!("    {line}"));
    let mut stage = Stage::start(window).await?;
    bill.heading("One limit for two Envoys: each decides by its share, and asks nobody on a request's way");
    stage.one_place(bill).await?;
    stage.moved(bill).await?;
    stage.both(bill).await?;
    stage.killed(bill).await?;
    stage.sums(bill)
}

/// A fleet of two, and what it let pass.
struct Stage {
    envoys: [Gateway; 2],
    model: ModelServer,
    key: Key,
    window: Duration,
    begun: Instant,
    /// At which Envoy.
    passed: Vec<(usize, Passed)>,
    /// The coordinator of both, with the store of its books.
    _control: Control,
    _redis: Option<Redis>,
}

impl Stage {
    async fn start(window: Duration) -> Result<Self> {
        let redis = Redis::start().await?;
        let books = redis.as_ref().map(Redis::address);
        match &books {
            Some(_) => println!("\nWhat each Envoy may use of it is kept in Redis."),
            None => println!(
                "\nThere is no Redis here: the control plane's database has what each Envoy may use of it."
            ),
        }
        let control = Control::with_books(0, books.as_deref())?;
        control.tenants().await?;
        let key = control.key("fleet").await?;
        let model = ModelServer::builder().name("llama").start().await?;
        let limits: Value = serde_saphyr::from_str(LIMITS)?;
        let envoy = async || {
            let options = Options::new().llama(model.addr()).limits(limits.clone());
            let envoy = Gateway::try_start(control.member(options).await?).await?;
            control.reaches(&envoy, &key).await?;
            anyhow::Ok(envoy)
        };
        let (first, second) = tokio::try_join!(envoy(), envoy())?;
        Ok(Self {
            envoys: [first, second],
            model,
            key,
            window,
            begun: Instant::now(),
            passed: Vec::new(),
            _control: control,
            _redis: redis,
        })
    }

    async fn one_place(&mut self, bill: &mut Bill) -> Result<()> {
        let full = self.ask_in_full(&[0], MUCH).await?;
        let details = [
            "without asking, each of the two has a quarter. New books give nothing more for twelve seconds; then envoy-1 gets it"
                .to_owned(),
            self.when(full, &[0]),
        ];
        bill.show("All requests come to envoy-1", ALL, &self.verdict(full), &details);
        Ok(())
    }

    async fn moved(&mut self, bill: &mut Bill) -> Result<()> {
        let full = self.ask_in_full(&[1], MUCH).await?;
        let details = [
            "the share follows: envoy-1 gives up what it had, and then envoy-2 gets it".to_owned(),
            self.when(full, &[1]),
        ];
        bill.show("They move to envoy-2", ALL, &self.verdict(full), &details);
        Ok(())
    }

    async fn both(&mut self, bill: &mut Bill) -> Result<()> {
        // Each is asked for more than half of it, and for less than all.
        let full = self.ask_in_full(&[0, 1], 1.2 * LIMIT.rate).await?;
        let details = [self.when(full, &[0, 1])];
        bill.show("Half of them come to each", ALL, &self.verdict(full), &details);
        Ok(())
    }

    async fn killed(&mut self, bill: &mut Bill) -> Result<()> {
        self.envoys[1].crash();
        let from = self.passed.len();
        let killed = Instant::now();
        self.ask(&[0], 0.6 * LIMIT.rate, LEASE, |_| false).await?;
        let count = self.passed.len() - from;
        let part = LIMIT.rate / SLOTS * LEASE.as_secs_f64();
        let came = match count as f64 >= FULL * part {
            true => "envoy-1 goes on",
            false => "envoy-1 does not go on",
        };
        let details = [format!(
            "envoy-1 let {count} of its own requests pass in {:.0} s. Nobody may use what envoy-2 had until its lease is over",
            killed.elapsed().as_secs_f64()
        )];
        let promised = "envoy-1 goes on, never more than the limit";
        let came = format!("{came}, {}", self.never_more());
        bill.show("envoy-2 is killed", promised, &came, &details);

        let full = self.ask_in_full(&[0], MUCH).await?;
        let details = [self.when(full, &[0])];
        let title = "Its lease is over, and its requests come here";
        bill.show(title, ALL, &self.verdict(full), &details);
        Ok(())
    }

    fn sums(&self, bill: &mut Bill) -> Result<()> {
        let span = self.begun.elapsed();
        let at = |envoy: usize| self.passed.iter().filter(|(at, _)| *at == envoy).count();
        let (passed, served) = (self.passed.len(), self.model.seen().len());
        let details = [
            format!(
                "in {:.0} s {} passed at envoy-1 and {} at envoy-2, {passed} in all; the model server counts {served}",
                span.as_secs_f64(),
                at(0),
                at(1)
            ),
            format!(
                "one Envoy alone with this limit lets {:.0} pass at most",
                LIMIT.most(span)
            ),
        ];
        let came = match passed == served {
            true => format!("all are counted, {}", self.never_more()),
            false => format!("{passed} passed, {served} served"),
        };
        let promised = "all are counted, never more than the limit";
        bill.show("The sum, in every span of time", promised, &came, &details);
        Ok(())
    }

    /// Asks these Envoys by turns, so often a second, until nearly all of the limit is used; after how long, or `None` where
    /// it never is.
    async fn ask_in_full(&mut self, at: &[usize], rate: f64) -> Result<Option<Duration>> {
        let begun = Instant::now();
        let window = self.window;
        let whole = LIMIT.rate * window.as_secs_f64();
        let each = EACH * whole / at.len() as f64;
        let full = |passed: &[(usize, Passed)]| {
            let recent = passed.iter().filter(|(_, one)| one.sent.elapsed() < window);
            let count = |envoy: &usize| recent.clone().filter(|(at, _)| at == envoy).count() as f64;
            // What was saved up passes at once, and says nothing of a share.
            begun.elapsed() >= window
                && at.iter().all(|envoy| count(envoy) >= each)
                && at.iter().map(count).sum::<f64>() >= FULL * whole
        };
        let full = self.ask(at, rate, PATIENCE, full).await?;
        Ok(full.then(|| begun.elapsed()))
    }

    /// Asks these Envoys by turns, so often a second, until `enough` says so of what passed since; whether it did in time.
    async fn ask(
        &mut self,
        at: &[usize],
        rate: f64,
        time: Duration,
        enough: impl Fn(&[(usize, Passed)]) -> bool,
    ) -> Result<bool> {
        let (begun, from) = (Instant::now(), self.passed.len());
        let mut turns = tokio::time::interval(Duration::from_secs_f64(rate.recip()));
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for &at in at.iter().cycle() {
            turns.tick().await;
            let sent = Instant::now();
            let body = json!({"model": "llama-70b", "messages": [{"role": "user", "content": "Say hello"}]});
            let request = self.envoys[at].post("/v1/chat/completions");
            let reply = request.key(&self.key.secret).json(body).try_send().await;
            let reply = reply.with_context(|| format!("envoy-{} does not answer", at + 1))?;
            if reply.status == 200 {
                let answered = Instant::now();
                self.passed.push((at, Passed { sent, answered }));
            }
            if enough(&self.passed[from..]) {
                return Ok(true);
            }
            if begun.elapsed() >= time {
                break;
            }
        }
        Ok(false)
    }

    fn verdict(&self, full: Option<Duration>) -> String {
        let used = match full {
            Some(_) => "nearly all of the limit",
            None => "much less than the limit",
        };
        match self.excess() {
            None => format!("{used}, and never more"),
            Some(excess) => format!("{used}, and more: {excess}"),
        }
    }

    fn never_more(&self) -> String {
        match self.excess() {
            None => "never more than the limit".to_owned(),
            Some(excess) => format!("more than the limit: {excess}"),
        }
    }

    /// Of all that passed so far, at both: what was too much in some span of time.
    fn excess(&self) -> Option<String> {
        let passed: Vec<Passed> = self.passed.iter().map(|(_, one)| *one).collect();
        LIMIT.holds(&passed).err().map(|excess| excess.to_string())
    }

    /// What passed at the end, and after how long that was so.
    fn when(&self, full: Option<Duration>, at: &[usize]) -> String {
        let recent = |envoy: usize| {
            let at_it = self.passed.iter().filter(|(at, _)| *at == envoy);
            let count = at_it.filter(|(_, one)| one.sent.elapsed() < self.window).count();
            let rate = count as f64 / self.window.as_secs_f64();
            format!("{rate:.1} a second at envoy-{}", envoy + 1)
        };
        let rates: Vec<_> = at.iter().map(|envoy| recent(*envoy)).collect();
        let after = full.map_or(PATIENCE, |took| took.saturating_sub(self.window));
        format!(
            "{}, from second {:.0} on; the limit is {:.0}",
            rates.join(" and "),
            after.as_secs_f64(),
            LIMIT.rate
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_files() {
        let limits: Value = serde_saphyr::from_str(LIMITS).unwrap();
        let limit = &limits["limits"][0];
        assert_eq!(limit["rate"], format!("{}/minute", LIMIT.rate * 60.0));
        assert_eq!(limit["burst"], LIMIT.burst as u64);
        assert_eq!(limit["where"], "fleet");
    }
}
