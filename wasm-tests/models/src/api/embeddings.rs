//! `/v1/embeddings`: unit vectors from a hash of the model and the place; no output tokens.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::answer::{Answer, Plan, with_usage};

const DIMENSIONS: usize = 16;

pub(super) fn answer(plan: &Plan) -> Answer {
    let dimensions = plan.ask.dimensions.unwrap_or(DIMENSIONS).min(4096);
    let data: Vec<Value> = (0..plan.ask.inputs)
        .map(|index| {
            let vector = vector(index + plan.ask.input_tokens, dimensions);
            let embedding = if plan.ask.base64 {
                // The OpenAI SDKs ask for this unless told otherwise: 32-bit floats, little end first.
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Value::from(STANDARD.encode(bytes))
            } else {
                Value::from(vector)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let body = json!({"object": "list", "data": data, "model": plan.model});
    let usage = plan
        .usage
        .map(|c| json!({"prompt_tokens": c.input, "total_tokens": c.input}));
    Answer::json(&with_usage(body, usage), 0)
}

/// One axis of space, chosen by `seed`.
fn vector(seed: u64, dimensions: usize) -> Vec<f32> {
    let axis = seed as usize % dimensions.max(1);
    (0..dimensions)
        .map(|i| if i == axis { 1.0 } else { 0.0 })
        .collect()
}
