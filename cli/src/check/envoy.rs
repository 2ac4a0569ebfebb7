//! Envoy itself, where there is one: how old it is, and what it says of a bootstrap.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::complaint::Complaint;
use crate::files::finding::{Place, Report};
use crate::files::survey::{Form, Survey};
use crate::files::tree::Node;

/// How long it may look at a file.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An Envoy on this machine.
#[derive(Debug)]
pub(super) struct Envoy {
    binary: PathBuf,
    /// Major and minor, where it tells them.
    version: Option<(u32, u32)>,
}

impl Envoy {
    /// The one that is named, else the one in `ENVOY_BIN`, else that of this repository, else that of `PATH`.
    pub(super) fn find(named: Option<&Path>) -> Option<Self> {
        let from_variable = || std::env::var_os("ENVOY_BIN").map(PathBuf::from);
        let fetched = || Some(PathBuf::from("target/tools/envoy")).filter(|path| path.is_file());
        let binary = named
            .map(Path::to_owned)
            .or_else(from_variable)
            .or_else(fetched)
            .or_else(in_path)?;
        let said = Command::new(&binary).arg("--version").output().ok()?;
        let version = version(&String::from_utf8_lossy(&said.stdout));
        Some(Self { binary, version })
    }

    /// Whether it is old enough to lack what a file uses.
    pub(super) fn check_age(&self, survey: &Survey, roots: &[std::rc::Rc<Node>], report: &mut Report) {
        let Some(version) = self.version else { return };
        let mut needs = |place: Place, minor: u32, what: &str| {
            if version < (1, minor) {
                let (major, found) = version;
                report.error(
                    place,
                    format!(
                        "{what} is for Envoy 1.{minor} and later, and {} is {major}.{found}",
                        self.binary.display()
                    ),
                );
            }
        };
        for plugin in &survey.plugins {
            match plugin.form {
                Form::Wasm => needs(plugin.node.place, 40, "a filter of ours as a module"),
                Form::Native => needs(plugin.node.place, 39, "the native library"),
            }
        }
        for root in roots {
            root.walk(&mut |node| {
                let kind = crate::files::survey::type_of(node);
                if kind.ends_with(".PriorityGroupClusterSpecifier") {
                    needs(node.place, 40, "a model with several targets");
                }
            });
        }
    }

    /// What it says of a bootstrap; `None` where it has no complaint.
    pub(super) fn validate(&self, bootstrap: &Path) -> Option<Complaint> {
        let mut command = Command::new(&self.binary);
        command
            .args([
                "--mode",
                "validate",
                "--log-level",
                "error",
                "--disable-hot-restart",
                // What files that are watched need; a bootstrap's own names count first.
                "--service-node",
                "check",
                "--service-cluster",
                "check",
                "-c",
            ])
            .arg(bootstrap)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut run = || -> std::io::Result<Option<Complaint>> {
            let mut child = command.spawn()?;
            let stderr = child.stderr.take();
            let reader = std::thread::spawn(move || stderr.map(std::io::read_to_string));
            let since = Instant::now();
            let status = loop {
                match child.try_wait()? {
                    Some(status) => break status,
                    None if since.elapsed() > TIMEOUT => {
                        child.kill()?;
                        child.wait()?;
                        let text = format!("it gave no answer within {} s", TIMEOUT.as_secs());
                        return Ok(Some(Complaint::plain(text)));
                    }
                    None => std::thread::sleep(Duration::from_millis(20)),
                }
            };
            let said = reader.join().ok().flatten().transpose()?.unwrap_or_default();
            Ok((!status.success()).then(|| Complaint::of(&said)))
        };
        run().unwrap_or_else(|error| {
            let text = format!("{} can't be run: {error}", self.binary.display());
            Some(Complaint::plain(text))
        })
    }
}

fn in_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders = std::env::split_paths(&path);
    folders.find_map(|folder| Some(folder.join("envoy")).filter(|binary| binary.is_file()))
}

/// From `envoy  version: HASH/1.40.0/Clean/RELEASE/BoringSSL`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.split_once("version: ")?.1.split('/').nth(1)?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_its_age() {
        let said = "\n/usr/bin/envoy  version: d2cb7d2/1.40.0/Clean/RELEASE/BoringSSL\n";
        assert_eq!(version(said), Some((1, 40)));
        assert_eq!(version("another program"), None);
    }
}
