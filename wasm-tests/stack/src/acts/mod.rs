//! The acts of the tour that end servers and edit files while customers call: one file an act.
//!
//! Each starts a gateway of its own from the repository's `envoy/` and shows its exchanges on the [`Bill`].

mod ask;
mod bill;
mod flood;
mod keys;
mod limits;
mod load;
mod routing;

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
