//! From the proxy's callbacks to what a filter is: over proxy-wasm, and over Envoy's dynamic modules.

mod export;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
#[cfg(target_arch = "wasm32")]
pub mod wasm;

use tollgate_core::config::ConfigError;

use crate::log::{Level, log};

/// What came of a request's body while it waited, as [`crate::HttpFilter::request_body`] is told of it.
#[derive(Default)]
struct Waiting(Option<(Option<usize>, bool)>);

/// What was checked or started, or the log says why not.
fn accepted<T>(name: &str, checked: Result<T, Vec<ConfigError>>) -> Option<T> {
    let log_each = |errors: Vec<ConfigError>| {
        for error in errors {
            log(Level::Error, &format!("{name}: configuration refused: {error}"));
        }
    };
    checked.map_err(log_each).ok()
}
