//! `/v1/responses`. A stream is numbered, named events; usage stands in the last one's `response`.

use serde_json::{Value, json};

use super::super::answer::{Answer, Counts, Piece, Plan, event};

pub(super) fn answer(plan: Plan) -> Answer {
    if plan.ask.stream {
        stream(plan)
    } else {
        Answer::json(&response(&plan, Phase::Ended), plan.length)
    }
}

fn usage(counts: Counts) -> Value {
    json!({
        "input_tokens": counts.input,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": 0},
        "output_tokens": counts.output,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.total(),
    })
}

enum Phase {
    Begun,
    Ended,
}

/// The response object. OpenAI sends `usage: null` until the end.
fn response(plan: &Plan, phase: Phase) -> Value {
    let (status, output, usage) = match phase {
        Phase::Begun => ("in_progress", json!([]), None),
        Phase::Ended => (
            ended(plan),
            json!([item(plan, ended(plan), plan.text())]),
            plan.usage.map(usage),
        ),
    };
    let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
    json!({
        "id": plan.id, "object": "response", "created_at": plan.created, "status": status,
        "background": false, "error": null, "incomplete_details": incomplete, "instructions": null,
        "max_output_tokens": plan.ask.cap, "max_tool_calls": null, "model": plan.model, "output": output,
        "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null}, "service_tier": "default", "store": true,
        "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
        "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "usage": usage, "user": null,
        "metadata": {},
    })
}

fn ended(plan: &Plan) -> &'static str {
    if plan.capped { "incomplete" } else { "completed" }
}

fn item_id(plan: &Plan) -> String {
    plan.id.replacen("resp_", "msg_", 1)
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn item(plan: &Plan, status: &str, text: String) -> Value {
    let content = if status == "in_progress" {
        json!([])
    } else {
        json!([part(&text)])
    };
    json!({
        "id": item_id(plan), "type": "message", "status": status, "role": "assistant", "content": content,
    })
}

fn stream(plan: Plan) -> Answer {
    let id = item_id(&plan);
    let text = plan.text();
    let begun = response(&plan, Phase::Begun);
    let begin = [
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
        json!({"type": "response.output_item.added", "output_index": 0,
               "item": item(&plan, "in_progress", String::new())}),
        json!({"type": "response.content_part.added", "item_id": id, "output_index": 0, "content_index": 0,
               "part": part("")}),
    ];
    let end = [
        json!({"type": "response.output_text.done", "item_id": id, "output_index": 0, "content_index": 0,
               "text": text, "logprobs": []}),
        json!({"type": "response.content_part.done", "item_id": id, "output_index": 0, "content_index": 0,
               "part": part(&text)}),
        json!({"type": "response.output_item.done", "output_index": 0,
               "item": item(&plan, ended(&plan), text.clone())}),
        json!({"type": format!("response.{}", ended(&plan)), "response": response(&plan, Phase::Ended)}),
    ];
    let words = plan.words().map(move |word| {
        json!({"type": "response.output_text.delta", "item_id": id, "output_index": 0, "content_index": 0,
               "delta": word, "logprobs": []})
    });
    let events = begin.into_iter().map(|e| (e, 0)).chain(words.map(|e| (e, 1)));
    Answer::events(
        events
            .chain(end.into_iter().map(|e| (e, 0)))
            .enumerate()
            .map(numbered),
    )
}

fn numbered((number, (mut json, tokens)): (usize, (Value, u64))) -> Piece {
    if let Some(object) = json.as_object_mut() {
        object.insert("sequence_number".to_owned(), Value::from(number));
    }
    event(&json, tokens)
}
