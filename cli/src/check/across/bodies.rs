//! How large a body may be: the router's bound against that of Envoy's routes.

use tollgate_core::config::ByteSize;

use crate::files::envoy_files::{EnvoyFiles, Scope};
use crate::files::finding::Report;

/// What the gateway may add to a body.
const ADDED: u64 = 64 << 10;
/// `uploads.body` where it is not said.
const DEFAULT: u64 = 32 << 20;

/// Checks that Envoy holds whatever the router lets pass.
pub(super) fn check(files: &EnvoyFiles<'_>, scope: &Scope, report: &mut Report) {
    let sizes = scope.router.iter().map(|router| {
        let size = router.text_at(&["uploads", "body"]);
        let size = size.and_then(|size| size.parse::<ByteSize>().ok());
        size.map_or(DEFAULT, |size| size.bytes().get())
    });
    let Some(most) = sizes.max() else { return };
    for limit in &files.survey.body_limits {
        let bytes = limit.text().and_then(|text| text.parse::<u64>().ok());
        if bytes.is_some_and(|bytes| bytes < most + ADDED) {
            let text = format!(
                "is less than the tenant-router's `uploads.body` and 64 KiB, so Envoy refuses bodies that the router takes: expected at least {}",
                most + ADDED
            );
            report.warning(limit.place, text);
        }
    }
}
