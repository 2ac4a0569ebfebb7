//! `tollgate token`.

use anyhow::Result;
use axum::http::Method;
use clap::Subcommand;
use serde_json::{Map, Value};

use crate::change::insert_some;
use crate::client::{Client, segment};
use crate::show;

/// What to do with tokens for the API.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List tokens.
    List,
    /// Create a token; prints it once.
    Create {
        /// What it may do.
        #[arg(long, value_parser = ["gateway", "viewer", "support", "operator", "owner"])]
        role: String,
        /// A name for people.
        #[arg(long)]
        name: Option<String>,
        /// Organizations to limit it to; without it, all.
        #[arg(long, value_delimiter = ',')]
        orgs: Option<Vec<String>>,
        /// When it ends, as in `2026-12-31T23:59:59Z`.
        #[arg(long)]
        expires_at: Option<String>,
    },
    /// Revoke a token, for good.
    Revoke {
        /// Token id.
        token: String,
    },
}

impl Command {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::List => {
                let tokens = client.list_all("/v1/tokens").await?;
                show::list(
                    client,
                    &tokens,
                    &["id", "role", "orgs", "name", "expires_at", "revoked_at"],
                )?;
            }
            Self::Create {
                role,
                name,
                orgs,
                expires_at,
            } => {
                let mut body = Map::new();
                insert_some(&mut body, "role", Some(role));
                insert_some(&mut body, "name", name);
                insert_some(&mut body, "orgs", orgs);
                insert_some(&mut body, "expires_at", expires_at);
                let answer = client
                    .write(Method::POST, "/v1/tokens", Some(Value::Object(body)))
                    .await?;
                show::created(client, &answer, "token", |id| {
                    format!("Create another, and give this one up: tollgate token revoke {id}")
                })?;
            }
            Self::Revoke { token } => {
                let path = format!("/v1/tokens/{}/revoke", segment(&token)?);
                let answer = client.write(Method::POST, &path, None).await?;
                show::changed(client, &answer, |_| format!("Revoked the token {token}."))?;
            }
        }
        Ok(())
    }
}
