//! What happens by itself: freezes and caps end when their time is over, answers to repeated creates are forgotten, and what other
//! servers changed is seen.

use core::convert::Infallible;
use core::time::Duration;
use std::io::Write as _;
use std::sync::Arc;

use crate::access::Caller;
use crate::api::{KEPT, ended};
use crate::documents::{Cap, Freeze, Incident};
use crate::problem::Problem;
use crate::store::{Page, Store, Stored};
use crate::time;

/// How often another server's changes are looked for: a part of the second within which each is in force.
const LOOK: Duration = Duration::from_millis(100);
/// How often freezes and caps are looked through, in looks.
const INCIDENTS: u32 = 5;
/// How often what is old is forgotten, in looks.
const OLD: u32 = 36_000;

/// Does it all, for as long as the server runs.
pub(crate) async fn run(store: Arc<Store>) -> Infallible {
    let mut complained = String::new();
    let mut turn = 0_u32;
    loop {
        let done = step(&store, turn).await;
        let complaint = done.err().map(|problem| problem.to_string()).unwrap_or_default();
        // Each complaint once, and not ten times a second.
        if complaint != complained && !complaint.is_empty() {
            say(&complaint);
        }
        complained = complaint;
        turn = turn.wrapping_add(1);
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells whoever looks at standard error, if anybody does: `eprintln!` panics where nobody can.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "tollgate: {what}");
}

async fn step(store: &Store, turn: u32) -> Result<(), Problem> {
    store.look().await?;
    if turn.is_multiple_of(INCIDENTS) {
        end_those_over::<Freeze>(store, time::now()).await?;
        end_those_over::<Cap>(store, time::now()).await?;
    }
    if turn % OLD == 1 {
        sqlx::query("DELETE FROM idempotency WHERE created_at < $1")
            .bind(time::now() - KEPT)
            .execute(store.pool())
            .await?;
    }
    Ok(())
}

async fn end_those_over<D: Incident>(store: &Store, now: i64) -> Result<(), Problem> {
    let mut after = String::new();
    loop {
        let page = Page {
            org: "",
            after: &after,
            limit: 1_000,
        };
        let all = store.in_force::<D>(page).await?;
        let Some(last) = all.last() else { return Ok(()) };
        after = last.document.id();
        for one in all.iter().filter(|one| is_over(&one.document, now)) {
            let caller = Caller::system();
            let [.., over] = D::TRAIL;
            let mut write = store.begin(&caller, over, None).await?;
            // As it is now: somebody may have ended it.
            let one: Stored<D> = write.get(&one.document.id()).await?;
            ended(&mut write, &one, &caller).await?;
            write.commit(one.document.org()).await?;
        }
    }
}

/// Whether its time is over.
fn is_over(one: &impl Incident, now: i64) -> bool {
    let terms = one.terms();
    let until = terms.until.as_deref().map(|until| time::parse("until", until));
    terms.ended_at.is_none() && until.is_some_and(|until| until.is_ok_and(|until| until <= now))
}
