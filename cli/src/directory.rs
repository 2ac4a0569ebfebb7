//! `tollgate directory`: what the filter will say of a document, before it is asked.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde_json::Value;
use tollgate_core::directory::Loader;

use crate::client::{Client, GlobalOptions};
use crate::out::{errln, outln, pluralized};

/// What to do with a document.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Check a document (YAML or JSON) as the filter does; says all that is wrong with it.
    Check {
        /// The document: `version`, `orgs` and `keys`.
        file: PathBuf,
    },
    /// The control plane's directory, whole, as JSON: for a server of files that gateways fetch it from.
    Export {
        /// Where to write it, in one step; without it, to standard output.
        file: Option<PathBuf>,
    },
    /// Check it and print it as JSON, for the server that gateways fetch it from.
    Build {
        /// The document: `version`, `orgs` and `keys`.
        file: PathBuf,
    },
}

impl Command {
    pub(crate) fn run(self, options: GlobalOptions) -> Result<()> {
        match self {
            Self::Export { file } => {
                let exported = export(options, file.as_deref());
                tokio::runtime::Runtime::new()?.block_on(exported)?;
            }
            Self::Check { file } => {
                let directory = Loader::load(read(&file)?).map_err(complaint)?;
                outln!(
                    "{}: {} keys of {} organizations",
                    file.display(),
                    directory.keys(),
                    directory.orgs()
                )?;
            }
            Self::Build { file } => {
                let json = read(&file)?;
                Loader::load(json.clone()).map_err(complaint)?;
                outln!(
                    "{}",
                    String::from_utf8(json).context("the document is not UTF-8")?
                )?;
            }
        }
        Ok(())
    }
}

/// Writes what the control plane has gateways fetch, if they would take it.
async fn export(options: GlobalOptions, file: Option<&Path>) -> Result<()> {
    let client = Client::open(options).await?;
    let document = client.get_bytes("/v1/directory").await?;
    let directory = Loader::load(document.to_vec()).map_err(complaint)?;
    let Some(file) = file else {
        let text = core::str::from_utf8(&document).context("the document is not UTF-8")?;
        return Ok(outln!("{text}")?);
    };
    put(file, &document).with_context(|| format!("cannot write {}", file.display()))?;
    let (keys, orgs) = (directory.keys(), directory.orgs());
    errln!(
        "Wrote {}: {} of {}.",
        file.display(),
        pluralized(keys as u64, "key"),
        pluralized(orgs as u64, "organization")
    );
    Ok(())
}

/// Writes a file in one step, so that a server never reads half of it: a new one takes its place. A link to it stays, and
/// what is no file, such as a pipe, is written into.
fn put(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = match file.metadata() {
        Ok(there) if !there.is_file() => {
            return File::options().write(true).open(file)?.write_all(bytes);
        }
        Ok(_) => file.canonicalize()?,
        Err(_) => file.to_owned(),
    };
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    // One that was left behind, or that somebody put there as a link to another file.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut made = File::create_new(&new)?;
    let written = made.write_all(bytes).and_then(|()| std::fs::rename(&new, &file));
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// The document as it is, unchecked.
pub(crate) fn document(file: &PathBuf) -> Result<Value> {
    serde_json::from_slice(&read(file)?)
        .with_context(|| format!("{} is not a directory document", file.display()))
}

/// The document as JSON. YAML is read as YAML; JSON is left as it is, so a million keys take no detour.
fn read(file: &PathBuf) -> Result<Vec<u8>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    if text.trim_start().starts_with('{')
        && serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok()
    {
        return Ok(text.into_bytes());
    }
    let value: Value =
        serde_saphyr::from_str(&text).with_context(|| format!("{} is not YAML", file.display()))?;
    Ok(serde_json::to_vec(&value)?)
}

fn complaint(errors: Vec<tollgate_core::config::ConfigError>) -> anyhow::Error {
    let mut lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let count = lines.len();
    lines.insert(
        0,
        format!(
            "the document would be refused, for {}:",
            pluralized(count, "reason")
        ),
    );
    anyhow::anyhow!(lines.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        // A link to it, and one in the place of what is written first.
        std::fs::write(at("file"), "old").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::fs::write(at("other"), "other").unwrap();
        std::os::unix::fs::symlink("other", at("file.new")).unwrap();
        put(&at("link"), b"new").unwrap();
        assert_eq!(
            (read("file"), read("other")),
            ("new".to_owned(), "other".to_owned())
        );
        assert!(at("link").is_symlink() && !at("file").is_symlink() && !at("file.new").exists());
        put(&at("another"), b"new").unwrap();
        assert_eq!(read("another"), "new");
        // A pipe takes it, and stays one.
        let pipe = at("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        put(&pipe, b"new").unwrap();
        assert!(!pipe.metadata().unwrap().is_file());
        assert_eq!(reader.join().unwrap(), "new");
        assert!(put(folder.path(), b"new").is_err());
    }
}
