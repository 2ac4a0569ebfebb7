//! The act on limits: those of README.md, with a burst, a client that hangs up, a model that three organizations flood,
//! a limit that is only tried out, and what is left of it all in the usage records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::ask::{Answer, Customer, Org};
use super::bill::Bill;
use super::flood::{Flood, Shares};
use tollgate_harness::Options;
use tollgate_harness::catalogue::Catalogue;
use tollgate_harness::client::Reply;
use tollgate_harness::directory::Directory;
use tollgate_harness::envoy::Gateway;
use tollgate_harness::net;
use tollgate_harness::usage_log::UsageRecord;
use tollgate_models::{Ending, FAULT_HEADER, ModelServer, Seen};

/// As README.md shows them.
const LIMITS: &str = include_str!("limits.yaml");
const BURST: usize = 200;
/// Tokens of the limit that the burst meets, and seconds in which they come back.
const AMOUNT: (u64, u64) = (10_000, 60);
/// Events of a stream after which its client hangs up.
const HEARD: usize = 40;
/// What is tried out on a limit of 50.
const TRIALS: usize = 60;
/// What takes longer is a broken promise.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shows it on `bill`.
///
/// # Errors
/// The gateway can't start, or leaves a request without an answer or without a record.
pub(super) async fn act(bill: &mut Bill) -> Result<()> {
    println!("\nStarting a model server and Envoy with the limits of README.md ...");
    let stage = Stage::start().await?;
    bill.heading("Limits and usage: who passes, who is told to wait, and what is written down");
    stage.burst(bill).await?;
    stage.hang_up(bill).await?;
    stage.flood(bill).await?;
    stage.shadow(bill).await?;
    stage.record(bill).await
}

/// A gateway, its model server, and those who call.
struct Stage {
    gateway: Gateway,
    model: ModelServer,
    /// With the 10,000 tokens of a free key.
    initech: Customer,
    /// On trial.
    hooli: Customer,
    /// Weights 1, 2 and 4 at llama-8b.
    umbrella: Arc<Customer>,
    acme: Arc<Customer>,
    globex: Arc<Customer>,
    /// Asks now and then.
    soylent: Arc<Customer>,
}

impl Stage {
    async fn start() -> Result<Self> {
        let model = ModelServer::builder().name("llama").start().await?;
        let mut directory = Directory::empty();
        let mut join = |name, tier| Org::join(&mut directory, name, tier);
        let (initech, hooli) = (join("initech", "free"), join("hooli", "trial"));
        let (umbrella, acme, globex) = (
            join("umbrella", "pro"),
            join("acme", "pro"),
            join("globex", "pro"),
        );
        let soylent = join("soylent", "pro");
        let mut catalogue = Catalogue::new();
        catalogue.change("llama-70b", json!({"price": {"input": 0.6, "output": 0.8}}));
        let limits: Value = serde_saphyr::from_str(LIMITS)?;
        let options = Options::new().directory(&directory).catalogue(&catalogue);
        let options = options.llama(model.addr()).limits(limits);
        let gateway = Gateway::try_start(options).await?;
        Ok(Self {
            initech: initech.customer(&gateway),
            hooli: hooli.customer(&gateway),
            umbrella: Arc::new(umbrella.customer(&gateway)),
            acme: Arc::new(acme.customer(&gateway)),
            globex: Arc::new(globex.customer(&gateway)),
            soylent: Arc::new(soylent.customer(&gateway)),
            gateway,
            model,
        })
    }

