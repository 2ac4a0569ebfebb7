//! `tollgate schema`: JSON Schemas of what operators write, for their editors.

use anyhow::{Context as _, Result};
use clap::Args;
use tollgate_core::schema;

use crate::out::outln;

/// Print the JSON Schema of a document or of a filter's configuration.
#[derive(Args)]
pub(crate) struct Schema {
    /// Of what.
    #[arg(value_parser = schema::NAMES)]
    name: String,
}

impl Schema {
    pub(crate) fn run(self) -> Result<()> {
        let schema = schema::of(&self.name).context("there is no such schema")?;
        outln!("{}", serde_json::to_string_pretty(&schema)?)?;
        Ok(())
    }
}
