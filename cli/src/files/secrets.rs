//! Keys that stand where anybody can read them.

use tollgate_core::key::{Form, KEY_LEN, PREFIX, form};

use super::finding::{Place, Report};
use super::source::Source;

/// Reports each whole key of ours, in comments too, and shows none.
pub(crate) fn check(source: &Source, report: &mut Report) {
    for (line, text) in (1..).zip(source.text.lines()) {
        for (at, _) in text.match_indices(PREFIX) {
            let key = text.get(at..at + KEY_LEN).unwrap_or_default();
            if form(key.as_bytes()) == Form::Ours {
                let column = text.get(..at).unwrap_or_default().chars().count() + 1;
                let place = Place {
                    file: source.file,
                    line,
                    column: u32::try_from(column).unwrap_or(u32::MAX),
                };
                let text = "a key stands here in clear: anybody who reads the file can use it. Revoke it, and keep only the SHA-256 that `tollgate key row` prints";
                report.error(place, text);
            }
        }
    }
}