    async fn burst(&self, bill: &mut Bill) -> Result<()> {
        let began = Instant::now();
        let replies = self.ask_at_once(BURST).await?;
        // Tokens come back all the time; the promise counts those too.
        let (amount, seconds) = AMOUNT;
        let back = began.elapsed().as_millis() as u64 * amount / (seconds * 1_000);
        let count = |status| replies.iter().filter(|reply| reply.status == status).count();
        let (passed, refused) = (count(200), count(429));
        let spent: u64 = self.model.seen().iter().map(tokens).sum();
        let settled = self.settled(passed).await?;
        let came = if spent > amount + back {
            format!("{spent} tokens spent")
        } else if passed + refused < BURST {
            format!("{} neither passed nor limited", BURST - passed - refused)
        } else if settled != spent {
            format!("{spent} tokens spent, {settled} in the usage records")
        } else {
            "within the limit".to_owned()
        };
        let details = [
            format!("{passed} passed, {refused} were refused before they reached the model server"),
            format!("{spent} tokens spent by its own account, and as many in the usage records"),
            format!("allowed were {amount}, and {back} that came back meanwhile"),
        ];
        let title = "200 requests at once on 10,000 tokens a minute";
        bill.show(title, "within the limit", &came, &details);
        ensure!(refused > 0, "the burst was not too large for the limit");

        let (refusal, answer) = self.refused().await?;
        let message = refusal.json()["error"]["message"].to_string();
        let promised = "429 rate_limit_exceeded, Retry-After: 1";
        bill.show("One more", promised, &answer.to_string(), &[message]);

        let told = refusal
            .header("retry-after-ms")
            .and_then(|text| text.parse().ok());
        let told = Duration::from_millis(told.context("the refusal has no retry-after-ms")?);
        tokio::time::sleep(told).await;
        let passed = self.ask_much().await?;
        let why = format!(
            "asked again after {} ms, as retry-after-ms said",
            told.as_millis()
        );
        bill.show("It waits as told", "200", &passed.status.to_string(), &[why]);
        Ok(())
    }

    /// A request of 72 tokens by the one that has 10,000. Each word of it is a token of the model server's, and so long
    /// that no estimate is below it.
    async fn ask_much(&self) -> Result<Reply> {
        let body = json!({
            "model": "llama-70b", "max_tokens": 70,
            "messages": [{"role": "user", "content": "mnemonics mnemonics"}],
        });
        let request = self.initech.chat(body);
        let request = request.header(FAULT_HEADER, "tokens=70, first-byte=100ms");
        Ok(request.try_send().await?)
    }

    /// The answers to so many of these at once.
    async fn ask_at_once(&self, requests: usize) -> Result<Vec<Reply>> {
        let replies = join_all((0..requests).map(|_| self.ask_much())).await;
        replies.into_iter().collect()
    }

    /// The tokens in the records of the requests that passed, once they are there.
    async fn settled(&self, passed: usize) -> Result<u64> {
        let sum = net::within(PATIENCE, async || {
            let records = self.gateway.usage_log().records();
            let complete: Vec<_> = records.iter().filter(|one| one.is("complete")).collect();
            (complete.len() == passed).then(|| complete.iter().map(|one| one.tokens()).sum())
        });
        sum.await
            .context("not every request that passed has its usage record")
    }

