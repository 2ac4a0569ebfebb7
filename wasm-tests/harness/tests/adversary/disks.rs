//! A disk that is full: requests go on, and an operator can see that records are lost.

use tollgate_harness::net::eventually;

use crate::stage::{CHAT, Stage};

#[tokio::test]
async fn a_full_disk_is_counted_and_refuses_nobody() {
    let stage = Stage::with(|options| options.access_log("/dev/full")).await;
    let failed = async || stage.gateway.stats().await.counter("filesystem.write_failed");
    assert_eq!(failed().await, 0);
    stage.ask(CHAT).send().await.expect(200);
    eventually("a line that could not be written is counted", async || {
        (failed().await > 0).then_some(())
    })
    .await;
    stage.ask(CHAT).send().await.expect(200);
    // The other logger has a file of its own.
    eventually("the usage records go on", async || {
        (stage.gateway.usage_log().records().len() == 2).then_some(())
    })
    .await;
}
