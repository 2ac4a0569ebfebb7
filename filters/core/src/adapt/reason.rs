//! Why attempts are not made: the one list from which details of answers and metrics come.

use crate::reasons::reasons;

reasons! {
    /// The chosen endpoint's metadata names no provider.
    NoProvider "no_provider",
    /// It names one that the configuration has not got.
    UnknownProvider "unknown_provider",
    /// The provider's secret is not there, or is no header's value.
    MissingSecret "missing_secret",
    /// The body can't be read, so its model can't be named as the provider does.
    Malformed "invalid_json",
    /// The filter has no configuration, or something that always is there was not.
    Misconfigured "misconfigured",
}
