//! What a host call answers.

/// Why a host call did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// What was asked for isn't there.
    NotFound,
    /// An argument was wrong, or the call isn't allowed in this phase.
    BadArgument,
    /// The value changed since it was read.
    CasMismatch,
    /// Any other status, by its number in the ABI.
    Other(u32),
}

/// A value, or the status that came in its place.
pub type Result<T> = core::result::Result<T, Status>;
