//! The results a host call can give, with the ABI's numbers.

/// What a host call answers. The numbers are proxy-wasm's; a module sees them as an `i32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Status {
    /// It was done.
    Ok = 0,
    /// No such key, property, header, queue or function.
    NotFound = 1,
    /// An argument is out of range, or the thing asked for does not exist in this phase.
    BadArgument = 2,
    /// The host has the value but cannot turn it into bytes.
    SerializationFailure = 3,
    /// The host could not read what the module sent.
    ParseFailure = 4,
    /// A pointer outside of the module's memory, or the module gave no memory for an answer.
    InvalidMemoryAccess = 6,
    /// A shared queue with nothing in it.
    Empty = 7,
    /// Shared data was changed since it was read.
    CasMismatch = 8,
    /// The host failed by itself, as when a cluster has no room for a call.
    InternalFailure = 10,
    /// An upstream connection broke; seen only by `proxy_get_status`.
    BrokenConnection = 11,
    /// The host does not offer this.
    Unimplemented = 12,
}

impl Status {
    pub(crate) fn code(self) -> i32 {
        self as i32
    }
}

/// Why a host call stops early: with a status for the module, or by the module's own trap.
pub(crate) enum Halt {
    Status(Status),
    Trap(wasmtime::Error),
}

impl From<Status> for Halt {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<wasmtime::Error> for Halt {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}
