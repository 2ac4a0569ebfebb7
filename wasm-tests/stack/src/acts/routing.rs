//! The act on routing: the catalogue of README.md, with a provider that dies in mid-run, a canary that grows, an
//! organization with a cluster of its own, and a model with no target left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::ask::{Answer, Customer, Org};
use super::bill::Bill;
use super::load::{Load, Tally};
use tollgate_harness::Options;
use tollgate_harness::directory::Directory;
use tollgate_harness::envoy::{Gateway, Reload};
use tollgate_harness::net;
use tollgate_models::{Ending, Fault, ModelServer};

/// As README.md shows it.
const CATALOGUE: &str = include_str!("routing.yaml");
/// Requests while a provider dies.
const REQUESTS: usize = 60;
/// What takes longer is a broken promise.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shows it on `bill`.
///
/// # Errors
/// The gateway can't start, refuses an edit, or leaves a request without an answer.
pub(super) async fn act(bill: &mut Bill) -> Result<()> {
    println!("\nStarting five model servers and Envoy with the catalogue of README.md ...");
    let mut stage = Stage::start().await?;
    bill.heading("Routing: what a customer sees in x-tollgate-model and -route, and which server answered");
    stage.two_providers(bill).await?;
    stage.canary(bill).await?;
    stage.dedicated(bill).await?;
    stage.degraded(bill).await
}

/// A gateway, its model servers by their clusters' names, and twenty organizations that call it.
struct Stage {
    gateway: Gateway,
    catalogue: Value,
    servers: BTreeMap<&'static str, ModelServer>,
    acme: Arc<Customer>,
    globex: Customer,
    umbrella: Customer,
    teams: Vec<Customer>,
}

impl Stage {
    async fn start() -> Result<Self> {
        let mut servers = BTreeMap::new();
        let mut options = Options::new();
        for name in [
            "provider-a",
            "provider-b",
            "umbrella-gpus",
            "llama-8b",
            "llama-8b-next",
        ] {
            let server = ModelServer::builder().name(name).start().await?;
            options = options.cluster(name, server.addr());
            servers.insert(name, server);
        }
        let mut catalogue: Value = serde_saphyr::from_str(CATALOGUE)?;
        // An onlooker does not wait for five seconds.
        catalogue["breaker"] = json!({"failures": 3, "open": "1s", "longest": "4s"});
        let mut directory = Directory::empty();
        let acme = Org::join(&mut directory, "acme", "pro");
        let globex = Org::join(&mut directory, "globex", "free");
        let umbrella = Org::join(&mut directory, "umbrella", "enterprise");
        let teams: Vec<Org> = (1..=20)
            .map(|number| Org::join(&mut directory, &format!("team-{number:02}"), "pro"))
            .collect();
        let options = options.directory(&directory).router(catalogue.clone());
        let gateway = Gateway::try_start(options).await?;
        Ok(Self {
            acme: Arc::new(acme.customer(&gateway)),
            globex: globex.customer(&gateway),
            umbrella: umbrella.customer(&gateway),
            teams: teams.into_iter().map(|team| team.customer(&gateway)).collect(),
            gateway,
            catalogue,
            servers,
        })
    }

