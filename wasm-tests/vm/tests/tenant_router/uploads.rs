//! What is in upload is counted by all workers together, and each looks after its own.

use std::time::Duration;

use serde_json::json;
use tollgate_vm::{Hostcall, Status, Stream};

use crate::stage::{CHAT, Stage, configuration, load, stage};

/// With room for two requests of a key.
fn narrow() -> Stage {
    let mut stage = stage();
    let mut configuration = configuration();
    configuration["uploads"] = json!({"requests": {"key": 2}, "least_rate": "1B/s", "grace": "10s"});
    stage.workers = [0, 1].map(|_| load(&stage.world, configuration.clone()));
    stage
}

/// A chat on a worker of which one piece has come.
fn begin(stage: &Stage, worker: usize) -> Stream {
    let content = "x".repeat(300);
    let chat = json!({"model": "llama-70b", "messages": [{"role": "user", "content": content}]});
    let request = stage.known(stage.workers[worker].post(CHAT)).json(&chat);
    let mut stream = request.in_chunks(30).open();
    stream.send_chunk();
    stream
}

#[test]
fn workers_count_together() {
    let stage = narrow();
    let (first, second) = (begin(&stage, 0), begin(&stage, 1));
    for worker in [0, 1] {
        let refused = begin(&stage, worker).finish();
        refused.expect_refused(429).code("rate_limit_exceeded");
    }
    // What is there at once is no upload.
    stage.chat_on(1, "llama-70b").send().expect_forwarded();
    first.finish().expect_forwarded();
    begin(&stage, 1).finish().expect_forwarded();
    drop(second.abort());
    let _again = [begin(&stage, 0), begin(&stage, 0)];
}

/// Their uploads go with it, and nobody says so.
#[test]
fn the_uploads_of_a_worker_that_is_gone_count_no_more() {
    let stage = narrow();
    let streams = [begin(&stage, 0), begin(&stage, 0)];
    begin(&stage, 1).finish().expect_refused(429);
    stage.workers[0].vm().crash();
    stage.pass(61_000);
    begin(&stage, 1).finish().expect_forwarded();
    drop(streams);
}

#[test]
fn an_upload_that_lasts_goes_on_counting() {
    let stage = narrow();
    let mut streams = [begin(&stage, 0), begin(&stage, 1)];
    for _ in 0..7 {
        // Enough for the least rate, and longer in all than what nobody repeats is believed.
        for stream in &mut streams {
            assert!(stream.send_chunk());
        }
        stage.world.run_for(Duration::from_secs(9));
    }
    begin(&stage, 0).finish().expect_refused(429);
    for stream in streams {
        stream.finish().expect_forwarded();
    }
}

#[test]
fn a_silent_upload_is_ended_and_makes_room() {
    let stage = narrow();
    let streams = [begin(&stage, 0), stage.chat("llama-70b").open()];
    stage.world.run_for(Duration::from_secs(22));
    for stream in streams {
        let outcome = stream.finish();
        outcome.expect_refused(408).code("request_timeout");
    }
    begin(&stage, 1).finish().expect_forwarded();
}

/// A worker that stood still has not seen what came meanwhile.
#[test]
fn a_worker_that_stood_still_judges_nobody() {
    let stage = narrow();
    let stream = begin(&stage, 0);
    stage.world.run_for(Duration::from_secs(2));
    stage.pass(60_000);
    stage.workers[0].tick();
    stream.finish().expect_forwarded();
}

#[test]
fn where_the_count_cannot_be_shared_each_worker_has_its_own() {
    let stage = narrow();
    let fail = |call| stage.world.fault(call, Status::InternalFailure);
    let _unshared = [fail(Hostcall::GetSharedData), fail(Hostcall::SetSharedData)];
    let streams = [begin(&stage, 0), begin(&stage, 0)];
    begin(&stage, 0).finish().expect_refused(429);
    for stream in streams {
        stream.finish().expect_forwarded();
    }
    begin(&stage, 0).finish().expect_forwarded();
}
