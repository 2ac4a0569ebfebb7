//! Over Envoy's dynamic modules. Workers share one address space: what a filter keeps for all of them is in the library's
//! memory, and what one worker knows on its thread. A panic ends the request that caused it, and nothing else.

mod export;
pub mod extension;
pub mod logger;
mod owed;
pub mod panics;
pub mod streams;
mod ticker;
mod worker;
