//! The filters' own decisions about a request, over a host in memory.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};
use tollgate_core::auth;
use tollgate_core::budget::Budgets;
use tollgate_core::limits::Subject;
use tollgate_core::pipeline::{Decision, Pipeline};
use tollgate_core::reply::Reply;
use tollgate_core::trace::Note;
use tollgate_core::workers::Workers;

use super::directory::Directory;
use super::gateway::{Gateway, json};
use super::host::Host;
use super::request::{RawRequest, Request};
use crate::files::scalar::Reader;

/// Simulates one gateway: its rules, and nothing in use.
pub(super) struct Simulator<'s> {
    gateway: &'s Gateway,
    directory: &'s Directory,
    auth: Arc<auth::Config>,
    budgets: Budgets,
}

/// What the gateway decided about a request.
pub(super) struct Simulation {
    pub(super) notes: Vec<Note>,
    /// What its client gets; `None` where a model server answers.
    pub(super) reply: Option<Reply>,
}

impl<'s> Simulator<'s> {
    pub(super) fn new(gateway: &'s Gateway, directory: &'s Directory) -> Result<Self> {
        let mut config: Value = json(&gateway.key_auth, Reader::Envoy)?;
        if let Some(members) = config.as_object_mut() {
            members.insert("directory".to_owned(), json!({"inline": directory.document}));
        }
        let auth = auth::Config::parse(config.to_string().as_bytes());
        let auth = auth.map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow!("the directory is not good: {}", errors.join("; "))
        })?;
        Ok(Self {
            gateway,
            directory,
            auth: Arc::new(auth),
            budgets: directory.budgets(),
        })
    }

    /// Decides, with nothing in use but what the request says.
    pub(super) fn run(&self, request: &Request) -> Result<Simulation> {
        let (now, raw) = (request.now()?, request.raw(&self.directory.secret(&request.key))?);
        let simulation = self.decide(Host::new(now, request.address, &self.budgets), &raw)?;
        if request.used.is_empty() {
            return Ok(simulation);
        }
        let mut host = Host::new(now, request.address, &self.budgets);
        self.assume(&mut host, request, &simulation.notes)?;
        self.decide(host, &raw)
    }

    fn decide(&self, mut host: Host, raw: &RawRequest) -> Result<Simulation> {
        let Gateway { route, limiter, .. } = self.gateway;
        let configs = (Arc::clone(&self.auth), Arc::clone(route), Arc::clone(limiter));
        let pipeline = Pipeline::start(configs.0, configs.1, configs.2, &mut host);
        let mut pipeline = pipeline.ok().context("the store in memory failed")?;
        let reply = match pipeline.decide(&mut host, &raw.headers, &raw.body, 0) {
            Decision::Answered(reply) => Some(reply),
            Decision::Passes(accepted) => {
                // What is noted from here on is of the end.
                let notes = core::mem::take(&mut host.notes);
                pipeline.withdraw(&mut host, *accepted);
                host.notes = notes;
                None
            }
        };
        Ok(Simulation {
            notes: host.notes,
            reply,
        })
    }

    /// Has limits be in use as the request says, by the caller and model that were found.
    fn assume(&self, host: &mut Host, request: &Request, notes: &[Note]) -> Result<()> {
        let table = &self.gateway.limiter.limits;
        let rows: Vec<(usize, u64)> = request
            .used
            .iter()
            .map(|(name, used)| {
                let at = table.rows().iter().position(|row| row.name == *name);
                let at = at.with_context(|| format!("there is no limit `{name}`"))?;
                Ok((at, *used))
            })
            .collect::<Result<_>>()?;
        let who = notes.iter().find_map(|note| match note {
            Note::Caller {
                key,
                org,
                project,
                tier,
                overrides,
            } => Some((key, org, project, tier, overrides)),
            _ => None,
        });
        let model = notes.iter().rev().find_map(|note| match note {
            Note::StandIn(model) => Some(model.as_str()),
            Note::Model { found, .. } => found.as_ref().map(|found| found.name.as_str()),
            _ => None,
        });
        let (Some((key, org, project, tier, overrides)), Some(model)) = (who, model) else {
            return Ok(());
        };
        let subject = Subject {
            key,
            org,
            project: project.as_deref(),
            tier,
            model,
            endpoint: request.endpoint,
            address: request.address.filter(|_| self.gateway.limiter.by_address),
            overrides,
        };
        let now = request.now()?;
        let other = Workers::join(host, None)
            .ok()
            .context("the store in memory failed")?;
        for row in rows {
            let assumed = table.assume(host, (&subject, now), &other, row);
            assumed.ok().context("the store in memory failed")?;
        }
        Ok(())
    }
}
