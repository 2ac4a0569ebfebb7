//! From Envoy's callbacks to an access logger. Each worker has one of its own.

use core::cell::{Cell, RefCell};
use std::sync::Arc;

use super::panics::caught;
use crate::context::{LogContext, RootContext};
use crate::filter::AccessLogger;
use crate::native::{Handle, abi};
use crate::runtime::accepted;

/// One configuration of a logger, the same for all workers. What was started with it to see that it can be ends with it.
pub struct Root<L: AccessLogger> {
    config: Arc<L::Config>,
    _started: L,
}

/// One worker's.
pub struct Entry<L>(RefCell<Option<L>>);

/// A checked configuration; `None` refuses it, and the log has every reason.
pub fn config_new<L: AccessLogger>(configuration: &[u8]) -> Option<Root<L>> {
    let checked = caught(|| L::check(configuration.to_vec()));
    let config = Arc::new(accepted(L::NAME, checked?)?);
    let _started = start(&config)?;
    Some(Root { config, _started })
}

/// A worker begins.
pub fn logger_new<L: AccessLogger>(root: &Root<L>) -> Entry<L> {
    Entry(RefCell::new(start(&root.config)))
}

fn start<L: AccessLogger>(config: &Arc<L::Config>) -> Option<L> {
    let period = Cell::new(0);
    let started = caught(|| {
        L::start(
            Arc::clone(config),
            &mut RootContext(Handle::Worker(&raw const period)),
        )
    });
    accepted(L::NAME, started?.map_err(|error| vec![error]))
}

/// Something is to be logged. Of what goes on still, nothing is.
pub fn log<L: AccessLogger>(entry: &Entry<L>, envoy: abi::Logger, kind: u32) {
    if !abi::ENDS.contains(&kind) {
        return;
    }
    let _ = caught(|| {
        if let Ok(Some(logger)) = entry.0.try_borrow_mut().as_deref_mut() {
            logger.log(&mut LogContext::new(Handle::Logger(envoy)));
        }
    });
}
