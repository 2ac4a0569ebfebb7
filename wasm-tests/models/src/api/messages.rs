//! Anthropic's `/v1/messages`. A stream reports input in its first event and output in its last but one.

use serde_json::{Value, json};

use super::super::answer::{Answer, Counts, Plan, event, with_usage};

pub(super) fn answer(plan: Plan) -> Answer {
    if plan.ask.stream {
        stream(plan)
    } else {
        whole(&plan)
    }
}

/// Anthropic's `input_tokens` leaves out what came from the cache; `cache_read_input_tokens` has that.
fn usage(counts: Counts, output: u64) -> Value {
    json!({
        "input_tokens": counts.input.saturating_sub(counts.cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": output,
        "service_tier": "standard",
    })
}

fn stop(plan: &Plan) -> &'static str {
    if plan.capped { "max_tokens" } else { "end_turn" }
}

fn message(plan: &Plan, content: &Value, stop: Option<&str>) -> Value {
    json!({
        "id": plan.id, "type": "message", "role": "assistant", "model": plan.model, "content": content,
        "stop_reason": stop, "stop_sequence": null,
    })
}

fn whole(plan: &Plan) -> Answer {
    let content = json!([{"type": "text", "text": plan.text(), "citations": null}]);
    let body = message(plan, &content, Some(stop(plan)));
    Answer::json(
        &with_usage(body, plan.usage.map(|c| usage(c, c.output))),
        plan.length,
    )
}

fn stream(plan: Plan) -> Answer {
    // The first event counts one output token: the API has begun to write when it sends it.
    let start = with_usage(
        message(&plan, &json!([]), None),
        plan.usage.map(|c| usage(c, c.output.min(1))),
    );
    let begin = [
        json!({"type": "message_start", "message": start}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    let delta =
        json!({"type": "message_delta", "delta": {"stop_reason": stop(&plan), "stop_sequence": null}});
    let end = [
        json!({"type": "content_block_stop", "index": 0}),
        with_usage(delta, plan.usage.map(|c| json!({"output_tokens": c.output}))),
        json!({"type": "message_stop"}),
    ];
    let words = plan.words().map(|word| {
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}})
    });
    let begin = begin.into_iter().map(|e| event(&e, 0));
    Answer::events(
        begin
            .chain(words.map(|e| event(&e, 1)))
            .chain(end.into_iter().map(|e| event(&e, 0))),
    )
}