    async fn two_providers(&mut self, bill: &mut Bill) -> Result<()> {
        let good = format!("{REQUESTS} answered, 0 failed");
        let tally = Load::begin(&self.acme, "llama-70b", REQUESTS).tally().await;
        let why = "two providers, weights 3 and 1".to_owned();
        bill.show(
            "acme asks for llama-70b",
            &good,
            &tally.outcome(),
            &[tally.ways(), why],
        );

        // Time to think, so that some requests are under way when it dies.
        let dying = self.server("provider-a")?;
        dying.set_fault(Fault::parse("first-byte=100ms")?);
        let port = dying.addr().port();
        let load = Load::begin(&self.acme, "llama-70b", REQUESTS);
        let under_way = in_mid_run(&load, dying).await?;
        drop(self.servers.remove("provider-a"));
        let killed = format!(
            "killed with {under_way} under way at it and {} still to be sent",
            load.to_come()
        );
        let tally = load.tally().await;
        let why =
            "what it had not begun to answer is asked again at provider-b; then it is left alone".to_owned();
        let title = "The same, and provider-a is killed meanwhile";
        bill.show(title, &good, &tally.outcome(), &[tally.ways(), killed, why]);

        let (answer, _) = until(&self.acme, "llama-70b", |answer| answer.is_routed("breaker-open")).await?;
        let why = "the weights had chosen provider-a".to_owned();
        let promised = "200 llama-70b, breaker-open, by provider-b";
        bill.show("While it is dead", promised, &answer.to_string(), &[why]);

        let server = ModelServer::builder().name("provider-a").port(port);
        self.servers.insert("provider-a", server.start().await?);
        let started = Instant::now();
        let (answer, _) = until(&self.acme, "llama-70b", |answer| answer.is_by("provider-a")).await?;
        let why = format!(
            "found by the one request that may try it, {} after",
            since(started)
        );
        let promised = "200 llama-70b, primary, by provider-a";
        bill.show(
            "provider-a is started again",
            promised,
            &answer.to_string(),
            &[why],
        );
        Ok(())
    }

    async fn canary(&mut self, bill: &mut Bill) -> Result<()> {
        let (first, again) = (self.at_canary().await?, self.at_canary().await?);
        ensure!(!first.is_empty(), "none of the teams is of the canary's 5 %");
        let both_times = |teams: &[String]| format!("{} at llama-8b-next, both times", teams.join(" "));
        let why = "chosen by a hash of model and organization, not by chance".to_owned();
        let title = "20 teams ask for llama-8b twice; canary of 5 %";
        bill.show(title, &both_times(&first), &both_times(&again), &[why]);

        self.catalogue["catalogue"]["models"]["llama-8b"]["canary"]["percent"] = json!(50);
        let edited = Instant::now();
        let (outcome, grown) = tokio::join!(self.gateway.set_router(&self.catalogue), self.grown(&first));
        if let Reload::Rejected(why) = outcome {
            bail!("the edit is refused: {why}");
        }
        let (grown, asked) = grown?;
        let stayed = first.iter().filter(|team| grown.contains(team)).count();
        let count = |stayed: usize| format!("{stayed} stayed, {} moved back", first.len() - stayed);
        let details = [
            format!("{} at llama-8b-next now: {}", grown.len(), grown.join(" ")),
            format!(
                "{asked} requests in the {} until all saw the edit, every one served",
                since(edited)
            ),
        ];
        let title = "The file is edited to 50 % while they ask";
        bill.show(title, &count(first.len()), &count(stayed), &details);
        Ok(())
    }

    /// The teams ask on until more than `before` are at the canary, and the same ones twice; also how often they
    /// asked.
    async fn grown(&self, before: &[String]) -> Result<(Vec<String>, usize)> {
        let deadline = Instant::now() + PATIENCE;
        let (mut last, mut asked) = (Vec::new(), 0);
        loop {
            let now = self.at_canary().await?;
            asked += self.teams.len();
            if now == last && now.len() > before.len() {
                return Ok((now, asked));
            }
            ensure!(Instant::now() < deadline, "the canary's share did not grow");
            last = now;
        }
    }

    /// Each team asks once: those that came to the canary.
    async fn at_canary(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for team in &self.teams {
            let answer = team.ask("llama-8b").await?;
            let (canary, next) = (answer.is_routed("canary"), answer.is_by("llama-8b-next"));
            let served = matches!(answer, Answer::Served { .. });
            ensure!(served && canary == next, "{}: {answer}", team.org.name);
            if canary {
                found.push(team.org.name.clone());
            }
        }
        Ok(found)
    }

