//! Attempts that came to nothing, until their request ends. The access logger of attempts sees each, on the same thread
//! and in the same VM.

use core::cell::RefCell;

use tollgate_core::spent::{Attempts, Spent, Unanswered};
use tollgate_host::{HeaderMap, Map, header, property};

std::thread_local! {
    static ATTEMPTS: RefCell<Attempts> = const { RefCell::new(Attempts::new()) };
}

/// Takes what was noted of the request that ends now.
pub fn take() -> Spent {
    ATTEMPTS.with(|attempts| match attempts.try_borrow_mut() {
        Ok(mut attempts) if !attempts.is_empty() => match request() {
            Some(request) => attempts.take(&request, local_address().as_deref()),
            None => Spent::default(),
        },
        _ => Spent::default(),
    })
}

/// Notes the attempt that is being logged, if it is one. `headers` are those of its answer.
pub(crate) fn note(headers: Option<&HeaderMap>) {
    let answered = headers.is_some_and(|headers| headers.get(b":status").is_some());
    let Some(attempt) = Unanswered::of(answered, local_address, request) else {
        return;
    };
    ATTEMPTS.with(|attempts| {
        if let Ok(mut attempts) = attempts.try_borrow_mut() {
            attempts.note(attempt);
        }
    });
}

/// The id of the request.
fn request() -> Option<Vec<u8>> {
    header(Map::Request, "x-request-id").ok().flatten()
}

/// Our end of the connection of the attempt; `None` where there was none.
fn local_address() -> Option<Vec<u8>> {
    let address = property(&["upstream", "local_address"]).ok()?;
    (!address.is_empty()).then_some(address)
}
