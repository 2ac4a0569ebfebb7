//! `/v1/moderations`: flags an input whose text says "flag me"; the API reports no usage.

use serde_json::{Map, Value, json};

use super::super::answer::{Answer, Plan};

const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

pub(super) fn answer(plan: &Plan) -> Answer {
    let flagged = plan.ask.told.contains("flag me");
    let each = |value: Value| -> Map<String, Value> {
        CATEGORIES
            .iter()
            .map(|category| ((*category).to_owned(), value.clone()))
            .collect()
    };
    let mut categories = each(json!(false));
    let mut scores = each(json!(0.0001));
    if flagged {
        categories.insert("violence".to_owned(), json!(true));
        scores.insert("violence".to_owned(), json!(0.99));
    }
    let result = json!({
        "flagged": flagged, "categories": categories, "category_scores": scores,
        "category_applied_input_types": each(json!(["text"])),
    });
    let results = vec![result; plan.ask.inputs as usize];
    Answer::json(
        &json!({"id": plan.id, "model": plan.model, "results": results}),
        0,
    )
}
