//! From Envoy's callbacks to an access logger. Each worker has one of its own.

use core::cell::{Cell, RefCell};
use std::sync::Arc;

use super::panics::caught;
use crate::context::{LogContext, RootContext};
use crate::filter::AccessLogger;
use crate::native::{Handle, abi};
use crate::runtime::accepted;

/// One configuration of a logger, the same for all workers.
pub struct Root<L: AccessLogger>(Arc<L::Config>);

/// One worker's.
pub struct Entry<L>(RefCell<Option<L>>);

/// A checked configuration; `None` refuses it, and the log has every reason.
pub fn config_new<L: AccessLogger>(configuration: &[u8]) -> Option<Root<L>> {
    let checked = caught(|| L::check(configuration.to_vec()));
    accepted(L::NAME, checked?).map(|config| Root(Arc::new(config)))
}

/// A worker begins.
pub fn logger_new<L: AccessLogger>(root: &Root<L>) -> Entry<L> {
    let period = Cell::new(0);
    let started = caught(|| {
        L::start(
            Arc::clone(&root.0),
            &mut RootContext(Handle::Worker(&raw const period)),
        )
    });
    let logger = started.and_then(|started| accepted(L::NAME, started.map_err(|error| vec![error])));
    Entry(RefCell::new(logger))
}

/// Something is to be logged.
pub fn log<L: AccessLogger>(entry: &Entry<L>, envoy: abi::Logger) {
    let _ = caught(|| {
        if let Ok(Some(logger)) = entry.0.try_borrow_mut().as_deref_mut() {
            logger.log(&mut LogContext::new(Handle::Logger(envoy)));
        }
    });
}
