//! A Redis for the books of a fleet, in a folder of its own, where no other program meets it.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tollgate_harness::net;
use tollgate_harness::process::Process;

/// One, and its folder. Dropped, both go.
#[derive(Debug)]
pub(crate) struct Redis {
    _process: Process,
    folder: TempDir,
}

impl Redis {
    /// Starts Redis, or Valkey; `None` where neither is installed.
    ///
    /// # Errors
    /// It does not come up; in a sentence for people.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let folder = tempfile::Builder::new().prefix("tollgate-redis-").tempdir()?;
        for program in ["redis-server", "valkey-server"] {
            let mut command = Command::new(program);
            let log = File::create(folder.path().join("log"))?;
            command.args(["--port", "0", "--save", "", "--unixsocket", "redis.sock"]);
            command.current_dir(&folder).stdout(log.try_clone()?).stderr(log);
            match Process::spawn(command) {
                Ok(process) => return Self::up(process, folder).await.map(Some),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("{program} can't be started")),
            }
        }
        Ok(None)
    }

    async fn up(process: Process, folder: TempDir) -> Result<Self> {
        let socket = folder.path().join("redis.sock");
        let listens = async || UnixStream::connect(&socket).ok();
        if net::within(Duration::from_secs(10), listens).await.is_none() {
            let said = std::fs::read_to_string(folder.path().join("log"))?;
            bail!("Redis does not come up; it says:\n{said}");
        }
        Ok(Self {
            _process: process,
            folder,
        })
    }

    /// For `--fleet-store`.
    pub(crate) fn address(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("redis.sock").display())
    }
}
