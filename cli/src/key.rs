//! `tollgate key`: the key itself goes to its owner and is stored nowhere; the row goes into the directory.

use std::io::{IsTerminal, Read as _};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_core::directory::Loader;
use tollgate_core::key::{ApiKey, KeyHash};

/// What to do with keys.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a new key; prints it once, and the row for the directory.
    Mint(Owner),
    /// The row for a key that exists already, read from standard input (never from the command line, which
    /// others can see).
    Import {
        /// Public id to know it by, in logs and usage records.
        #[arg(long)]
        id: String,
        #[command(flatten)]
        owner: Owner,
    },
}

/// Whose key it is.
#[derive(Args)]
pub(crate) struct Owner {
    /// Organization, as under `orgs`.
    #[arg(long)]
    org: String,
    /// Project of that organization; without it the key is the organization's.
    #[arg(long)]
    project: Option<String>,
    /// A name for people, such as `ci`.
    #[arg(long)]
    name: Option<String>,
    /// Endpoints it is good for, as in `--scopes chat,models`; without it all.
    #[arg(long, value_delimiter = ',')]
    scopes: Vec<String>,
    /// Models, as names or patterns; without it what its project has.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// When it ends, as in `2026-12-31T23:59:59Z`.
    #[arg(long)]
    expires_at: Option<String>,
}

impl Command {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Mint(owner) => {
                let mut random = [0; 40];
                getrandom::fill(&mut random).context("no randomness from the operating system")?;
                let key = ApiKey::mint(&random);
                let row = owner.row(key.id(), &key.sha256_hex())?;
                eprintln!("# The key, for its owner. It is shown this once and stored nowhere.");
                println!("{}", key.reveal());
                eprintln!("# Its row, for `keys` in the directory:");
                println!("- {row}");
            }
            Self::Import { id, owner } => {
                if std::io::stdin().is_terminal() {
                    eprintln!("Paste the key, then press Enter and Ctrl-D:");
                }
                let mut key = String::new();
                std::io::stdin()
                    .read_to_string(&mut key)
                    .context("cannot read the key from standard input")?;
                let key = key.trim();
                ensure!(
                    key.len() >= 20,
                    "a key of fewer than 20 characters can be guessed; make a new one instead"
                );
                println!("- {}", owner.row(&id, &KeyHash::of(key.as_bytes()).to_string())?);
            }
        }
        Ok(())
    }
}

impl Owner {
    /// The row as one line of YAML's flow style, which is JSON; checked in a directory that has its tenant.
    fn row(&self, id: &str, sha256: &str) -> Result<Value> {
        let mut row = json!({"id": id, "sha256": sha256, "org": self.org});
        let mut set = |name: &str, value: serde_json::Value, given: bool| {
            if given && let Some(row) = row.as_object_mut() {
                row.insert(name.to_owned(), value);
            }
        };
        set("project", json!(self.project), self.project.is_some());
        set("name", json!(self.name), self.name.is_some());
        set("scopes", json!(self.scopes), !self.scopes.is_empty());
        set("models", json!(self.models), !self.models.is_empty());
        set("expires_at", json!(self.expires_at), self.expires_at.is_some());
        let projects: serde_json::Map<_, _> = self
            .project
            .iter()
            .map(|project| (project.clone(), json!({})))
            .collect();
        let orgs = json!({&self.org: {"projects": projects}});
        let document = json!({"version": 1, "orgs": orgs, "keys": [row]});
        match Loader::load(document.to_string().into_bytes()) {
            Ok(_) => Ok(row),
            Err(errors) => bail!(
                "{}",
                errors
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
        }
    }
}
