//! Programs that `make` puts below `target/`.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::config::repository;

/// The interpreter with the SDKs of `wasm-tests/sdk/requirements.txt`.
///
/// # Errors
/// It is not there, or has others.
pub fn python() -> Result<PathBuf> {
    let venv = repository().join("target/venv");
    let wanted = std::fs::read(repository().join("wasm-tests/sdk/requirements.txt"))?;
    // scripts/setup-python.sh leaves the list there that it has installed.
    let installed = std::fs::read(venv.join("requirements.installed")).ok();
    let python = venv.join("bin/python");
    if installed != Some(wanted) || !python.is_file() {
        bail!(
            "target/venv has not the Python packages of the SDK tests: `make demo` and `make test` put them there"
        );
    }
    Ok(python)
}