    async fn dedicated(&self, bill: &mut Bill) -> Result<()> {
        let mut own = Vec::new();
        let mut others = Vec::new();
        for team in &self.teams {
            own.push(self.umbrella.ask("llama-70b").await?);
            others.push(team.ask("llama-70b").await?);
        }
        let at = |answers: &[Answer]| {
            let count = answers
                .iter()
                .filter(|answer| answer.is_by("umbrella-gpus"))
                .count();
            format!("{count} of {} at umbrella-gpus", answers.len())
        };
        let why = "a rule gives umbrella a cluster of its own".to_owned();
        bill.show(
            "umbrella asks for llama-70b",
            "20 of 20 at umbrella-gpus",
            &at(&own),
            &[why],
        );
        let ways = Tally::of(others.iter().cloned().map(Ok)).ways();
        bill.show("20 others do", "0 of 20 at umbrella-gpus", &at(&others), &[ways]);
        Ok(())
    }

    async fn degraded(&self, bill: &mut Bill) -> Result<()> {
        for name in ["provider-a", "provider-b"] {
            self.server(name)?.set_fault(Fault::status(503));
        }
        let (fallback, before) =
            until(&self.acme, "llama-70b", |answer| answer.is_routed("fallback")).await?;
        let details = [
            "allow_fallback lets its tier have another model, and the answer says so".to_owned(),
            format!("before it, until the breakers opened: {}", before.ways()),
        ];
        let title = "Both providers answer 503; acme is `pro`";
        bill.show(
            title,
            "200 llama-8b, fallback, by llama-8b",
            &fallback.to_string(),
            &details,
        );

        let unavailable =
            |answer: &Answer| matches!(answer, Answer::Refused { code, .. } if code == "model_unavailable");
        let (refused, _) = until(&self.globex, "llama-70b", unavailable).await?;
        let why = "allow_fallback does not name its tier".to_owned();
        let promised = |seconds: u64| format!("503 model_unavailable, Retry-After: {seconds}");
        // As long as a breaker stays open here.
        let wait = refused.retry_after().unwrap_or(1).clamp(1, 4);
        bill.show("globex is `free`", &promised(wait), &refused.to_string(), &[why]);

        let own = self.umbrella.ask("llama-70b").await?;
        let promised = "200 llama-70b, primary, by umbrella-gpus";
        bill.show(
            "umbrella meanwhile",
            promised,
            &own.to_string(),
            &["its own cluster is well".to_owned()],
        );
        Ok(())
    }

    fn server(&self, name: &str) -> Result<&ModelServer> {
        self.servers
            .get(name)
            .with_context(|| format!("there is no server {name}"))
    }
}

/// Waits until a quarter of the requests are sent and `server` works on some; says on how many.
async fn in_mid_run(load: &Load, server: &ModelServer) -> Result<usize> {
    let running = async || {
        let seen = server.seen();
        let count = seen.iter().filter(|seen| seen.ending == Ending::Running).count();
        (load.sent() >= REQUESTS / 4 && count > 0).then_some(count)
    };
    let found = net::within(PATIENCE, running).await;
    found.context("the provider that is to be killed never had a request under way")
}

/// Asks on and on until an answer is `wanted`, or for too long; the last answer, and what there was before it.
async fn until(
    customer: &Customer,
    model: &str,
    wanted: impl Fn(&Answer) -> bool,
) -> Result<(Answer, Tally)> {
    let deadline = Instant::now() + PATIENCE;
    let mut before = Vec::new();
    loop {
        let answer = customer.ask(model).await?;
        if wanted(&answer) || Instant::now() > deadline {
            return Ok((answer, Tally::of(before)));
        }
        before.push(Ok(answer));
    }
}

/// `1.3 s`
fn since(then: Instant) -> String {
    format!("{:.1} s", then.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_harness::config::repository;

    #[test]
    fn the_readme_shows_this_catalogue() {
        let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
        assert!(readme.contains(&format!("```yaml\n{CATALOGUE}```\n")));
    }
}
