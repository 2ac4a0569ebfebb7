//! What is kept for all configurations: a reload neither ends it nor begins it anew.

use tollgate_core::limits::Holds;
use tollgate_core::state::StoreError;
use tollgate_core::workers::{WorkerId, Workers};
use tollgate_host::{Kept, RootContext};

static ID: Kept<Option<WorkerId>> = Kept::new(None);
static HOLDS: Kept<Holds> = Kept::new(Holds::new());

/// Joins the workers, under the id that is kept here; it is taken where there is none.
pub(crate) fn join(host: &mut RootContext) -> Result<Workers, StoreError> {
    ID.with(|id| {
        let workers = Workers::join(host, *id)?;
        *id = Some(workers.id());
        Ok(workers)
    })
}

/// With what is held.
pub(crate) fn holding<T>(then: impl FnOnce(&mut Holds) -> T) -> T {
    HOLDS.with(then)
}
