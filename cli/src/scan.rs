//! `tollgate scan`: finds our keys in files, such as a repository. The checksum tells a key from what only looks like one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use tollgate_core::key::{Form, KEY_LEN, PREFIX, form, masked};

use crate::out::{self, StdoutError, errln, outln};

/// Find our keys in files, by their form and checksum; exits with 1 where there are any.
#[derive(Args)]
pub(crate) struct Scan {
    /// Files, pipes and folders; standard input without any. Links are followed here, and skipped within folders.
    paths: Vec<PathBuf>,
}

/// What was found, and what was left out.
#[derive(Default)]
struct Findings {
    /// Ids of keys.
    ids: BTreeSet<String>,
    /// Where they stand.
    places: u64,
    /// Links and special files within folders.
    skipped: u64,
    /// What could not be read.
    failed: u64,
}

impl Scan {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut findings = Findings::default();
        if self.paths.is_empty() {
            if io::stdin().is_terminal() {
                errln!("Reading standard input; name files or folders to look in those.");
            }
            findings.stream(io::stdin().lock(), "standard input")?;
        }
        for path in &self.paths {
            // What is named is meant, whatever it is; a pipe is read until its end.
            match std::fs::metadata(path) {
                Ok(about) if about.is_dir() => findings.folder(path)?,
                Ok(_) => findings.file(path)?,
                Err(error) => findings.unreadable(path, &error),
            }
        }
        errln!("{}", findings.outcome());
        Ok(if findings.places > 0 {
            ExitCode::FAILURE
        } else if findings.failed > 0 {
            ExitCode::from(2)
        } else {
            ExitCode::SUCCESS
        })
    }
}

impl Findings {
    fn folder(&mut self, path: &Path) -> Result<(), StdoutError> {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => {
                self.unreadable(path, &error);
                return Ok(());
            }
        };
        let mut paths = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => paths.push(entry.path()),
                Err(error) => self.unreadable(path, &error),
            }
        }
        paths.sort_unstable();
        for path in paths {
            match std::fs::symlink_metadata(&path) {
                Ok(about) if about.is_dir() => self.folder(&path)?,
                Ok(about) if about.is_file() => self.file(&path)?,
                // A link leads out of the folder, or round in it; a pipe may never end.
                Ok(_) => self.skipped += 1,
                Err(error) => self.unreadable(&path, &error),
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), StdoutError> {
        match File::open(path) {
            Ok(file) => self.stream(file, &path.display().to_string())?,
            Err(error) => self.unreadable(path, &error),
        }
        Ok(())
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        errln!(
            "cannot read {}: {error}",
            out::sanitized(&path.display().to_string())
        );
        self.failed += 1;
    }

    /// Says where keys are, masked. A line may be as long as it likes.
    fn stream(&mut self, input: impl Read, name: &str) -> Result<(), StdoutError> {
        /// What is looked at in one piece of a long line.
        const PIECE: u64 = 1 << 20;
        let name = out::sanitized(name);
        let mut input = BufReader::new(input);
        let mut line = 1_u64;
        let mut text = Vec::new();
        loop {
            // What a key cut in two would have of it stays for the next piece.
            let read = match input.by_ref().take(PIECE).read_until(b'\n', &mut text) {
                Ok(read) => read,
                Err(error) => {
                    self.unreadable(Path::new(&name), &error);
                    return Ok(());
                }
            };
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
                    let id = String::from_utf8_lossy(id).into_owned();
                    outln!("{name}:{line}: {id} ({})", masked(candidate))?;
                    self.ids.insert(id);
                    self.places += 1;
                    at += KEY_LEN;
                } else {
                    at += PREFIX.len();
                }
            }
            if read == 0 {
                return Ok(());
            }
            text.drain(..end.max(at.min(text.len())));
            if whole {
                text.clear();
                line += 1;
            }
        }
    }

    /// In one line: what was not looked at, what was found, and what to do.
    fn outcome(&self) -> String {
        /// So many ids are named.
        const NAMED: usize = 5;
        let ids: Vec<&str> = self.ids.iter().map(String::as_str).collect();
        let found = match ids.as_slice() {
            [] => "No keys.".to_owned(),
            [id] => format!("1 key. Revoke it: tollgate key revoke {id}"),
            ids if ids.len() <= NAMED => {
                let each: Vec<String> = ids.iter().map(|id| format!("tollgate key revoke {id}")).collect();
                format!("{} keys. Revoke them: {}", ids.len(), each.join("; "))
            }
            ids => format!("{} keys. Revoke them: tollgate key revoke ID", ids.len()),
        };
        let counted = |count: u64, of: &str| match count {
            0 => String::new(),
            count => format!("{of}: {count}. "),
        };
        let skipped = counted(self.skipped, "Links and special files skipped");
        let failed = counted(self.failed, "Paths that could not be read");
        format!("{skipped}{failed}{found}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_core::key::ApiKey;

    /// In how many places of a text keys are found.
    fn places(text: &str) -> u64 {
        let mut findings = Findings::default();
        findings.stream(text.as_bytes(), "").unwrap();
        findings.places
    }

    #[test]
    fn keys_are_found_wherever_they_stand() {
        let key = ApiKey::mint(&[7; 40]);
        let key = key.reveal();
        for before in [0, 1, 100, (1 << 20) - 70, (1 << 20) - 30, (1 << 20) - 1, 1 << 20] {
            let text = format!("{}{key}\"\nnothing\n", " ".repeat(before));
            assert_eq!(places(&text), 1, "{before}");
        }
        assert_eq!(places(&format!("{key}{key}\n{key}")), 3);
        let typo = key.replace("sk-tg-", "sk-tg-x");
        assert_eq!(places(&format!("{typo} sk-tg- {}", &key[..60])), 0);
    }
}
