//! What Envoy tells of an exchange.

use tollgate_core::flags::Flags;
use tollgate_core::settlement::Exchange;
use tollgate_host::{number, property};

/// The exchange of the current stream.
pub(crate) struct Current;

impl Exchange for Current {
    fn attempts(&self) -> u64 {
        number(&["upstream", "request_attempt_count"])
    }

    fn is_connected(&self) -> bool {
        property(&["upstream", "local_address"]).is_ok_and(|address| !address.is_empty())
    }

    fn details(&self) -> Option<Vec<u8>> {
        property(&["response", "code_details"]).ok()
    }

    fn flags(&self) -> Flags {
        Flags(number(&["response", "flags"]))
    }
}
