//! Files that nobody but their owner should read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::out::{errln, sanitized};

/// Warns where others can read or write a file, which may be meant so.
pub(crate) fn warn_if_shared(file: &Path, what: &str) {
    let mode = file.metadata().map_or(0, |file| file.permissions().mode());
    if mode & 0o077 != 0 {
        let file = tollgate_control::secret::masked(&sanitized(&file.display().to_string()));
        errln!("tollgate: warning: others than its owner can read or write {what}: chmod 600 {file}");
    }
}
