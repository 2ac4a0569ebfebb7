//! Customers of an act, and what they are answered.

use std::fmt;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tollgate_core::key::ApiKey;

use tollgate_harness::client::{Client, Reply, Request};
use tollgate_harness::directory::Directory;
use tollgate_harness::envoy::Gateway;
use tollgate_models::SERVER_HEADER;

/// An organization with a key, before there is a gateway.
#[derive(Debug)]
pub(super) struct Org {
    /// Its name.
    pub(super) name: String,
    key: ApiKey,
}

impl Org {
    /// Enters it into `directory`, with every model granted.
    pub(super) fn join(directory: &mut Directory, name: &str, tier: &str) -> Self {
        directory.org(name, json!({"tier": tier, "models": ["*"]}));
        Self {
            name: name.to_owned(),
            key: directory.key(name),
        }
    }

    /// As a customer of `gateway`.
    pub(super) fn customer(self, gateway: &Gateway) -> Customer {
        Customer {
            org: self,
            client: gateway.client(),
        }
    }
}

/// An organization that calls, over connections of its own.
#[derive(Debug)]
pub(super) struct Customer {
    /// Who.
    pub(super) org: Org,
    client: Client,
}

impl Customer {
    /// One chat with `model`.
    ///
    /// # Errors
    /// There is no whole answer.
    pub(super) async fn ask(&self, model: &str) -> Result<Answer> {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Say hello"}]});
        let reply = self.chat(body).try_send().await;
        let reply =
            reply.with_context(|| format!("{} asks for {model} and is not answered", self.org.name))?;
        Ok(Answer::read(&reply))
    }

    /// Any chat, not yet sent.
    pub(super) fn chat(&self, body: Value) -> Request {
        self.client
            .post("/v1/chat/completions")
            .key(&self.org.key)
            .json(body)
    }
}

/// What a customer sees of where a request went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// A model served.
    Served {
        /// `x-tollgate-model`.
        model: String,
        /// `x-tollgate-route`.
        route: String,
        /// The stand-in model server's own name.
        server: String,
    },
    /// Anything else.
    Refused {
        /// Its status.
        status: u16,
        /// The error's `code`, in words where it has none.
        code: String,
        /// Seconds.
        retry_after: Option<u64>,
    },
}

impl Answer {
    /// Of a whole answer.
    pub(super) fn read(reply: &Reply) -> Self {
        let header = |name| reply.header(name).unwrap_or("?").to_owned();
        if reply.status == 200 {
            return Self::Served {
                model: header("x-tollgate-model"),
                route: header("x-tollgate-route"),
                server: header(SERVER_HEADER),
            };
        }
        let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        Self::Refused {
            status: reply.status,
            code: body["error"]["code"]
                .as_str()
                .unwrap_or("without a code")
                .to_owned(),
            retry_after: reply
                .header("retry-after")
                .and_then(|seconds| seconds.parse().ok()),
        }
    }

    /// Whether this model server gave it.
    pub(super) fn is_by(&self, name: &str) -> bool {
        matches!(self, Self::Served { server, .. } if server == name)
    }

    /// What it says about when to come back, in seconds.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Served { .. } => None,
            Self::Refused { retry_after, .. } => *retry_after,
        }
    }

    /// Whether it came this way.
    pub(super) fn is_routed(&self, name: &str) -> bool {
        matches!(self, Self::Served { route, .. } if route == name)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served { model, route, server } => write!(f, "200 {model}, {route}, by {server}"),
            Self::Refused {
                status,
                code,
                retry_after,
            } => {
                write!(f, "{status} {code}")?;
                retry_after.map_or(Ok(()), |seconds| write!(f, ", Retry-After: {seconds}"))
            }
        }
    }
}
