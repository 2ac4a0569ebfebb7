//! SQLite's file and the log beside it: whether they are still those that were opened. What is written into one that was
//! deleted, or that another has replaced, is lost with the process.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A file that was opened, by its name.
#[derive(Debug, Clone)]
pub(crate) struct OpenedFile {
    path: PathBuf,
    identity: Identity,
    log: PathBuf,
    /// Of the log, once there is one: it stays as long as a connection does.
    log_identity: Arc<OnceLock<Identity>>,
}

/// Device and inode.
type Identity = (u64, u64);

impl OpenedFile {
    /// The file that is there now.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(&std::fs::metadata(path)?),
            log: {
                let mut log = path.as_os_str().to_owned();
                log.push("-wal");
                PathBuf::from(log)
            },
            log_identity: Arc::default(),
        })
    }

    /// Fails where a name is not that of the opened file any more, with what became of it. A look takes some microseconds.
    pub(crate) fn ensure_there(&self) -> Result<(), String> {
        ensure_same(&self.path, self.identity)?;
        match self.log_identity.get() {
            Some(known) => ensure_same(&self.log, *known),
            None => {
                if let Ok(now) = std::fs::metadata(&self.log) {
                    self.log_identity.get_or_init(|| identity(&now));
                }
                Ok(())
            }
        }
    }
}

fn ensure_same(path: &Path, known: Identity) -> Result<(), String> {
    let what = match std::fs::metadata(path) {
        Ok(now) if identity(&now) == known => return Ok(()),
        Ok(_) => "replaced".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "deleted".to_owned(),
        Err(error) => format!("made inaccessible ({error})"),
    };
    Err(format!(
        "the database's file `{}` was {what} under the server, and nothing is written any more: put it back, or start the \
         server anew",
        path.display()
    ))
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}
