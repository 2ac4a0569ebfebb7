//! `/v1/completions`. Streams as chat does, with text in place of a delta.

use serde_json::{Value, json};

use super::super::answer::{Answer, Plan, data, with_usage};
use super::chat::{finish, usage};

pub(super) fn answer(plan: Plan) -> Answer {
    if plan.ask.stream {
        stream(plan)
    } else {
        whole(&plan)
    }
}

fn body(plan: &Plan, choices: &[Value]) -> Value {
    json!({
        "id": plan.id, "object": "text_completion", "created": plan.created, "model": plan.model,
        "choices": choices,
    })
}

fn choice(index: u64, text: &str, finish: Option<&str>) -> Value {
    json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish})
}

fn whole(plan: &Plan) -> Answer {
    let text = plan.text();
    let choices: Vec<Value> = (0..plan.ask.n)
        .map(|i| choice(i, &text, Some(finish(plan))))
        .collect();
    Answer::json(
        &with_usage(body(plan, &choices), plan.usage.map(usage)),
        plan.length * plan.ask.n,
    )
}

fn stream(plan: Plan) -> Answer {
    let include = plan.ask.include_usage;
    let end: Vec<_> = (0..plan.ask.n)
        .map(|i| {
            let chunk = body(&plan, &[choice(i, "", Some(finish(&plan)))]);
            data(&with_usage(chunk, include.then_some(Value::Null)).to_string(), 0)
        })
        .collect();
    let counts = plan.usage.filter(|_| include);
    let usage = counts.map(|c| data(&with_usage(body(&plan, &[]), Some(usage(c))).to_string(), 0));
    let words = plan.words().flat_map(move |word| {
        let chunks = (0..plan.ask.n).map(|i| {
            let chunk = body(&plan, &[choice(i, &word, None)]);
            data(&with_usage(chunk, include.then_some(Value::Null)).to_string(), 1)
        });
        chunks.collect::<Vec<_>>()
    });
    Answer::events(words.chain(end).chain(usage).chain([data("[DONE]", 0)]))
}
