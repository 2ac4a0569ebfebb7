//! The configuration of the logger that writes usage records itself.

use std::path::PathBuf;

use serde::Deserialize;

use crate::config::{ConfigError, from_json};

/// Where it writes to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The usage log: a file, begun where there is none.
    pub file: PathBuf,
    /// A folder for journals; best in memory, such as `/dev/shm/tollgate`.
    pub journal: PathBuf,
    /// Whether the levels of limits are kept as well, and a restart begins with them.
    #[serde(default)]
    pub restore_limits: bool,
}

impl Config {
    /// Reads a configuration; what is wrong with it is reported.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        from_json(json).map_err(|error| vec![error])
    }
}
