//! Every way in which a host call can fail.

use std::fmt;

use tollgate_vm::{Hostcall, Status, World, module};

/// Everything but success.
const STATUSES: [Status; 10] = [
    Status::NotFound,
    Status::BadArgument,
    Status::SerializationFailure,
    Status::ParseFailure,
    Status::InvalidMemoryAccess,
    Status::Empty,
    Status::CasMismatch,
    Status::InternalFailure,
    Status::BrokenConnection,
    Status::Unimplemented,
];

/// One call that fails: each time, or the `nth` time alone.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    call: Hostcall,
    status: Status,
    nth: Option<u32>,
}

/// Each host call that the filter's module imports, failing in each way: none that it can make is left out.
pub(crate) fn all_failures(filter: &str, most: u32) -> Vec<Failure> {
    failures(&module(filter).hostcalls(), most)
}

/// Each of `calls` with each status: for ever, and the first, second, … up to the `most`th time alone.
pub(crate) fn failures(calls: &[Hostcall], most: u32) -> Vec<Failure> {
    let times = || std::iter::once(None).chain((1..=most).map(Some));
    let of = |call: Hostcall| {
        let statuses = STATUSES.into_iter();
        statuses.flat_map(move |status| times().map(move |nth| Failure { call, status, nth }))
    };
    calls.iter().copied().flat_map(of).collect()
}

impl Failure {
    /// From now on it fails so, and nothing else does.
    pub(crate) fn befall(self, world: &World) {
        world.clear_faults();
        let fault = world.fault(self.call, self.status);
        let _ = match self.nth {
            Some(nth) => fault.nth(nth),
            None => fault,
        };
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nth {
            Some(nth) => write!(f, "{:?} number {nth} fails with {:?}", self.call, self.status),
            None => write!(f, "each {:?} fails with {:?}", self.call, self.status),
        }
    }
}
