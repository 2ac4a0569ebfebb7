//! What is wrong, and where.

use std::collections::BTreeSet;
use std::fmt;

use tollgate_core::config::ConfigError;

/// A place in a file; line and column count from one, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// Which of the files that were read, in the order of [`Report::file`].
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    /// Where a file begins.
    pub(crate) const fn start(file: u32) -> Self {
        Self {
            file,
            line: 1,
            column: 1,
        }
    }
}

/// What comes of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// It would be refused, or can't do what it says.
    Error,
    /// It may be meant.
    Warning,
}

/// All findings, each once and in the order of files and lines.
#[derive(Debug, Default)]
pub(crate) struct Report {
    files: Vec<String>,
    findings: BTreeSet<(Place, Severity, String)>,
}

impl Report {
    /// Takes up a file; its number.
    pub(crate) fn file(&mut self, name: String) -> u32 {
        self.files.push(name);
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// How many files were taken up.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// The name of a file, as it was given.
    pub(crate) fn name(&self, file: u32) -> &str {
        let name = self.files.get(file as usize);
        name.map_or("?", String::as_str)
    }

    pub(crate) fn error(&mut self, place: Place, text: impl Into<String>) {
        self.add(place, Severity::Error, text.into());
    }

    pub(crate) fn warning(&mut self, place: Place, text: impl Into<String>) {
        self.add(place, Severity::Warning, text.into());
    }

    /// How many there are of each kind.
    pub(crate) fn count(&self, severity: Severity) -> usize {
        let found = self.findings.iter();
        found.filter(|(_, found, _)| *found == severity).count()
    }

    fn add(&mut self, place: Place, severity: Severity, text: String) {
        self.findings.insert((place, severity, masked(&text)));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, severity, text) in &self.findings {
            let name = self.name(place.file);
            let kind = match severity {
                Severity::Error => "",
                Severity::Warning => "warning: ",
            };
            writeln!(f, "{name}:{}:{}: {kind}{text}", place.line, place.column)?;
        }
        Ok(())
    }
}

/// On one line, and with every key in it masked, as configuration errors are: output ends up in logs of builds.
pub(crate) fn masked(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    ConfigError::new("", line).problem
}
