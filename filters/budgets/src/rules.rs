//! The rule, and ways to break it.

/// The rule as it is; with the feature `mutations`, perhaps broken in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rules {
    /// How it is broken.
    #[cfg(feature = "mutations")]
    pub broken: Option<Mutation>,
}

/// A broken rule, for tests: without the feature `mutations` there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// The ledger takes a report's numbers as they come, in place of the larger ones.
    LatestReport,
    /// The ledger grants what is not spent yet, in place of what nobody holds.
    GrantUnspent,
    /// A slice that was written off stays so when its holder is heard again.
    StaysWrittenOff,
    /// The holder takes what is granted as an increase.
    AddGrants,
    /// The holder gives back what requests under way have reserved.
    ReturnReserved,
    /// What a holder that died had spent is what it had reported.
    FinalAsReported,
}

impl Rules {
    #[cfg(feature = "mutations")]
    pub(crate) fn breaks(self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    #[cfg(not(feature = "mutations"))]
    pub(crate) const fn breaks(self, _: Mutation) -> bool {
        false
    }
}
