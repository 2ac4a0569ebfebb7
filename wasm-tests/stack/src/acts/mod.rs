//! The acts of the tour that end servers and edit files while customers call: one file an act.
//!
//! Each starts a gateway of its own from the repository's `envoy/` and shows its exchanges on the [`Bill`].

mod ask;
mod bill;
mod fleet;
mod flood;
mod keys;
mod limits;
mod load;
mod routing;

use std::time::Duration;

use anyhow::Result;

use bill::Bill;

/// Plays all of them; `Ok` where every exchange was as promised.
///
/// # Errors
/// A gateway can't start, an edit is refused, or an exchange was not as promised; in a sentence for people.
pub(super) async fn play() -> Result<()> {
    let mut bill = Bill::default();
    routing::act(&mut bill).await?;
    limits::act(&mut bill).await?;
    keys::act(&mut bill).await?;
    bill.end()
}

/// Plays the one on a fleet, by itself; `Ok` where no limit was passed, and all else was as promised. `window` is how long
/// a limit is to be used in full before that counts.
///
/// # Errors
/// As of [`play`].
pub(super) async fn play_fleet(window: Duration) -> Result<()> {
    let mut bill = Bill::default();
    fleet::act(&mut bill, window).await?;
    bill.end()
}
