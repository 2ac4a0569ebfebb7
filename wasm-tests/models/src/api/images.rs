//! `/v1/images/generations` and `/v1/images/edits`: one pixel, and the usage of a large one.

use serde_json::{Value, json};

use super::super::answer::{Answer, Counts, Plan, event, with_usage};

/// A transparent PNG of one pixel.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

fn usage(counts: Counts) -> Value {
    json!({
        "input_tokens": counts.input,
        "input_tokens_details": {"text_tokens": counts.input, "image_tokens": 0},
        "output_tokens": counts.output,
        "total_tokens": counts.total(),
    })
}

pub(super) fn answer(plan: &Plan) -> Answer {
    let tokens = plan.length * plan.ask.n;
    if plan.ask.stream {
        let image = |kind: &str| {
            json!({
                "type": kind, "b64_json": PIXEL, "created_at": plan.created, "size": "1024x1024",
                "quality": "high", "background": "transparent", "output_format": "png",
            })
        };
        let mut partial = image("image_generation.partial_image");
        if let Some(object) = partial.as_object_mut() {
            object.insert("partial_image_index".to_owned(), json!(0));
        }
        let completed = with_usage(image("image_generation.completed"), plan.usage.map(usage));
        return Answer::events([event(&partial, 0), event(&completed, tokens)].into_iter());
    }
    let image = match plan.ask.format.as_str() {
        "url" => json!({"url": format!("http://127.0.0.1/images/{}.png", plan.id)}),
        _ => json!({"b64_json": PIXEL}),
    };
    let data = vec![image; plan.ask.n as usize];
    let body = json!({"created": plan.created, "data": data});
    Answer::json(&with_usage(body, plan.usage.map(usage)), tokens)
}
