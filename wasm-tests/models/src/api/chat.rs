//! `/v1/chat/completions`. A stream's usage is one more chunk with no choices, and only on demand.

use serde_json::{Value, json};

use super::super::answer::{Answer, Counts, Plan, data, with_usage};

/// `usage` of chat and completions.
pub(super) fn usage(counts: Counts) -> Value {
    json!({
        "prompt_tokens": counts.input,
        "completion_tokens": counts.output,
        "total_tokens": counts.total(),
        "prompt_tokens_details": {"cached_tokens": counts.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": counts.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

/// Why a choice ended.
pub(super) fn finish(plan: &Plan) -> &'static str {
    if plan.capped { "length" } else { "stop" }
}

pub(super) fn answer(plan: Plan) -> Answer {
    if plan.ask.stream {
        stream(plan)
    } else {
        whole(&plan)
    }
}

fn whole(plan: &Plan) -> Answer {
    let text = plan.text();
    let choice = |index| {
        json!({
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": null, "annotations": []},
            "logprobs": null,
            "finish_reason": finish(plan),
        })
    };
    let choices: Vec<Value> = (0..plan.ask.n).map(choice).collect();
    let body = json!({
        "id": plan.id, "object": "chat.completion", "created": plan.created, "model": plan.model,
        "choices": choices, "service_tier": "default", "system_fingerprint": "fp_tollgate",
    });
    Answer::json(&with_usage(body, plan.usage.map(usage)), plan.length * plan.ask.n)
}

fn stream(plan: Plan) -> Answer {
    // The parts around a choice are the same in each chunk: written once, not once a token.
    let head = format!(
        r#"{{"id":{},"object":"chat.completion.chunk","created":{},"model":{},"service_tier":"default","system_fingerprint":"fp_tollgate","choices":["#,
        json!(plan.id),
        plan.created,
        json!(plan.model),
    );
    let tail = if plan.ask.include_usage {
        r#"],"usage":null}"#
    } else {
        "]}"
    };
    let choice = {
        let head = head.clone();
        move |index: u64, delta: &str, finish: &str| {
            format!(
                r#"{head}{{"index":{index},"delta":{delta},"logprobs":null,"finish_reason":{finish}}}{tail}"#
            )
        }
    };
    let n = plan.ask.n;
    let finish = json!(finish(&plan)).to_string();
    let first = {
        let choice = choice.clone();
        let delta = r#"{"role":"assistant","content":"","refusal":null}"#;
        (0..n).map(move |i| data(&choice(i, delta, "null"), 0))
    };
    let words = {
        let choice = choice.clone();
        plan.words().flat_map(move |word| {
            let delta = format!(r#"{{"content":{}}}"#, Value::from(word));
            let choice = choice.clone();
            (0..n).map(move |i| data(&choice(i, &delta, "null"), 1))
        })
    };
    let last = (0..n).map(move |i| data(&choice(i, "{}", &finish), 0));
    let counts = plan.usage.filter(|_| plan.ask.include_usage);
    let usage = counts.map(|counts| data(&format!(r#"{head}],"usage":{}}}"#, usage(counts)), 0));
    Answer::events(
        first
            .chain(words)
            .chain(last)
            .chain(usage)
            .chain([data("[DONE]", 0)]),
    )
}
