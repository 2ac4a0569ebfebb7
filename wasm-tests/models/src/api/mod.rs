//! One file an API: what its answers look like, streamed and not, and where each puts its usage.

mod audio;
mod chat;
mod completions;
mod embeddings;
mod images;
mod messages;
mod moderations;
mod responses;

use serde_json::{Value, json};

use super::answer::{Answer, Plan};
use super::request::Api;

/// The answer of a healthy server. `models` are those it says it has.
pub(super) fn answer(api: &Api, plan: Plan, models: &[String]) -> Answer {
    match api {
        Api::Chat => chat::answer(plan),
        Api::Completions => completions::answer(plan),
        Api::Responses => responses::answer(plan),
        Api::Embeddings => embeddings::answer(&plan),
        Api::Moderations => moderations::answer(&plan),
        Api::Images => images::answer(&plan),
        Api::Speech => audio::speech(&plan),
        Api::Transcriptions => audio::transcription(plan),
        Api::Translations => audio::translation(&plan),
        Api::Messages => messages::answer(plan),
        Api::CountTokens => Answer::json(&json!({"input_tokens": plan.ask.input_tokens}), 0),
        Api::Models => {
            let data: Vec<Value> = models.iter().map(|m| model(m)).collect();
            Answer::json(&json!({"object": "list", "data": data}), 0)
        }
        Api::Model(id) if models.contains(id) => Answer::json(&model(id), 0),
        Api::Model(id) => {
            let message = format!("The model '{id}' does not exist");
            Answer::error(Some(api), 404, Some("model_not_found"), &message)
        }
    }
}

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_767_225_600, "owned_by": "tollgate"})
}
