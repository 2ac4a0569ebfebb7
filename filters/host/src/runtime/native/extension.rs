//! From Envoy's callbacks to a singleton, on the main thread.

use core::cell::RefCell;
use std::sync::Arc;

use super::panics::caught;
use crate::backend::http::CallAnswer;
use crate::context::{CallContext, RootContext};
use crate::filter::Singleton;
use crate::http::HttpCall;
use crate::native::clockwork::Clockwork;
use crate::native::metric::{Exporter, Owner};
use crate::native::{Handle, abi};
use crate::runtime::accepted;

/// A singleton.
pub struct Root<S: Singleton> {
    singleton: RefCell<S>,
    clockwork: Box<Clockwork>,
    exporter: Exporter,
}

/// Starts it; `None` refuses the configuration, and the log has every reason.
///
/// # Safety
/// On the main thread, by an extension that is being made.
pub unsafe fn config_new<S: Singleton>(envoy: abi::Extension, configuration: &[u8]) -> Option<Root<S>> {
    let clockwork = Box::new(Clockwork::new(envoy));
    let exporter = Exporter::define(Owner::Extension(envoy), S::METRICS.iter().copied().flatten());
    let handle = Handle::Extension(&raw const *clockwork);
    let started = caught(|| {
        let config = S::check(configuration.to_vec())?;
        S::start(Arc::new(config), &mut RootContext(handle)).map_err(|error| vec![error])
    });
    let singleton = RefCell::new(accepted(S::NAME, started?)?);
    // SAFETY: the extension is being made. Envoy waits for nothing of it.
    unsafe { abi::extension_init_complete(envoy) };
    Some(Root {
        singleton,
        clockwork,
        exporter,
    })
}

/// Envoy serves from now on.
pub fn server_initialized<S: Singleton>(root: &Root<S>) {
    root.clockwork.wind();
}

/// The tick period has passed.
pub fn timer_fired<S: Singleton>(root: &Root<S>) {
    with(root, |singleton, handle| singleton.tick(&mut RootContext(handle)));
}

/// A call was answered, or failed.
pub fn call_done<S: Singleton>(root: &Root<S>, call: u64, answer: &CallAnswer) {
    with(root, |singleton, handle| {
        let mut host = CallContext::of(handle, Handle::Call(&raw const *answer));
        singleton.answered(&mut host, HttpCall(call));
    });
}

fn with<S: Singleton>(root: &Root<S>, then: impl FnOnce(&mut S, Handle)) {
    let handle = Handle::Extension(&raw const *root.clockwork);
    let _ = caught(|| {
        if let Ok(mut singleton) = root.singleton.try_borrow_mut() {
            then(&mut singleton, handle);
        }
        root.exporter.flush();
    });
    root.clockwork.wind();
}
