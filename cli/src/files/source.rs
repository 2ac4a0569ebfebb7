//! The files to read, and their text.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::finding::{Place, Report};

/// The largest file that is read. A directory of many keys is a matter of `tollgate directory check`.
const MAX_BYTES: u64 = 32 << 20;
/// A byte order mark.
const MARK: &str = "\u{feff}";
/// Folders in folders.
const MAX_LEVELS: usize = 32;

/// A file that is there.
#[derive(Debug)]
pub(crate) struct Source {
    /// As it was given, or found below what was.
    pub(crate) path: PathBuf,
    /// The same from the root.
    pub(crate) full: PathBuf,
    pub(crate) file: u32,
    /// Whether it was named, and not found in a folder: then it has to be something that is known.
    pub(crate) named: bool,
    /// Whether it began with a byte order mark, which is not in the text.
    pub(crate) marked: bool,
    pub(crate) text: String,
}

/// Reads every file; what can't be read is reported.
pub(crate) fn read(paths: &[PathBuf], report: &mut Report) -> Vec<Source> {
    let mut walk = Walk {
        seen: BTreeSet::new(),
        sources: Vec::new(),
        report,
    };
    for path in paths {
        walk.path(path, true, 0);
    }
    walk.sources
}

struct Walk<'r> {
    /// Folders and files by what they are once all links are followed.
    seen: BTreeSet<PathBuf>,
    sources: Vec<Source>,
    report: &'r mut Report,
}

impl Walk<'_> {
    fn path(&mut self, path: &Path, named: bool, level: usize) {
        let known = match fs::canonicalize(path).and_then(|full| Ok((fs::metadata(&full)?, full))) {
            Ok((found, full)) => self.seen.insert(full).then_some(found),
            Err(error) => return self.refuse(path, &format!("can't be read: {error}")),
        };
        match known {
            Some(found) if found.is_dir() && !named && is_yaml(path) => {
                self.refuse(path, "is a folder, and Envoy would look for a file of this name");
            }
            Some(found) if found.is_dir() => self.folder(path, level),
            Some(found) if !found.is_file() => self.refuse(path, "is no regular file"),
            Some(found) if found.len() > MAX_BYTES => self.refuse(path, &too_large(found.len())),
            Some(_) => self.file(path, named),
            None => {}
        }
    }

    fn folder(&mut self, path: &Path, level: usize) {
        if level > MAX_LEVELS {
            return self.refuse(path, "is nested too deep in folders");
        }
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.refuse(path, &format!("can't be read: {error}")),
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.iter().filter(|path| !is_hidden(path)) {
            if is_yaml(path) || path.is_dir() {
                self.path(path, false, level + 1);
            }
        }
    }

    fn file(&mut self, path: &Path, named: bool) {
        let file = self.report.file(path.display().to_string());
        match contents(path) {
            Ok(bytes) => {
                let marked = bytes.starts_with(MARK.as_bytes());
                if let Some(text) = text(bytes, file, self.report) {
                    self.sources.push(Source {
                        path: path.to_owned(),
                        full: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
                        file,
                        named,
                        marked,
                        text,
                    });
                }
            }
            Err(error) => self
                .report
                .error(Place::start(file), format!("can't be read: {error}")),
        }
    }

    fn refuse(&mut self, path: &Path, why: &str) {
        let file = self.report.file(path.display().to_string());
        self.report.error(Place::start(file), why);
    }
}

fn too_large(bytes: u64) -> String {
    format!(
        "has {} MiB, and files of up to {} MiB are read: `tollgate directory check` reads a large directory document",
        bytes >> 20,
        MAX_BYTES >> 20
    )
}

/// No more than the bound, however a file grows meanwhile.
fn contents(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The bytes as text, without a byte order mark; what is no UTF-8 is reported at its first byte.
fn text(bytes: Vec<u8>, file: u32, report: &mut Report) -> Option<String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        report.error(Place::start(file), "is UTF-16: save it as UTF-8");
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(text.strip_prefix(MARK).map(ToOwned::to_owned).unwrap_or(text)),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let before = error.as_bytes().get(..good).unwrap_or_default();
            let place = end_of(&String::from_utf8_lossy(before), file);
            report.error(place, "is not UTF-8 from this byte on: save the file as UTF-8");
            None
        }
    }
}

/// The place behind a text.
fn end_of(text: &str, file: u32) -> Place {
    let lines = text.matches('\n').count();
    let line = text.rsplit('\n').next().unwrap_or_default();
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX - 1) + 1;
    Place {
        file,
        line: number(lines),
        column: number(line.chars().count()),
    }
}

fn is_yaml(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    matches!(ending, Some("yaml" | "yml" | "json"))
}

/// Kubernetes keeps the files of a ConfigMap in hidden folders beside the links to them.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with('.'))
}
