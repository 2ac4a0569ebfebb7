//! SQLite's file: whether it is still the one that was opened. What is written into one that was deleted, or that another has
//! replaced, is lost with the process.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A file that was opened, by its name.
#[derive(Debug, Clone)]
pub(crate) struct OpenedFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl OpenedFile {
    /// The file that is there now.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(&std::fs::metadata(path)?),
        })
    }

    /// Fails where the name is not that of the opened file any more, with what became of it. A look takes some microseconds.
    pub(crate) fn ensure_there(&self) -> Result<(), String> {
        let what = match std::fs::metadata(&self.path) {
            Ok(now) if identity(&now) == self.identity => return Ok(()),
            Ok(_) => "replaced".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "deleted".to_owned(),
            Err(error) => format!("made inaccessible ({error})"),
        };
        Err(format!(
            "the database's file `{}` was {what} under the server, and nothing is written any more: put it back, or start \
             the server anew",
            self.path.display()
        ))
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
