//! Models, checked, and the question whether a caller may use one.

use std::collections::BTreeMap;

use crate::body::{Body, Caps, Unmetered};
use crate::config::Span;
use crate::endpoint::Endpoint;
use crate::error::{ApiError, Retry};
use crate::glob::fitting;
use crate::identity::Identity;
use crate::key::shown;
use crate::price::Price;

/// Every model, by its name and its aliases.
#[derive(Debug, Default)]
pub struct Catalogue {
    pub(super) models: Vec<Model>,
    /// Names and aliases.
    pub(super) names: BTreeMap<String, usize>,
}

/// One model.
#[derive(Debug)]
pub struct Model {
    /// Its own name: in headers, logs and usage records.
    pub name: String,
    /// Where it may be asked.
    pub endpoints: Vec<Endpoint>,
    /// Tokens of input and output together; `None` is unknown.
    pub context_window: Option<u64>,
    /// Most tokens of one answer; `None` is up to the model server.
    pub max_output: Option<u64>,
    /// Members that are taken though nobody can tell what they take.
    pub unmetered: Vec<Unmetered>,
    /// Who made it, for `GET /v1/models`.
    pub owned_by: String,
    /// Since when it exists; seconds since 1970, for `GET /v1/models`.
    pub created: i64,
    /// All targets.
    pub targets: Vec<Target>,
    pub(super) rules: Vec<Rule>,
    pub(super) canary: Option<Canary>,
    /// Names of models that may stand in, in order.
    pub fallback: Vec<String>,
    /// Longest wait for the first byte of one attempt, where the answer is streamed.
    pub first_byte: Option<Span>,
    /// Longest wait for the first event of a streamed answer, once its headers are there.
    pub first_event: Option<Span>,
    /// Longest silence of a streamed answer.
    pub idle: Option<Span>,
    /// Longest time from the request to the end of the answer.
    pub whole: Option<Span>,
    /// How often a failed attempt is repeated; `None` leaves it to the route.
    pub retries: Option<u8>,
    /// What its tokens cost; `None` is unknown.
    pub price: Option<Price>,
    /// Since or from when it should not be used; seconds since 1970.
    pub deprecated_at: Option<i64>,
    /// When it ends; seconds since 1970.
    pub sunset_at: Option<i64>,
}

/// Where a model is served: an Envoy cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Envoy's name of it.
    pub cluster: String,
    /// Share of the requests, against the sum of all; zero gets some only by a rule, as canary or where the others
    /// are broken.
    pub weight: u32,
    /// Whether its server takes `stream_options`, by which it is asked for the usage of a stream.
    pub stream_options: bool,
}

/// A list of targets for some callers.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) when: When,
    /// Indices of targets.
    pub(super) targets: Vec<usize>,
}

/// Who, and for what; an empty list is anyone or anything.
#[derive(Debug, Default)]
pub struct When {
    pub(super) tier: Vec<String>,
    pub(super) org: Vec<String>,
    pub(super) project: Vec<String>,
    pub(super) label: BTreeMap<String, String>,
    pub(super) endpoint: Vec<Endpoint>,
}

#[derive(Debug)]
pub(super) struct Canary {
    pub(super) target: usize,
    /// In hundredths of a percent.
    pub(super) share: u32,
}

/// A value that the catalogue forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    /// The most there may be.
    pub limit: u64,
    /// What was asked for.
    pub asked: u64,
    /// In which member.
    pub param: &'static str,
}

/// Why a model can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It does not exist, or the organization has no grant for it: one answer for both, so that names don't leak.
    Unknown(String),
    /// The organization has the grant, the project has not.
    ProjectNotGranted(String, String),
    /// The key has not.
    KeyNotGranted(String),
    /// It is not served at this endpoint.
    WrongEndpoint(String),
    /// The answer may not be that long.
    OutputTooLong(Cap),
    /// The answer may not be as long as it gets, by this member; the most it may be.
    OutputEndless(u64, &'static str),
    /// The input alone is longer than the window, by any count.
    ContextTooLong(Cap),
    /// By this member more is read or written than the gateway sees.
    Unmetered(&'static str),
}

impl Catalogue {
    /// The model that `name` stands for, if this caller may use it here.
    pub fn find(&self, name: &str, endpoint: Endpoint, who: &Identity) -> Result<&Model, Refusal> {
        let model = self.get(name).ok_or_else(|| Refusal::unknown(name))?;
        let shown = || name.chars().take(128).collect::<String>();
        model.granted(who).map_err(|level| match (level, &who.project) {
            (Level::Organization, _) => Refusal::unknown(name),
            (Level::Project, Some(project)) => Refusal::ProjectNotGranted(project.clone(), shown()),
            _ => Refusal::KeyNotGranted(shown()),
        })?;
        if !model.endpoints.contains(&endpoint) {
            return Err(Refusal::WrongEndpoint(shown()));
        }
        Ok(model)
    }

    /// A model by name or alias, whoever asks.
    pub fn get(&self, name: &str) -> Option<&Model> {
        self.models.get(*self.names.get(name)?)
    }

    /// The models that this caller may use, by name.
    pub fn granted<'a>(&'a self, who: &'a Identity) -> impl Iterator<Item = &'a Model> {
        self.models.iter().filter(|model| model.granted(who).is_ok())
    }

    /// All targets of all models, each once.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        let all: std::collections::BTreeSet<&str> = self
            .models
            .iter()
            .flat_map(|model| &model.targets)
            .map(|target| target.cluster.as_str())
            .collect();
        all.into_iter()
    }
}

/// The level whose grant is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The organization.
    Organization,
    /// Its project.
    Project,
    /// The key.
    Key,
}