    /// A request that the limit refuses, while no other is under way that could take what comes back.
    async fn refused(&self) -> Result<(Reply, Answer)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // What the burst left may do for some more.
            self.ask_at_once(20).await?;
            let reply = self.ask_much().await?;
            if reply.status != 200 {
                let answer = Answer::read(&reply);
                return Ok((reply, answer));
            }
            ensure!(Instant::now() < deadline, "no request is refused");
        }
    }

    async fn hang_up(&self, bill: &mut Bill) -> Result<()> {
        let body = json!({
            "model": "llama-70b", "max_tokens": 1000, "stream": true,
            "messages": [{"role": "user", "content": "Tell me a long story"}],
        });
        let request = self.acme.chat(body).header(FAULT_HEADER, "tokens=1000, pace=5ms");
        let mut response = request.try_open().await?;
        let id = response.headers().get("x-request-id").cloned();
        let id = id.context("the answer has no x-request-id")?.to_str()?.to_owned();
        for _ in 0..HEARD {
            let chunk = response.chunk().await?;
            ensure!(chunk.is_some(), "the stream ended early");
        }
        drop(response);

        let (record, line) = self.usage(&id).await?;
        let produced = self.produced(&id).await?;
        let charged = record.output_tokens.unwrap_or(0);
        let near = (produced.div_ceil(2)..=produced * 2).contains(&charged);
        let came = format!(
            "{}, {}, {} what was produced",
            record.outcome.as_deref().unwrap_or("no outcome"),
            record.source.as_deref().unwrap_or("no source"),
            if near { "about" } else { "far from" }
        );
        let details = [
            format!(
                "{} tokens reserved; charged {} read and {charged} written; the model server wrote {produced}",
                record.reserved_tokens.unwrap_or(0),
                record.input_tokens.unwrap_or(0),
            ),
            line,
        ];
        let promised = "aborted, estimated, about what was produced";
        bill.show("A client hangs up mid-stream", promised, &came, &details);
        Ok(())
    }

    /// Output tokens of a stream by the model server's own account, once it has noticed that nobody listens.
    async fn produced(&self, id: &str) -> Result<u64> {
        let over = |row: &Seen| row.request_id.as_deref() == Some(id) && row.ending != Ending::Running;
        let rows = self
            .model
            .wait_until(PATIENCE, |rows| rows.iter().any(over))
            .await;
        let row = rows.ok().and_then(|rows| rows.into_iter().find(over));
        let row = row.context("the model server writes on after its client hung up")?;
        Ok(row.output_tokens)
    }

    async fn flood(&self, bill: &mut Bill) -> Result<()> {
        let flood = Flood::begin(
            &self.soylent,
            &[
                (&self.umbrella, 1, 60),
                (&self.acme, 2, 80),
                (&self.globex, 4, 120),
            ],
        );
        let shares = flood.watch(PATIENCE).await;
        let (asked, refused) = flood.end().await?;
        let shares: Shares = shares?;
        let details = [
            format!("answered: {shares}"),
            "the model serves 70 at once; 260 clients ask on and on, and those above their share slow down"
                .to_owned(),
        ];
        let title = "Three flood llama-8b; weights 1, 2 and 4";
        bill.show(title, "shares as weighted", &shares.verdict(), &details);
        ensure!(asked > 0, "{} never asked", self.soylent.org.name);
        let why = format!("it asked {asked} times");
        let title = "soylent asks now and then meanwhile";
        bill.show(title, "0 refused", &format!("{refused} refused"), &[why]);
        Ok(())
    }

    async fn shadow(&self, bill: &mut Bill) -> Result<()> {
        let mut served = 0;
        for _ in 0..TRIALS {
            let answer = self.hooli.ask("llama-70b").await?;
            served += usize::from(matches!(answer, Answer::Served { .. }));
        }
        let mut told = (0, 0);
        let agreed = net::within(PATIENCE, async || {
            let records = self.gateway.usage_log().records();
            let named = |record: &&UsageRecord| record.would_limit.iter().any(|limit| limit == "trial-rpd");
            let prometheus = self.gateway.prometheus().await;
            let counter = prometheus.value("tollgate_limit_shadow_refusals", &[("limit", "trial-rpd")]);
            told = (
                records.iter().filter(named).count(),
                counter.unwrap_or(0.0) as usize,
            );
            (told == (TRIALS - 50, TRIALS - 50)).then_some(())
        });
        agreed.await;
        let (named, counted) = told;
        let why = format!(
            "{named} usage records say would_limit: [\"trial-rpd\"]; tollgate_limit_shadow_refusals says {counted}"
        );
        bill.show(
            "60 requests on 50 a day, in shadow mode",
            "60 served, 10 would be refused",
            &format!("{served} served, {} would be refused", named.max(counted)),
            &[why],
        );
        ensure!(named == counted, "records and counter differ");
        Ok(())
    }

    async fn record(&self, bill: &mut Bill) -> Result<()> {
        let body = json!({"model": "llama-70b", "messages": [{"role": "user", "content": "Say hello"}]});
        let reply = self.acme.chat(body).try_send().await?;
        let id = reply
            .request_id()
            .context("the answer has no x-request-id")?
            .to_owned();
        let usage = reply.json()["usage"].clone();
        let (record, line) = self.usage(&id).await?;
        let tokens = |read: &dyn std::fmt::Display, written: &dyn std::fmt::Display, source: &str| {
            format!("{read} tokens read, {written} written, {source}")
        };
        bill.show(
            "A usage record, one for each request",
            &tokens(&usage["prompt_tokens"], &usage["completion_tokens"], "reported"),
            &tokens(
                &record.input_tokens.unwrap_or(0),
                &record.output_tokens.unwrap_or(0),
                record.source.as_deref().unwrap_or("no source"),
            ),
            &[line],
        );
        Ok(())
    }

    /// The usage record of a request, once it is there, and the line it stands in.
    async fn usage(&self, id: &str) -> Result<(UsageRecord, String)> {
        let log = self.gateway.usage_log();
        let line = net::within(PATIENCE, async || {
            log.lines().into_iter().find(|line| line.contains(id))
        });
        let line = line.await.with_context(|| format!("{id} has no usage record"))?;
        Ok((serde_json::from_str(&line)?, line))
    }
}

fn tokens(seen: &Seen) -> u64 {
    seen.input_tokens + seen.output_tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_harness::config::repository;

    #[test]
    fn the_readme_shows_these_limits() {
        let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
        assert!(readme.contains(&format!("```yaml\n{LIMITS}```\n")));
    }
}
