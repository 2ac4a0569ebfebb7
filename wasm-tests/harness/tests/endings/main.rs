//! Every ending settles once: 5,000 requests that end in every way, over reloads of all files, and the books after.
//!
//! The model servers' ledgers are the other side of every account. What left no trace with a client nor with a model
//! server is still counted by Envoy, which says how many requests there were.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

mod after;
mod books;
mod crash;
mod plan;
mod soak;
mod stage;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tollgate_harness::models::random::Random;
use tollgate_harness::net;

use books::Books;
use plan::Plan;
use stage::{Seen, Stage};

const REQUESTS: usize = 5_000;
/// Under way at once.
const CLIENTS: usize = 64;
const SEED: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_requests_end_in_every_way_and_each_is_settled_once() {
    let stage = Stage::start("day").await;
    stage.use_some().await;
    let mut dice = Random::new(SEED);
    let plans: Vec<Plan> = (0..REQUESTS)
        .map(|number| Plan::draw(number, stage.keys.len(), &mut dice))
        .collect();

    let next = AtomicUsize::new(0);
    let client = async || {
        let mut seen: Vec<(usize, Seen)> = Vec::new();
        while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
            seen.push((plan.number, stage.perform(plan).await));
        }
        seen
    };
    let begun = async |part: usize| {
        let so_far = async || (next.load(Ordering::Relaxed) >= REQUESTS * part / 8).then_some(());
        net::within(Duration::from_secs(120), so_far).await.unwrap();
    };
    let (seen, overtaken) = tokio::join!(join_all((0..CLIENTS).map(|_| client())), stage.reload_all(begun));
    let mut seen: Vec<(usize, Seen)> = seen.into_iter().flatten().collect();
    seen.sort_by_key(|(number, _)| *number);

    let books = Books::close(&stage).await;
    books.one_record_for_each_request(&seen);
    books.each_ended_as_planned(&plans, &seen);
    books.streams_overtaken_by_a_reload_are_complete(&overtaken);
    books.metrics_say_the_same(&stage).await;

    after::nothing_is_under_way(&stage).await;
    after::limits_stand_as_the_records_say(&stage, &books).await;
    after::places_are_free(&stage).await;
    after::the_rest_is_admitted_and_no_more(&stage).await;
}
