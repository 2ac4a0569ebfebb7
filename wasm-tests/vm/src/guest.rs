//! The module's memory, seen from a host call.

use wasmtime::Caller;

use crate::host::Host;
use crate::status::{Halt, Status};

/// A host call's surroundings: the host's state and the calling module.
pub(crate) type Env<'a> = Caller<'a, Host>;

/// The number the module gets.
pub(crate) fn reply(result: Result<(), Halt>) -> wasmtime::Result<i32> {
    match result {
        Ok(()) => Ok(Status::Ok.code()),
        Err(Halt::Status(status)) => Ok(status.code()),
        Err(Halt::Trap(trap)) => Err(trap),
    }
}

/// The `size` bytes at `at`.
pub(crate) fn read(env: &Env<'_>, at: u32, size: u32) -> Result<Vec<u8>, Status> {
    let memory = env.data().memory.ok_or(Status::InvalidMemoryAccess)?;
    let start = at as usize;
    let bytes = memory.data(env).get(start..start + size as usize);
    bytes.map(<[u8]>::to_vec).ok_or(Status::InvalidMemoryAccess)
}

/// The same as text, for a fault's subject and the log; bytes that are no UTF-8 become `U+FFFD`.
pub(crate) fn text(env: &Env<'_>, at: u32, size: u32) -> Result<String, Status> {
    Ok(String::from_utf8_lossy(&read(env, at, size)?).into_owned())
}

pub(crate) fn write(env: &mut Env<'_>, at: u32, bytes: &[u8]) -> Result<(), Status> {
    let memory = env.data().memory.ok_or(Status::InvalidMemoryAccess)?;
    memory
        .write(env, at as usize, bytes)
        .map_err(|_| Status::InvalidMemoryAccess)
}

pub(crate) fn write_u32(env: &mut Env<'_>, at: u32, value: u32) -> Result<(), Status> {
    write(env, at, &value.to_le_bytes())
}

/// Puts `bytes` into memory the module allocates, and where they are and how many into the two places given.
/// Nothing is allocated for no bytes: the module gets a null pointer.
pub(crate) fn give(env: &mut Env<'_>, bytes: &[u8], to: (u32, u32)) -> Result<(), Halt> {
    let size = u32::try_from(bytes.len()).map_err(|_| Status::InternalFailure)?;
    let mut at = 0;
    if size > 0 {
        let allocate = env.data().allocate.clone().ok_or(Status::InvalidMemoryAccess)?;
        at = allocate.call(&mut *env, size)?;
        if at == 0 {
            return Err(Status::InvalidMemoryAccess.into());
        }
        write(env, at, bytes)?;
    }
    write_u32(env, to.0, at)?;
    write_u32(env, to.1, size)?;
    Ok(())
}
