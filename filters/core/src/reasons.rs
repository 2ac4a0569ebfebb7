//! Why requests are refused: of each room one list, from which details of answers and metrics come.

/// Lists the reasons once, for the type and its names.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident $name:literal,)*) => {
        /// The operators' name of a refusal: a metric's label and Envoy's response code details.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $reason,)*
        }

        impl Reason {
            /// Every reason, in order.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// As it is written.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                }
            }
        }
    };
}

pub(crate) use reasons;
