//! What is asked for, and where it goes: the second filter of the chain. It needs the identity that key-auth leaves.

pub mod attempts;
pub mod filter;
mod metrics;
pub mod module;
pub mod spent;
