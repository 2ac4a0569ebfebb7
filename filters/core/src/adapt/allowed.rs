//! What may pass where a provider has a credential of ours: to it of a request, and from it of an answer.
//!
//! Providers add headers of their own, and clients too, whenever they like; so these are lists of what is known to be
//! needed, and an operator adds what a provider wants besides.

use crate::headers::{Name, Names};

/// Of requests.
static REQUEST: Names<21> = Names::new([
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "content-encoding",
    "content-length",
    "content-type",
    "openai-beta",
    "transfer-encoding",
    "user-agent",
    // The gateway's own: by it a provider's support finds a request.
    "x-request-id",
    // The SDKs', of the SDK itself; `remove_headers: ["x-stainless-*"]` keeps them from a provider too.
    "x-stainless-arch",
    "x-stainless-async",
    "x-stainless-helper-method",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-read-timeout",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
]);

/// Of answers.
static ANSWER: Names<23> = Names::new([
    "accept-ranges",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "pragma",
    "retry-after",
    "retry-after-ms",
    "trailer",
    "transfer-encoding",
    "vary",
    "x-accel-buffering",
    "x-content-type-options",
    "x-should-retry",
]);

pub(super) fn to_provider(name: &[u8]) -> bool {
    name.starts_with(b":") || REQUEST.has(Name::of(name))
}

pub(super) fn from_provider(name: &[u8]) -> bool {
    name.starts_with(b":") || ANSWER.has(Name::of(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::{ends_here, is_not_a_models, tells_limits};

    #[test]
    fn nothing_is_allowed_that_passes_nowhere() {
        assert!(REQUEST.iter().is_sorted_by(|a, b| a < b) && ANSWER.iter().is_sorted_by(|a, b| a < b));
        for name in REQUEST.iter() {
            assert!(!ends_here(name.as_bytes()), "{name}");
        }
        for name in ANSWER.iter() {
            assert!(
                !is_not_a_models(name.as_bytes()) && !tells_limits(name.as_bytes()),
                "{name}"
            );
        }
    }
}
