//! `tollgate scan`: finds our keys in files, such as a repository. The checksum tells a key from what only looks like one.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use tollgate_core::key::{Form, KEY_LEN, PREFIX, form, masked};

/// Find our keys in files, by their form and checksum; exits with 1 where there are any.
#[derive(Args)]
pub(crate) struct Scan {
    /// Files and folders; standard input without any.
    paths: Vec<PathBuf>,
}

impl Scan {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut found = 0;
        if self.paths.is_empty() {
            if std::io::stdin().is_terminal() {
                eprintln!("Reading standard input; name files or folders to look in those.");
            }
            found += read(std::io::stdin().lock(), "standard input")?;
        }
        for path in &self.paths {
            found += walk(path)?;
        }
        match found {
            0 => eprintln!("No keys."),
            1 => eprintln!("1 key. Revoke it: tollgate key revoke ID"),
            more => eprintln!("{more} keys. Revoke them: tollgate key revoke ID"),
        }
        Ok(if found == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn walk(path: &Path) -> Result<usize> {
    let about = std::fs::symlink_metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if about.is_dir() {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .with_context(|| format!("cannot read {}", path.display()))?;
        entries.sort_unstable();
        return entries.iter().map(|entry| walk(entry)).sum();
    }
    // A link leads out of the folder, or round in it; a pipe never ends.
    if !about.is_file() {
        return Ok(0);
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    read(file, &path.display().to_string())
}

/// Says where keys are, masked. A line may be as long as it likes.
fn read(input: impl Read, name: &str) -> Result<usize> {
    /// What is looked at in one piece of a long line.
    const PIECE: u64 = 1 << 20;
    let mut input = BufReader::new(input);
    let (mut line, mut found) = (1_u64, 0);
    let mut text = Vec::new();
    loop {
        // What a key cut in two would have of it stays for the next piece.
        let read = input
            .by_ref()
            .take(PIECE)
            .read_until(b'\n', &mut text)
            .with_context(|| format!("cannot read {name}"))?;
        let whole = text.ends_with(b"\n") || read == 0;
        let end = if whole {
            text.len()
        } else {
            text.len().saturating_sub(KEY_LEN)
        };
        let mut at = 0;
        while let Some(key) = text
            .get(at..)
            .and_then(|rest| Some(at + memchr::memmem::find(rest, PREFIX.as_bytes())?))
        {
            at = key;
            if at >= end {
                break;
            }
            let candidate = text.get(at..at + KEY_LEN).unwrap_or_default();
            if form(candidate) == Form::Ours {
                let id = candidate.get(PREFIX.len()..PREFIX.len() + 12).unwrap_or_default();
                println!(
                    "{name}:{line}: {} ({})",
                    String::from_utf8_lossy(id),
                    masked(candidate)
                );
                found += 1;
                at += KEY_LEN;
            } else {
                at += PREFIX.len();
            }
        }
        if read == 0 {
            return Ok(found);
        }
        text.drain(..end.max(at.min(text.len())));
        if whole {
            text.clear();
            line += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_core::key::ApiKey;

    #[test]
    fn keys_are_found_wherever_they_stand() {
        let key = ApiKey::mint(&[7; 40]);
        let key = key.reveal();
        for before in [0, 1, 100, (1 << 20) - 70, (1 << 20) - 30, (1 << 20) - 1, 1 << 20] {
            let text = format!("{}{key}\"\nnothing\n", " ".repeat(before));
            assert_eq!(read(text.as_bytes(), "").unwrap(), 1, "{before}");
        }
        assert_eq!(read(format!("{key}{key}\n{key}").as_bytes(), "").unwrap(), 3);
        let typo = key.replace("sk-tg-", "sk-tg-x");
        assert_eq!(
            read(format!("{typo} sk-tg- {}", &key[..60]).as_bytes(), "").unwrap(),
            0
        );
    }
}
