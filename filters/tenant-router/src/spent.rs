//! Attempts that a model server began on and that were given up or lost, until their request ends. Envoy's router tells
//! a filter of the last attempt alone; the access logger of attempts sees each, on the same thread and in the same VM.

use core::cell::RefCell;
use std::collections::VecDeque;

use tollgate_core::spent::Spent;
use tollgate_host::{HeaderMap, Map, header, property};

/// An attempt is logged before its request is; what is left over is of requests that nobody asks about any more.
const MOST: usize = 4_096;

/// One attempt: whose, and on which connection.
struct Attempt {
    request: Vec<u8>,
    local_address: Vec<u8>,
}

std::thread_local! {
    static ATTEMPTS: RefCell<VecDeque<Attempt>> = const { RefCell::new(VecDeque::new()) };
}

/// Takes what was noted of the request that ends now.
pub fn take() -> Spent {
    ATTEMPTS.with(|attempts| match attempts.try_borrow_mut() {
        Ok(mut attempts) if !attempts.is_empty() => of_this_request(&mut attempts),
        _ => Spent::default(),
    })
}

fn of_this_request(attempts: &mut VecDeque<Attempt>) -> Spent {
    let mut spent = Spent::default();
    let Ok(Some(id)) = header(Map::Request, "x-request-id") else {
        return spent;
    };
    let address = local_address();
    attempts.retain(|attempt| {
        let own = attempt.request == id;
        if own {
            spent.attempts = spent.attempts.saturating_add(1);
            spent.last |= Some(&attempt.local_address) == address.as_ref();
        }
        !own
    });
    spent
}

/// Notes the attempt that is being logged, if it is one. `headers` are those of its answer.
pub(crate) fn note(headers: Option<&HeaderMap>) {
    if headers.is_some_and(|headers| headers.get(b":status").is_some()) {
        return;
    }
    // Without a connection nobody received it.
    let (Some(local_address), Ok(Some(request))) = (local_address(), header(Map::Request, "x-request-id"))
    else {
        return;
    };
    ATTEMPTS.with(|attempts| {
        if let Ok(mut attempts) = attempts.try_borrow_mut() {
            if attempts.len() >= MOST {
                attempts.pop_front();
            }
            attempts.push_back(Attempt {
                request,
                local_address,
            });
        }
    });
}

/// Our end of the connection of the attempt; `None` where there was none.
fn local_address() -> Option<Vec<u8>> {
    let address = property(&["upstream", "local_address"]).ok()?;
    (!address.is_empty()).then_some(address)
}
