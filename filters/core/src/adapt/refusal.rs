//! Why an attempt is not made. Envoy does not retry what a filter of the upstream chain answers, so each of these
//! is the end of the request.

use super::Reason;
use crate::body::Malformed;
use crate::error::{ApiError, Retry};
use crate::reply::{Reader, Reply};

/// Why an attempt is answered instead of made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The chosen endpoint's metadata names no provider.
    NoProvider,
    /// It names one that the configuration has not got.
    UnknownProvider,
    /// The provider's secret is not there, or is no header's value.
    MissingSecret,
    /// The body can't be read, so its model can't be named as the provider does.
    Malformed(Malformed),
    /// The filter has no configuration, or something that always is there was not.
    Misconfigured,
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Refusal {
    /// Its place in the list of reasons.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NoProvider => Reason::NoProvider,
            Self::UnknownProvider => Reason::UnknownProvider,
            Self::MissingSecret => Reason::MissingSecret,
            Self::Malformed(_) => Reason::Malformed,
            Self::Misconfigured => Reason::Misconfigured,
        }
    }

    /// What answers in place of the provider.
    pub fn reply(&self, reader: &Reader) -> Reply {
        Reply::error(&self.answer(), self.reason().name(), reader)
    }

    /// What the customer is told.
    pub fn answer(&self) -> ApiError {
        match self {
            Self::Malformed(malformed) => ApiError {
                status: 400,
                kind: "invalid_request_error",
                code: "invalid_json",
                param: malformed.param,
                message: malformed.reason.clone().into(),
                retry: Retry::Unsaid,
            },
            // Which of them it was is the operator's business.
            Self::NoProvider | Self::UnknownProvider | Self::MissingSecret | Self::Misconfigured => {
                ApiError {
                    status: 500,
                    kind: "server_error",
                    code: "gateway_misconfigured",
                    param: None,
                    message:
                        "The gateway is not configured to serve this request. Please contact its operator."
                            .into(),
                    retry: Retry::Unsaid,
                }
            }
        }
    }
}
