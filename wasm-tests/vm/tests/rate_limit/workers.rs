//! Places of a worker that is gone come back; those of one that lives do not.

use std::time::Duration;

use serde_json::json;

use crate::stage::{Stage, answer, load, places, stage};

const SECOND: Duration = Duration::from_secs(1);

/// The first worker has two requests under way, which are all there may be, and crashes.
fn crashed(stage: &Stage) {
    stage.world.run_for(5 * SECOND);
    let streams = [0, 1].map(|_| stage.chat(0, 10).start());
    stage.chat(1, 10).send().expect_refused(429);
    stage.workers[0].vm().crash();
    for stream in streams {
        let outcome = stream.finish();
        assert!(outcome.filter_state("tollgate.usage").is_none());
    }
}

fn configurations() -> [serde_json::Value; 2] {
    [
        json!({"limits": [places(2)]}),
        json!({"limits": [], "capacity": [{"model": "*", "concurrent": 2}]}),
    ]
}

#[test]
fn the_places_of_a_worker_that_crashed_come_back() {
    for configuration in configurations() {
        let stage = Stage::of(configuration);
        crashed(&stage);
        for worker in [1, 2] {
            stage.chat(worker, 10).send().expect_refused(429);
        }
        stage.world.run_for(28 * SECOND);
        stage.chat(1, 10).send().expect_refused(429);
        stage.world.run_for(4 * SECOND);
        let streams = [1, 2].map(|worker| stage.chat(worker, 10).start());
        assert!(streams.iter().all(tollgate_vm::Stream::is_forwarded));
        // And no more than there were.
        stage.chat(1, 10).send().expect_refused(429);
    }
}

/// The proxy loads the module anew on that worker.
#[test]
fn the_worker_that_takes_its_place_is_another() {
    for configuration in configurations() {
        let stage = Stage::of(configuration.clone());
        crashed(&stage);
        let again = load(&stage.world, configuration);
        stage.chat_on(&again, 10).send().expect_refused(429);
        stage.world.run_for(35 * SECOND);
        let streams = [0, 1].map(|_| stage.chat_on(&again, 10).start());
        assert!(streams.iter().all(tollgate_vm::Stream::is_forwarded));
        stage.chat(2, 10).send().expect_refused(429);
    }
}

#[test]
fn a_request_that_takes_long_keeps_its_place() {
    for configuration in configurations() {
        let stage = Stage::of(configuration);
        let streams = [0, 1].map(|worker| stage.chat(worker, 10).start());
        for _ in 0..10 {
            stage.world.run_for(60 * SECOND);
            stage.chat(2, 10).send().expect_refused(429);
        }
        for stream in streams {
            stream.finish().expect_forwarded();
        }
        stage.chat(2, 10).send().expect_forwarded();
    }
}

/// Time alone ends nobody: it is heartbeats that are missed, and a clock may be set.
#[test]
fn a_clock_that_jumps_ends_nobody() {
    let stage = stage(json!([places(1)]));
    let stream = stage.chat(0, 10).start();
    for _ in 0..5 {
        stage.world.advance(Duration::from_hours(24));
        stage.workers.iter().for_each(tollgate_vm::Plugin::tick);
        stage.chat(1, 10).send().expect_refused(429);
    }
    stream.respond_with(answer((1, 0)));
    drop(stream);
    stage.chat(1, 10).send().expect_forwarded();
}

/// A reload in between gives the worker no second life and takes none away.
#[test]
fn a_reload_keeps_the_places_of_what_is_under_way() {
    let stage = stage(json!([places(1)]));
    let stream = stage.chat(0, 10).start();
    let new = stage.workers[0]
        .vm()
        .configure("rate-limit", json!({"limits": [places(1)]}))
        .unwrap();
    stage.world.run_for(120 * SECOND);
    stage.chat_on(&new, 10).send().expect_refused(429);
    stage.chat(1, 10).send().expect_refused(429);
    stream.finish().expect_forwarded();
    stage.chat_on(&new, 10).send().expect_forwarded();
}

#[test]
fn rubbish_in_the_shared_data_ends_nobody_for_long() {
    for rubbish in [&b""[..], b"x", &[0xff; 4], &[0xff; 12], &[7; 1_001]] {
        let stage = stage(json!([places(1)]));
        stage.world.set_shared(crate::stage::VM_ID, "workers-1-", rubbish);
        stage.world.run_for(40 * SECOND);
        let stream = stage.chat(0, 10).start();
        assert!(stream.is_forwarded());
        stage.world.run_for(40 * SECOND);
        stage.chat(1, 10).send().expect_refused(429);
        stream.respond_with(answer((1, 0)));
        drop(stream);
        stage.chat(1, 10).send().expect_forwarded();
    }
}
