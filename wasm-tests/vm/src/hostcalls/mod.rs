//! The host calls of proxy-wasm 0.2.1, a file for each family. Each says what Envoy does where it would
//! surprise.

mod buffers;
mod callouts;
mod maps;
mod metrics;
mod misc;
mod properties;
mod shared;
mod stream;

use wasmtime::{Engine, Linker};

use crate::host::Host;

/// Everything a module may import, under `env`.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    misc::link(&mut linker)?;
    properties::link(&mut linker)?;
    maps::link(&mut linker)?;
    buffers::link(&mut linker)?;
    stream::link(&mut linker)?;
    shared::link(&mut linker)?;
    metrics::link(&mut linker)?;
    callouts::link(&mut linker)?;
    Ok(linker)
}