/// By which pattern each level grants a model: its place in the level's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Of the organization.
    pub org: usize,
    /// Of the project; `None` where it has no list, and inherits.
    pub project: Option<usize>,
    /// Of the key; likewise.
    pub key: Option<usize>,
}

impl Model {
    /// Whether each level grants it, and by what.
    pub fn granted(&self, who: &Identity) -> Result<Granted, Level> {
        let by = |list: &Option<Vec<String>>, level| {
            let list = list.as_ref().map(|list| fitting(list, &self.name).ok_or(level));
            list.transpose()
        };
        Ok(Granted {
            org: fitting(&who.models.org, &self.name).ok_or(Level::Organization)?,
            project: by(&who.models.project, Level::Project)?,
            key: by(&who.models.key, Level::Key)?,
        })
    }

    /// Whether each of these clusters can be asked for the usage of a stream.
    pub fn tell_usage<'a>(&self, mut clusters: impl Iterator<Item = &'a str>) -> bool {
        let refuses = |cluster: &str| {
            let target = self.targets.iter().find(|target| target.cluster == cluster);
            target.is_some_and(|target| !target.stream_options)
        };
        !clusters.any(refuses)
    }

    /// Whether the body asks for no more than the model can give.
    pub fn accepts(&self, endpoint: Endpoint, body: &Body<'_>) -> Result<(), Refusal> {
        if let Some(member) = body
            .unmetered
            .iter()
            .find(|member| !self.unmetered.contains(member))
        {
            return Err(Refusal::Unmetered(member.name()));
        }
        self.bounds_output(endpoint, &body.caps)?;
        let asked = body.least_tokens;
        match self.context_window {
            Some(limit) if asked > limit => Err(Refusal::ContextTooLong(Cap {
                limit,
                asked,
                param: body.longest.unwrap_or(input_of(endpoint)),
            })),
            _ => Ok(()),
        }
    }

    /// Whether no server, by whatever name of a cap it goes, is asked for more than `max_output`; or it is known how much
    /// that may be.
    fn bounds_output(&self, endpoint: Endpoint, caps: &Caps) -> Result<(), Refusal> {
        let Some(limit) = self.max_output.filter(|_| endpoint.writes()) else {
            return Ok(());
        };
        if let Some((param, asked)) = caps.beyond(limit) {
            return Err(Refusal::OutputTooLong(Cap { limit, asked, param }));
        }
        match (caps.lifted(), self.context_window) {
            (Some(param), None) => Err(Refusal::OutputEndless(limit, param)),
            _ => Ok(()),
        }
    }
}

/// The member in which an endpoint is told what there is to read.
const fn input_of(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Chat | Endpoint::Messages => "messages",
        Endpoint::Completions | Endpoint::ImagesGenerations | Endpoint::ImagesEdits => "prompt",
        _ => "input",
    }
}

impl When {
    /// Whether it is about this request.
    pub fn holds(&self, who: &Identity, endpoint: Endpoint) -> bool {
        let among = |list: &[String], value: &str| list.is_empty() || list.iter().any(|one| one == value);
        among(&self.tier, &who.tier)
            && among(&self.org, &who.org)
            && (self.project.is_empty()
                || who
                    .project
                    .as_ref()
                    .is_some_and(|project| self.project.contains(project)))
            && (self.endpoint.is_empty() || self.endpoint.contains(&endpoint))
            && self
                .label
                .iter()
                .all(|(name, value)| who.labels.iter().any(|(n, v)| n == name && v == value))
    }
}

impl Refusal {
    /// There is no model of this name.
    pub fn unknown(name: &str) -> Self {
        Self::Unknown(shown(name, 128))
    }

    /// What the customer is told.
    pub fn answer(&self) -> ApiError {
        let (status, code, param, message) = match self {
            Self::Unknown(model) => (
                404,
                "model_not_found",
                Some("model"),
                format!("The model `{model}` does not exist or you do not have access to it."),
            ),
            Self::ProjectNotGranted(project, model) => (
                403,
                "model_not_found",
                Some("model"),
                format!("Project `{project}` does not have access to model `{model}`."),
            ),
            Self::KeyNotGranted(model) => (
                403,
                "model_not_found",
                Some("model"),
                format!("This API key does not have access to model `{model}`."),
            ),
            Self::WrongEndpoint(model) => (
                400,
                "unsupported_parameter",
                Some("model"),
                format!("The model `{model}` is not served at this endpoint."),
            ),
            Self::Unmetered("chat_template_kwargs") => (
                400,
                "unsupported_parameter",
                Some("chat_template_kwargs"),
                "`chat_template_kwargs` may not hold a template, or say what is made of one, for this model."
                    .into(),
            ),
            Self::Unmetered(param) => (
                400,
                "unsupported_parameter",
                Some(*param),
                format!("`{param}` is not supported for this model."),
            ),
            Self::OutputTooLong(Cap { limit, asked, param }) => (
                400,
                "unsupported_parameter",
                Some(*param),
                format!("This model gives at most {limit} output tokens, and {asked} were asked for."),
            ),
            Self::OutputEndless(limit, param) => (
                400,
                "unsupported_parameter",
                Some(*param),
                format!(
                    "This model gives at most {limit} output tokens, and with `{param}` some servers generate without a limit."
                ),
            ),
            Self::ContextTooLong(Cap { limit, asked, param }) => (
                400,
                "context_length_exceeded",
                Some(*param),
                format!(
                    "This model's context window is {limit} tokens, and the input has at least {asked}. \
                     Please shorten it."
                ),
            ),
        };
        ApiError {
            status,
            kind: "invalid_request_error",
            code,
            param,
            message: message.into(),
            retry: Retry::Unsaid,
        }
    }
}
