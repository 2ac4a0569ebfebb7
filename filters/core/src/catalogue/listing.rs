//! `GET /v1/models`, in OpenAI's shape.

use serde::Serialize;

use super::model::Model;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    owned_by: &'a str,
}

impl<'a> From<&'a Model> for Entry<'a> {
    fn from(model: &'a Model) -> Self {
        Self {
            id: &model.name,
            object: "model",
            created: model.created,
            owned_by: &model.owned_by,
        }
    }
}

/// The list of these models.
pub fn list<'a>(models: impl Iterator<Item = &'a Model>) -> Vec<u8> {
    // Strings and numbers always serialise.
    serde_json::to_vec(&List {
        object: "list",
        data: models.map(Entry::from).collect(),
    })
    .unwrap_or_default()
}

/// One model's entry.
pub fn entry(model: &Model) -> Vec<u8> {
    serde_json::to_vec(&Entry::from(model)).unwrap_or_default()
}
