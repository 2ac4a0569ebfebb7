//! What a VM keeps for all of its configurations: a reload neither ends it nor begins it anew.

use core::cell::Cell;

use tollgate_core::limits::Holds;
use tollgate_core::state::StoreError;
use tollgate_core::workers::{WorkerId, Workers};
use tollgate_host::RootContext;

std::thread_local! {
    static ID: Cell<Option<WorkerId>> = const { Cell::new(None) };
    static HOLDS: Cell<Holds> = const { Cell::new(Holds::new()) };
}

/// Joins the workers as this VM, which takes an id if it has none.
pub(crate) fn join(host: &mut RootContext) -> Result<Workers, StoreError> {
    let workers = Workers::join(host, ID.get())?;
    ID.set(Some(workers.id()));
    Ok(workers)
}

/// With what this VM holds.
pub(crate) fn holding<T>(then: impl FnOnce(&mut Holds) -> T) -> T {
    let mut holds = HOLDS.take();
    let answer = then(&mut holds);
    HOLDS.set(holds);
    answer
}
