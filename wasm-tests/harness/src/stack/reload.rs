//! Says what became of an edit, and helps the editors that Envoy does not notice.
//!
//! Envoy sees a file that was put in place by a rename, as `mv` and careful editors do. Many editors write into
//! the file instead; here, for a developer's run, such a file is renamed into its own place.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::envoy::{COUNTERS, Gateway};

/// The filters that have files of their own.
const FILTERS: [&str; 2] = ["key-auth", "tenant-router"];

/// The files of a run that Envoy watches.
const WATCHED: [&str; 5] = [
    "listener.yaml",
    "routes.yaml",
    "clusters.yaml",
    "filters/key-auth.yaml",
    "filters/tenant-router.yaml",
];

/// What tells one state of a file from another.
type Stamp = (u64, i64, i64, u64);

/// Watches the files of a run.
#[derive(Debug)]
pub(super) struct Edits {
    dir: PathBuf,
    stamps: BTreeMap<&'static str, Option<Stamp>>,
    outcomes: [Outcome; FILTERS.len()],
    logged: usize,
}

impl Edits {
    pub(super) async fn watch(gateway: &Gateway) -> Self {
        let dir = gateway.directory().join("envoy");
        let stamps = WATCHED
            .iter()
            .map(|file| (*file, stamp(&dir.join(file))))
            .collect();
        Self {
            dir,
            stamps,
            outcomes: outcomes(gateway).await,
            logged: gateway.log().len(),
        }
    }

    /// One look. Lines for people about what happened since the last one.
    pub(super) async fn look(&mut self, gateway: &Gateway) -> Vec<String> {
        for (file, known) in &mut self.stamps {
            let path = self.dir.join(file);
            let now = stamp(&path);
            let in_place = matches!((*known, now), (Some(old), Some(new)) if old.0 == new.0 && old != new);
            *known = if in_place && rename_into_place(&path).is_ok() {
                stamp(&path)
            } else {
                now
            };
        }
        let now = outcomes(gateway).await;
        let before = std::mem::replace(&mut self.outcomes, now);
        let mut lines = Vec::new();
        for (filter, (before, now)) in FILTERS.iter().zip(before.iter().zip(now)) {
            if now.taken > before.taken {
                lines.push(format!("{filter}.yaml: taken"));
            }
            if now.refused > before.refused {
                lines.push(format!(
                    "{filter}.yaml: refused, and the old one goes on serving:"
                ));
            }
        }
        let log = gateway.log();
        let new = log.get(self.logged..).unwrap_or_default();
        let whole = new.rfind('\n').map_or(0, |end| end + 1);
        self.logged += whole;
        lines.extend(
            new[..whole]
                .lines()
                .filter_map(complaint)
                .map(|line| format!("  {line}")),
        );
        lines
    }
}

/// Why a filter has never had a configuration, if that is so: Envoy then serves all the same, and refuses all.
pub(super) async fn refused(gateway: &Gateway) -> Option<String> {
    let outcomes = outcomes(gateway).await;
    let why = || {
        gateway
            .log()
            .lines()
            .filter_map(complaint)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let never = |outcome: &Outcome| outcome.taken == 0 && outcome.refused > 0;
    outcomes.iter().any(never).then(why)
}

/// What a line of Envoy's log complains of, without what Envoy says around a filter's own words.
fn complaint(line: &str) -> Option<&str> {
    let loud = ["[warning]", "[error]", "[critical]"]
        .iter()
        .any(|level| line.contains(level));
    let echo = [
        "Failed to configure base Wasm plugin",
        "Unable to create Wasm plugin",
    ];
    if !loud || echo.iter().any(|words| line.contains(words)) {
        return None;
    }
    Some(
        line.split_once(" configuration refused: ")
            .map_or(line, |(_, reason)| reason),
    )
}

/// How often a filter's file was taken, and refused.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    taken: u64,
    refused: u64,
}

async fn outcomes(gateway: &Gateway) -> [Outcome; FILTERS.len()] {
    let stats = gateway.stats().await;
    FILTERS.map(|filter| {
        let count = |what| stats.counter(&format!("{COUNTERS}.{filter}.update_{what}"));
        Outcome {
            taken: count("success"),
            refused: count("rejected"),
        }
    })
}

fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path)
        .ok()
        .map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

fn rename_into_place(path: &Path) -> std::io::Result<()> {
    // Not in a watched directory until it is whole.
    let beside = path.with_extension("renamed");
    fs::copy(path, &beside)?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filters_reason_is_shown_alone() {
        let said = "[7][error][wasm] [context.cc:1157] wasm log key-auth tollgate.key-auth: key-auth: \
                    configuration refused: directory.inline.orgs: found nothing";
        assert_eq!(complaint(said), Some("directory.inline.orgs: found nothing"));
        assert_eq!(
            complaint("[7][error][wasm] Wasm VM failed Failed to configure base Wasm plugin"),
            None
        );
        assert_eq!(complaint("[7][info][main] starting"), None);
        let other = "[7][warning][config] gRPC config: no such cluster";
        assert_eq!(complaint(other), Some(other));
    }

    #[test]
    fn a_file_written_in_place_gets_a_new_inode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.yaml");
        fs::write(&path, "a").unwrap();
        let before = stamp(&path).unwrap();
        rename_into_place(&path).unwrap();
        let after = stamp(&path).unwrap();
        assert_ne!(before.0, after.0);
        assert_eq!(fs::read_to_string(&path).unwrap(), "a");
    }
}
