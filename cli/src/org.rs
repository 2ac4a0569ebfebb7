//! `tollgate org`.

use anyhow::Result;
use axum::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::change::{Clear, ensure_labels_have_values, insert_some, labels_patch};
use crate::client::{Client, segment};
use crate::limit::Limits;
use crate::show;

/// What to do with organizations.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List organizations.
    List,
    /// Show an organization.
    Show {
        /// Its name.
        org: String,
    },
    /// Create an organization.
    Create {
        /// Its name. It can't be changed.
        org: String,
        #[command(flatten)]
        spec: Spec,
    },
    /// Change an organization.
    Set {
        /// Its name.
        org: String,
        #[command(flatten)]
        spec: Spec,
        #[command(flatten)]
        clear: Clear,
    },
    /// Remove an organization that has no keys or projects any more.
    Remove {
        /// Its name.
        org: String,
    },
}

/// What is set; what is not named stays.
#[derive(Args)]
pub(crate) struct Spec {
    /// Class of service.
    #[arg(long)]
    tier: Option<String>,
    /// Whether it is in use.
    #[arg(long, value_parser = ["active", "suspended"])]
    status: Option<String>,
    /// Models, as names or patterns: `--models 'llama-*,whisper-1'`.
    #[arg(long, value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// A label, as `--label cost_center=42`; without a value it is removed.
    #[arg(long)]
    label: Vec<String>,
    /// Whom to tell.
    #[arg(long, value_delimiter = ',')]
    contacts: Option<Vec<String>>,
    #[command(flatten)]
    limits: Limits,
}

impl Command {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::List => {
                let orgs = client.list_all("/v1/orgs").await?;
                show::list(client, &orgs, &["id", "tier", "status", "models", "frozen_by"])?;
            }
            Self::Show { org } => show::object(client, &client.get(&path(&org)?).await?)?,
            Self::Create { org, spec } => {
                ensure_labels_have_values(&spec.label)?;
                let mut body = spec.members();
                body.insert("id".to_owned(), json!(org));
                let answer = client
                    .write(Method::POST, "/v1/orgs", Some(Value::Object(body)))
                    .await?;
                show::changed(client, &answer, |_| format!("Created organization {org}."))?;
            }
            Self::Set { org, spec, clear } => {
                let body = clear.patch(spec.members())?;
                let answer = client.write(Method::PATCH, &path(&org)?, Some(body)).await?;
                show::changed(client, &answer, |_| format!("Changed organization {org}."))?;
            }
            Self::Remove { org } => {
                let answer = client.write(Method::DELETE, &path(&org)?, None).await?;
                show::changed(client, &answer, |_| format!("Removed organization {org}."))?;
            }
        }
        Ok(())
    }
}

fn path(org: &str) -> Result<String> {
    Ok(format!("/v1/orgs/{}", segment(org)?))
}

impl Spec {
    fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        insert_some(&mut members, "tier", self.tier.as_ref());
        insert_some(&mut members, "status", self.status.as_ref());
        insert_some(&mut members, "models", self.models.as_ref());
        insert_some(&mut members, "labels", labels_patch(&self.label).as_ref());
        insert_some(&mut members, "limits", self.limits.patch());
        insert_some(&mut members, "contacts", self.contacts.as_ref());
        members
    }
}
