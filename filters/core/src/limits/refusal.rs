//! Why limits refuse: the one list from which answers, metrics and their documents come.

use std::borrow::Cow;

use crate::error::{ApiError, Retry};

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The limit at this place in the table is reached.
    Limit(usize),
    /// The model is at its capacity.
    Capacity,
    /// It can't be checked, as the store failed.
    Unavailable,
    /// A budget has nothing for it.
    Budget,
}

impl Refusal {
    /// The counter of refusals for this reason; that of limits has one for each limit.
    pub const fn metric(self) -> &'static str {
        match self {
            Self::Limit(_) => "tollgate_limit_refusals",
            Self::Capacity => "tollgate_capacity_refusals",
            Self::Unavailable => "tollgate_limit_store_refusals",
            Self::Budget => "tollgate_budget_refusals",
        }
    }
}

/// Lists the codes once, for the type, its names and what a test compares with the documents.
macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident $status:literal $name:literal,)*) => {
        /// What a customer's client is told: `error.code`, and the reason in the details of the answer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $code,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// As it is written.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)*
                }
            }

            /// The HTTP status that it comes with.
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$code => $status,)*
                }
            }
        }
    };
}

codes! {
    /// A limit is reached, and will have room.
    RateLimited 429 "rate_limit_exceeded",
    /// What is granted by the day is spent.
    QuotaSpent 429 "insufficient_quota",
    /// The request alone is more than the limit.
    TooLarge 429 "request_too_large_for_limit",
    /// The model is at its capacity.
    SlowDown 429 "slow_down",
    /// The limits can't be checked.
    Unavailable 503 "rate_limit_unavailable",
}

impl Code {
    /// The error with this code.
    pub(crate) fn error(
        self,
        kind: &'static str,
        message: impl Into<Cow<'static, str>>,
        retry: Retry,
    ) -> ApiError {
        ApiError {
            status: self.status(),
            kind,
            code: self.name(),
            param: None,
            message: message.into(),
            retry,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn document(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../docs")
            .join(name);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_documents_have_every_code_and_metric() {
        let contract = document("contract.md");
        for code in Code::ALL {
            let row = format!("| {} | `{}` |", code.status(), code.name());
            assert!(contract.contains(&row), "{row}");
        }
        let record = document("usage-record.md");
        for refusal in [
            Refusal::Limit(0),
            Refusal::Capacity,
            Refusal::Unavailable,
            Refusal::Budget,
        ] {
            let row = format!("| `{}` | counter |", refusal.metric());
            assert!(record.contains(&row), "{row}");
        }
    }

    #[test]
    fn what_no_waiting_mends_counts_as_a_refusal_for_what_it_is() {
        let details = format!("tollgate_{}", Code::TooLarge.name());
        assert_eq!(crate::refusals::TOO_LARGE, details.as_bytes());
    }
}
