//! The form of names and patterns in the document.

use crate::config::ConfigError;
use crate::glob::{is_name, is_pattern};

/// A name that becomes a header value.
pub(super) fn check_name(name: &str, path: &str, errors: &mut Vec<ConfigError>) {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(plain) {
        errors.push(ConfigError::expected(
            path,
            name,
            "1 to 64 characters of `A-Z a-z 0-9 . _ -`",
        ));
    }
}

/// Patterns of models.
pub(super) fn check_globs(globs: &[String], path: &str, errors: &mut Vec<ConfigError>) {
    for (at, glob) in globs.iter().enumerate() {
        check_glob(glob, || format!("{path}[{at}]"), errors);
    }
}

/// One pattern of models.
pub(super) fn check_glob(glob: &str, path: impl FnOnce() -> String, errors: &mut Vec<ConfigError>) {
    if !is_pattern(glob) {
        let expected =
            "a model name or pattern: 1 to 128 characters of `A-Z a-z 0-9 . _ - / : @ +`, `*` for any run";
        errors.push(ConfigError::expected(path(), glob, expected));
    }
}

/// As in a catalogue.
pub(super) fn check_cluster(name: &str, path: impl FnOnce() -> String, errors: &mut Vec<ConfigError>) {
    if !is_name(name) {
        let expected = "the name of a cluster: 1 to 128 characters of `A-Z a-z 0-9 . _ - / : @ +`";
        errors.push(ConfigError::expected(path(), name, expected));
    }
}
