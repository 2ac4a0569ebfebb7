//! Says what became of an edit, and helps the editors that Envoy does not notice.
//!
//! Envoy sees a file that was put in place by a rename, as `mv` and careful editors do. Many editors write into
//! the file instead; here, for a developer's run, such a file is renamed into its own place.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tollgate_harness::Gateway;
use tollgate_harness::envoy::COUNTERS;
use tollgate_harness::stats::Stats;

/// What tells one state of a file from another.
type Stamp = (u64, i64, i64, u64);

/// Watches the files of a run.
#[derive(Debug)]
pub(super) struct Edits {
    dir: PathBuf,
    files: BTreeMap<String, File>,
    logged: usize,
}

/// A file as it was last seen.
#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    text: Vec<u8>,
    /// What Envoy had made of it before the last look.
    outcome: Outcome,
    /// Whether it was written in place, and has to be renamed once it stays as it is.
    in_place: bool,
    /// An edit of which nothing was said yet: what Envoy had made of the file before it.
    edited: Option<Outcome>,
}

impl Edits {
    pub(super) async fn watch(gateway: &Gateway) -> Self {
        let dir = gateway.directory().join("envoy");
        let stats = gateway.stats().await;
        let files = names(&dir).into_iter().map(|name| {
            let file = File {
                stamp: stamp(&dir.join(&name)),
                text: fs::read(dir.join(&name)).unwrap_or_default(),
                outcome: outcome(&stats, &name),
                ..File::default()
            };
            (name, file)
        });
        Self {
            files: files.collect(),
            logged: gateway.log().len(),
            dir,
        }
    }

    /// One look. Lines for people about what happened since the last one.
    pub(super) async fn look(&mut self, gateway: &Gateway) -> Vec<String> {
        for name in names(&self.dir) {
            let path = self.dir.join(&name);
            self.files.entry(name).or_default().look(&path);
        }
        let stats = gateway.stats().await;
        let mut lines: Vec<String> = self
            .files
            .iter_mut()
            .filter_map(|(name, file)| file.became(name, outcome(&stats, name)))
            .collect();
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

impl File {
    /// Notes an edit, and has Envoy notice one that was made in place.
    fn look(&mut self, path: &Path) {
        let before = self.stamp;
        self.stamp = stamp(path);
        if self.stamp != before {
            // An editor may be in the middle of it: it is renamed at the next look, if it stays like this.
            self.in_place |= matches!((before, self.stamp), (Some(old), Some(new)) if old.0 == new.0);
            let text = fs::read(path).unwrap_or_default();
            if text != self.text {
                self.text = text;
                self.edited.get_or_insert(self.outcome);
            }
        } else if std::mem::take(&mut self.in_place) && rename_into_place(path).is_ok() {
            self.stamp = stamp(path);
        }
    }

    /// What became of an edit, once that is known. Envoy reads every file of a directory when one of them is replaced, so
    /// its counters alone don't tell which one was edited.
    fn became(&mut self, name: &str, now: Outcome) -> Option<String> {
        self.outcome = now;
        let before = self.edited?;
        let said = if self.in_place {
            return None;
        } else if now.refused > before.refused {
            format!("{name}: refused, and the old one goes on serving:")
        } else if now.taken > before.taken {
            format!("{name}: taken")
        } else if now == Outcome::default() {
            format!("{name}: no part of this run, or read at start alone")
        } else {
            return None;
        };
        self.edited = None;
        Some(said)
    }
}

/// The files that a run may be edited in.
fn names(dir: &Path) -> Vec<String> {
    let within = |place: &str| {
        let entries = fs::read_dir(dir.join(place)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter(|name| name.ends_with(".yaml"))
            .map(|name| format!("{place}{name}"))
            .collect::<Vec<_>>()
    };
    [within(""), within("filters/")].concat()
}

/// Why a filter has never had a configuration, if that is so: Envoy then serves all the same, and refuses all.
pub(super) async fn refused(gateway: &Gateway) -> Option<String> {
    let stats = gateway.stats().await;
    let why = || {
        gateway
            .log()
            .lines()
            .filter_map(complaint)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let outcomes = ["key-auth", "tenant-router", "rate-limit"]
        .map(|filter| outcome(&stats, &format!("filters/{filter}.yaml")));
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

/// How often a file was taken, and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outcome {
    taken: u64,
    refused: u64,
}

fn outcome(stats: &Stats, name: &str) -> Outcome {
    let prefix = match name {
        "listener.yaml" => "listener_manager.lds".to_owned(),
        "routes.yaml" => "http.gateway.rds.gateway".to_owned(),
        "clusters.yaml" => "cluster_manager.cds".to_owned(),
        "filters/upstream-adapter.yaml" => {
            COUNTERS.replace("http_filter", "upstream_http_filter") + ".upstream-adapter"
        }
        _ => {
            let filter = name
                .strip_prefix("filters/")
                .unwrap_or(name)
                .trim_end_matches(".yaml")
                // Both forms of it are called so.
                .trim_end_matches("-native");
            format!("{COUNTERS}.{filter}")
        }
    };
    let count = |what| stats.counter(&format!("{prefix}.update_{what}"));
    Outcome {
        taken: count("success"),
        // What is no YAML is a failure to Envoy.
        refused: count("rejected") + count("failure"),
    }
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

    fn outcome(taken: u64, refused: u64) -> Outcome {
        Outcome { taken, refused }
    }

    #[test]
    fn what_is_said_is_about_the_file_that_was_edited() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        fs::write(&path, "a").unwrap();
        let mut file = File::default();
        file.look(&path);
        (file.edited, file.in_place) = (None, false);
        // Envoy read it again for the sake of another.
        assert_eq!(file.became("a.yaml", outcome(1, 0)), None);
        fs::write(&path, "in place").unwrap();
        file.look(&path);
        assert_eq!(file.became("a.yaml", outcome(2, 0)), None, "it may be half of it");
        file.look(&path);
        assert_eq!(
            file.became("a.yaml", outcome(3, 0)).as_deref(),
            Some("a.yaml: taken")
        );
        assert_eq!(file.became("a.yaml", outcome(4, 0)), None, "said once");
        let beside = dir.path().join("b");
        fs::write(&beside, "renamed").unwrap();
        fs::rename(&beside, &path).unwrap();
        file.look(&path);
        assert!(
            file.became("a.yaml", outcome(4, 1))
                .unwrap()
                .starts_with("a.yaml: refused")
        );
        let mut other = File::default();
        other.look(&path);
        assert!(
            other
                .became("b.yaml", outcome(0, 0))
                .unwrap()
                .starts_with("b.yaml: no part")
        );
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
