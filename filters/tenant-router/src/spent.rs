//! Attempts that came to nothing, until their request ends. The access logger of attempts sees each, on the same thread
//! and in the same VM.

use core::cell::RefCell;

use tollgate_core::spent::{Attempts, Spent, Unanswered};
use tollgate_host::{Attribute, HeaderMap, LogContext};

std::thread_local! {
    static ATTEMPTS: RefCell<Attempts> = const { RefCell::new(Attempts::new()) };
}

/// Takes what was noted of the request that ends now.
pub fn take(host: &LogContext) -> Spent {
    ATTEMPTS.with(|attempts| match attempts.try_borrow_mut() {
        Ok(mut attempts) if !attempts.is_empty() => match request(host) {
            Some(request) => attempts.take(&request, local_address(host).as_deref()),
            None => Spent::default(),
        },
        _ => Spent::default(),
    })
}

/// Notes the attempt that is being logged, if it is one. `headers` are those of its answer.
pub(crate) fn note(host: &LogContext, headers: Option<&HeaderMap>) {
    let answered = headers.is_some_and(|headers| headers.get(b":status").is_some());
    let Some(attempt) = Unanswered::of(answered, || local_address(host), || request(host)) else {
        return;
    };
    ATTEMPTS.with(|attempts| {
        if let Ok(mut attempts) = attempts.try_borrow_mut() {
            attempts.note(attempt);
        }
    });
}

/// The id of the request.
fn request(host: &LogContext) -> Option<Vec<u8>> {
    host.request.get("x-request-id").ok().flatten()
}

/// Our end of the connection of the attempt; `None` where there was none.
fn local_address(host: &LogContext) -> Option<Vec<u8>> {
    let address = host.stream.attribute(Attribute::UpstreamLocalAddress).ok()?;
    (!address.is_empty()).then_some(address)
}
