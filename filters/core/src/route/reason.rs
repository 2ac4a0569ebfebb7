//! Why requests are not routed: the one list from which details of answers and metrics come.

use crate::reasons::reasons;

reasons! {
    /// No identity in front of the router, or no configuration.
    Misconfigured "misconfigured",
    /// No such endpoint.
    UnknownUrl "unknown_url",
    /// Another method is served there.
    Method "method_not_allowed",
    /// A body of another kind is served there.
    MediaType "unsupported_media_type",
    /// The body is in another charset than UTF-8.
    Charset "unsupported_charset",
    /// The body is coded in a way that is not decoded here.
    ContentEncoding "unsupported_content_encoding",
    /// The body is too large.
    TooLarge "request_too_large",
    /// The body can't be read.
    Malformed "invalid_json",
    /// The body names no model.
    MissingModel "missing_model",
    /// The model does not exist, or not for this organization.
    UnknownModel "model_not_found",
    /// The project has no grant for it.
    ProjectNotGranted "project_model_not_granted",
    /// The key has none.
    KeyNotGranted "key_model_not_granted",
    /// The model is not served at this endpoint.
    WrongEndpoint "model_not_at_endpoint",
    /// The answer may not be that long.
    OutputTooLong "output_too_long",
    /// The input is longer than the window.
    ContextTooLong "context_length_exceeded",
    /// More is read or written than the gateway sees.
    Unmetered "unmetered",
    /// Every target is broken.
    Unavailable "model_unavailable",
    /// An operator took the model out of use for the caller's tier.
    Shed "model_shed",
    /// An operator took every target out of use.
    Drained "targets_drained",
    /// Too many of the caller's requests were refused.
    TooManyRefused "refusals_limited",
    /// Too much is in upload.
    Uploads "uploads_limited",
    /// The body came too slowly.
    SlowUpload "slow_upload",
}
