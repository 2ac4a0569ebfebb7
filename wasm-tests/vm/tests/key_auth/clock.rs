//! A key's time begins and ends with the second, and without a clock no promise about time is kept.

use std::time::Duration;

use serde_json::json;
use tollgate_vm::{Hostcall, Status};

use crate::stage::{Gateway, directory, inline, key, row};

fn limited(times: serde_json::Value) -> (Gateway, tollgate_core::key::ApiKey) {
    let key = key(1);
    let gateway = Gateway::at("2026-06-01T11:59:58Z", inline(&directory([row(&key, times)])));
    (gateway, key)
}

#[test]
fn not_before_is_the_first_good_second() {
    let (gateway, key) = limited(json!({"not_before": "2026-06-01T12:00:00Z"}));
    let chat = || gateway.chat().bearer(key.reveal()).send();
    gateway.world.advance(Duration::from_nanos(1_999_999_999));
    let _ = chat().expect_refused(401).details("tollgate_not_yet_valid");
    gateway.world.advance(Duration::from_nanos(1));
    chat().expect_forwarded();
}

#[test]
fn expires_at_is_the_first_bad_second() {
    // The same moment, as someone east of Greenwich writes it.
    let (gateway, key) = limited(json!({"expires_at": "2026-06-01T14:00:00+02:00"}));
    let chat = || gateway.chat().bearer(key.reveal()).send();
    gateway.world.advance(Duration::from_nanos(1_999_999_999));
    chat().expect_forwarded();
    gateway.world.advance(Duration::from_nanos(1));
    let _ = chat().expect_refused(401).details("tollgate_expired");
    // A key that was found a moment ago expires all the same; it is not judged once for all.
    gateway.world.set_back(Duration::from_secs(1));
    chat().expect_forwarded();
}

#[test]
fn a_key_of_one_second_lives_one_second() {
    let times = json!({"not_before": "2026-06-01T12:00:00Z", "expires_at": "2026-06-01T12:00:01Z"});
    let (gateway, key) = limited(times);
    let good = (0..8).map(|_| {
        gateway.world.advance(Duration::from_millis(500));
        gateway.chat().bearer(key.reveal()).start().is_forwarded()
    });
    assert_eq!(
        good.collect::<Vec<_>>(),
        [false, false, false, true, true, false, false, false]
    );
}

#[test]
fn without_a_clock_a_limit_in_time_is_not_taken_on_trust() {
    let (gateway, key) = limited(json!({"expires_at": "2099-01-01T00:00:00Z"}));
    let fault = gateway
        .world
        .fault(Hostcall::GetCurrentTime, Status::InternalFailure);
    let _ = gateway
        .chat()
        .bearer(key.reveal())
        .send()
        .expect_refused(500)
        .code("gateway_misconfigured");
    fault.clear();
    gateway.chat().bearer(key.reveal()).send().expect_forwarded();
}
