//! `tollgate project`.

use anyhow::{Context as _, Result};
use axum::http::Method;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::change::{Clear, ensure_labels_have_values, insert_some, labels_patch};
use crate::client::{Client, segment};
use crate::show;

/// What to do with projects.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List those of an organization.
    List {
        /// The organization.
        org: String,
    },
    /// Show a project.
    Show {
        /// `ORG/PROJECT`.
        project: String,
    },
    /// Create a project.
    Create {
        /// `ORG/PROJECT`. It can't be changed.
        project: String,
        #[command(flatten)]
        spec: Spec,
    },
    /// Change a project.
    Set {
        /// `ORG/PROJECT`.
        project: String,
        #[command(flatten)]
        spec: Spec,
        #[command(flatten)]
        clear: Clear,
    },
    /// Remove a project that has no keys any more.
    Remove {
        /// `ORG/PROJECT`.
        project: String,
    },
}

/// What is set; what is not named stays.
#[derive(Args)]
pub(crate) struct Spec {
    /// Whether it is in use.
    #[arg(long, value_parser = ["active", "suspended"])]
    status: Option<String>,
    /// Models, as names or patterns; without it what the organization has.
    #[arg(long, value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// A label, as `--label cost_center=42`; without a value it is removed.
    #[arg(long)]
    label: Vec<String>,
    /// Whom to tell.
    #[arg(long, value_delimiter = ',')]
    contacts: Option<Vec<String>>,
}

impl Command {
    pub(crate) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::List { org } => {
                let projects = client
                    .list_all(&format!("/v1/orgs/{}/projects", segment(&org)?))
                    .await?;
                show::list(client, &projects, &["id", "status", "models", "frozen_by"])?;
            }
            Self::Show { project } => show::object(client, &client.get(&path(&project)?).await?)?,
            Self::Create { project, spec } => {
                ensure_labels_have_values(&spec.label)?;
                let (org, id) = split(&project)?;
                let mut body = spec.members();
                body.insert("id".to_owned(), json!(id));
                let path = format!("/v1/orgs/{}/projects", segment(org)?);
                let answer = client
                    .write(Method::POST, &path, Some(Value::Object(body)))
                    .await?;
                show::changed(client, &answer, |_| format!("Created project {project}."))?;
            }
            Self::Set { project, spec, clear } => {
                let body = clear.patch(spec.members())?;
                let answer = client.write(Method::PATCH, &path(&project)?, Some(body)).await?;
                show::changed(client, &answer, |_| format!("Changed project {project}."))?;
            }
            Self::Remove { project } => {
                let answer = client.write(Method::DELETE, &path(&project)?, None).await?;
                show::changed(client, &answer, |_| format!("Removed project {project}."))?;
            }
        }
        Ok(())
    }
}

fn split(project: &str) -> Result<(&str, &str)> {
    project
        .split_once('/')
        .with_context(|| format!("`{project}` does not name a project: expected `ORG/PROJECT`"))
}

fn path(project: &str) -> Result<String> {
    let (org, project) = split(project)?;
    Ok(format!(
        "/v1/orgs/{}/projects/{}",
        segment(org)?,
        segment(project)?
    ))
}

impl Spec {
    fn members(&self) -> Map<String, Value> {
        let mut members = Map::new();
        insert_some(&mut members, "status", self.status.as_ref());
        insert_some(&mut members, "models", self.models.as_ref());
        insert_some(&mut members, "labels", labels_patch(&self.label).as_ref());
        insert_some(&mut members, "contacts", self.contacts.as_ref());
        members
    }
}
