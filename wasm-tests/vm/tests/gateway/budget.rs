//! What a request costs in crossings between Envoy and the module; each is 0.1 to 2 µs.

use serde_json::json;
use tollgate_vm::Hostcall;

use crate::stage::Stage;

/// Everything on, eight limits in two groups. The time: whole, judged, passed on, answered, settled (5). Filter state:
/// who, and the record (2). Headers read on both ways (2); the credential removed (1); who is calling (4); model,
/// target and priority (3), eight of the limits and two of the router (10). Both bodies (2). The breaker, and two
/// records reserved and settled (5 reads, 4 writes). Let in and routed, counted (2). The route chosen anew (1).
#[test]
fn a_request_with_everything_on_takes_41_calls() {
    let stage = Stage::new();
    // The first makes metrics of its organization and model.
    drop(stage.chat().send());
    let outcome = stage.chat().send();
    outcome.expect_response(200);
    let wanted = [
        (Hostcall::GetCurrentTime, 5),
        (Hostcall::SetProperty, 2),
        (Hostcall::GetHeaderMapPairs, 2),
        (Hostcall::AddHeaderMapValue, 17),
        (Hostcall::RemoveHeaderMapValue, 1),
        (Hostcall::GetBufferBytes, 2),
        (Hostcall::GetSharedData, 5),
        (Hostcall::SetSharedData, 4),
        (Hostcall::IncrementMetric, 2),
        (Hostcall::CallForeignFunction, 1),
    ];
    for (call, count) in wanted {
        assert_eq!(outcome.hostcalls(call), count, "{call:?}");
    }
    assert_eq!(outcome.crossings(), 41);
}

/// The router plans, the limits refuse, and nothing that the plan would have changed is touched.
#[test]
fn a_refused_request_pays_for_no_route() {
    let stage = Stage::with(|mut configuration| {
        configuration["rate_limit"]["limits"] =
            json!([{"name": "org-rpm", "per": ["org"], "rate": "1/minute"}]);
        configuration
    });
    stage.chat().send().expect_response(200);
    let outcome = stage.chat().send();
    outcome.expect_refused(429);
    // The record is read; who is calling was said, the answer's own headers come with it, and two of the router's behind it.
    for (call, count) in [
        (Hostcall::GetSharedData, 2),
        (Hostcall::SetSharedData, 0),
        (Hostcall::AddHeaderMapValue, 6),
        (Hostcall::ReplaceHeaderMapValue, 0),
        (Hostcall::CallForeignFunction, 0),
    ] {
        assert_eq!(outcome.hostcalls(call), count, "{call:?}");
    }
}
