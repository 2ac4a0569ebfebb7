//! From the proxy's callbacks to what a filter is: over proxy-wasm, and over Envoy's dynamic modules.

mod export;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
#[cfg(target_arch = "wasm32")]
pub mod wasm;
