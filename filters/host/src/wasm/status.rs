//! Statuses of proxy-wasm.

use super::abi::RawStatus;
use crate::status::{Result, Status};

pub(crate) fn check(status: RawStatus) -> Result<()> {
    Err(match status {
        0 => return Ok(()),
        1 => Status::NotFound,
        2 => Status::BadArgument,
        8 => Status::CasMismatch,
        other => Status::Other(other),
    })
}
