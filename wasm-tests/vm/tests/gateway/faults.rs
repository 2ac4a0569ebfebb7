//! The host fails. Whatever fails, and however: the module does not trap, and a request goes on only if all three of its
//! filters had it.

use serde_json::json;
use tollgate_core::key::ApiKey;
use tollgate_vm::Request;

use crate::failing::all_failures;
use crate::stage::{CHAT, Stage};

/// Whether it went on; then without its credential, and with its identity, target and usage record.
#[track_caller]
fn expect_right_or_not_forwarded(request: Request, what: &str) -> bool {
    let stream = request.start();
    let forwarded = stream.is_forwarded();
    let outcome = stream.finish();
    if !forwarded {
        assert!(outcome.forwarded_body().is_empty(), "{what}");
        return false;
    }
    let headers = outcome.expect_forwarded().headers().clone();
    let said = |name: &str| headers.text(name).unwrap_or_default();
    let routed = ["x-tollgate-org", "x-tollgate-model", "x-tollgate-target"].map(said);
    assert_eq!(routed, ["acme", "llama-70b", "llama-70b"], "{what}");
    assert_eq!(headers.text("authorization"), None, "{what}");
    outcome.expect_response(200);
    true
}

#[test]
fn a_failing_host_call_lets_nobody_by() {
    let stage = Stage::new();
    let body = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "x"}]});
    let (mut went, mut refused) = (0, 0);
    for failure in all_failures("gateway", 6) {
        let what = failure.to_string();
        failure.befall(&stage.world);
        match expect_right_or_not_forwarded(stage.chat(), &what) {
            true => went += 1,
            false => refused += 1,
        }
        let (stranger, nobodys) = (ApiKey::mint(&[9; 40]), stage.filter.post(CHAT));
        for request in [
            stage
                .filter
                .post(CHAT)
                .bearer(stranger.reveal())
                .json(&body("llama-70b")),
            nobodys.json(&body("llama-70b")),
            stage.known().json(&body("gpt-oss")),
            stage.known().body("{"),
        ] {
            failure.befall(&stage.world);
            assert!(!request.start().is_forwarded(), "{what}");
        }
    }
    assert!(went > 100 && refused > 100, "{went} {refused}");
    stage.world.clear_faults();
    assert!(expect_right_or_not_forwarded(stage.chat(), "nothing lasts"));
}
