//! What is left when all requests have ended: nothing under way, and limits that admit what the records leave of them.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tollgate_harness::models::FAULT_HEADER;
use tollgate_harness::{Reply, net};

use crate::books::Books;
use crate::plan::{DEEP, SWIFT};
use crate::stage::{KEY_REQUESTS, KEY_TOKENS, ORG_PLACES, SWIFT_PLACES, Stage};

const CHAT: &str = "/v1/chat/completions";
/// The last of the keys is the poor organization's, whose requests are limited by the second as well.
const RICH: std::ops::Range<usize> = 0..4;

pub(crate) async fn nothing_is_under_way(stage: &Stage) {
    let mut found = None;
    let zero = net::within(Duration::from_secs(5), async || {
        found = stage
            .gateway
            .prometheus()
            .await
            .value("tollgate_requests_in_flight", &[]);
        (found == Some(0.0)).then_some(())
    });
    assert!(zero.await.is_some(), "{found:?} requests under way");
}

/// What remains is told on the next answer; it is the limit less all that the records say, and what leaked since.
pub(crate) async fn limits_stand_as_the_records_say(stage: &Stage, books: &Books) {
    for caller in RICH {
        let (requests, tokens) = books.of_key(stage.keys[caller].id());
        assert!(requests > 500, "{requests} requests of caller {caller}");
        let mut sent = 0;
        let mut probed = 0;
        let mut found = String::new();
        // What is held of requests that were given up is returned soon.
        let stands = net::within(Duration::from_secs(10), async || {
            let reply = short(stage, caller).await.expect(200);
            let own = stage.gateway.record_of(&reply).await;
            sent += 1;
            let expected = KEY_REQUESTS - requests - sent;
            let leaked = leaked(stage, KEY_REQUESTS);
            let left = told(&reply, "x-ratelimit-remaining-requests");
            assert!(
                (expected..=expected + leaked).contains(&left),
                "{left} of {expected} + {leaked} requests"
            );
            // Told when the request was reserved, and before it was settled.
            let expected = KEY_TOKENS - tokens - probed - own.reserved_tokens.unwrap();
            probed += own.tokens();
            let leaked = self::leaked(stage, KEY_TOKENS);
            let left = told(&reply, "x-ratelimit-remaining-tokens");
            assert!(
                left <= expected + leaked,
                "{left} of {expected} + {leaked} tokens"
            );
            found = format!("{left} tokens are left; {expected} by the records, and {leaked} leaked");
            (left >= expected).then_some(())
        })
        .await;
        assert!(stands.is_some(), "{found}");
    }
}

/// As many as there are places are served at once, and one more is refused: of an organization, and of a model.
pub(crate) async fn places_are_free(stage: &Stage) {
    for (model, places, kind) in [
        (DEEP, ORG_PLACES, "concurrent_requests"),
        (SWIFT, SWIFT_PLACES, "rate_limit_error"),
    ] {
        let open = || {
            let body =
                json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "x"}]});
            stage
                .ask(0, CHAT, body)
                .header(FAULT_HEADER, "tokens=100000, pace=50ms")
                .open()
        };
        // An organization that was short of places a moment ago has its share kept for it a while.
        let streams = net::eventually("all places are free", async || {
            let streams = join_all((0..places).map(|_| open())).await;
            streams
                .iter()
                .all(|stream| stream.status() == 200)
                .then_some(streams)
        })
        .await;
        let more = stage.ask(
            0,
            CHAT,
            json!({"model": model, "messages": [{"role": "user", "content": "x"}]}),
        );
        more.send().await.expect(429).kind(kind);
        drop(streams);
    }
    net::eventually("the refusal is counted", async || {
        let prometheus = stage.gateway.prometheus().await;
        let refused = prometheus.value("tollgate_limit_refusals", &[("limit", "org-places")]);
        (refused >= Some(1.0)).then_some(())
    })
    .await;
}

/// A key's requests that are left are admitted, all at once, and none beyond them.
pub(crate) async fn the_rest_is_admitted_and_no_more(stage: &Stage) {
    const CALLER: usize = 3;
    let reply = short(stage, CALLER).await.expect(200);
    let left = told(&reply, "x-ratelimit-remaining-requests");
    let told_at = stage.began.elapsed();
    let each = usize::try_from(left).unwrap() / 16 + 2;
    let statuses = join_all((0..16).map(async |_| {
        let mut statuses = Vec::new();
        for _ in 0..each {
            statuses.push(short(stage, CALLER).await.status);
        }
        statuses
    }))
    .await;
    let admitted = statuses.iter().flatten().filter(|status| **status == 200).count() as u64;
    let refused = statuses.iter().flatten().filter(|status| **status == 429).count() as u64;
    assert_eq!(admitted + refused, 16 * each as u64, "{statuses:?}");
    let since = (stage.began.elapsed() - told_at).as_secs() + 1;
    let leaked = since * KEY_REQUESTS / 86_400 + 1;
    assert!(
        (left..=left + leaked).contains(&admitted),
        "{admitted} admitted of {left} + {leaked}"
    );
}

async fn short(stage: &Stage, caller: usize) -> Reply {
    let body: Value = json!({"model": DEEP, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]});
    stage.ask(caller, CHAT, body).send().await
}

fn told(reply: &Reply, header: &str) -> u64 {
    reply.header(header).unwrap().parse().unwrap()
}

/// What a day's limit has given back since the start, rounded up.
fn leaked(stage: &Stage, a_day: u64) -> u64 {
    (stage.began.elapsed().as_secs() + 1) * a_day / 86_400 + 1
}
