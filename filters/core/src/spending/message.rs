//! What the exchanger and the control plane tell each other: `POST /v1/budgets/exchange`.

use serde::{Deserialize, Serialize};
use tollgate_budgets::{Answer, Report};

/// Items of one message at most.
pub(super) const MOST_ITEMS: usize = 200;

/// What this Envoy says.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    pub(super) holder: &'a str,
    pub(super) items: &'a [Item],
}

/// About one window of a budget.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Item {
    pub(super) budget: String,
    /// Milliseconds since 1970; the one that is now where it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) window: Option<i64>,
    #[serde(flatten)]
    pub(super) report: Report,
}

/// What is answered: an item for each, in the same order.
#[derive(Debug, Deserialize)]
pub(super) struct Exchanged {
    pub(super) items: Vec<Given>,
}

/// About one window of a budget.
#[derive(Debug, Deserialize)]
pub(super) struct Given {
    pub(super) budget: String,
    pub(super) window: Option<i64>,
    /// `None` where it never ends.
    pub(super) ends_at: Option<i64>,
    #[serde(flatten)]
    pub(super) answer: Answer,
    /// Why nothing was taken and nothing granted.
    pub(super) problem: Option<String>,
}

impl Exchanged {
    /// Reads an answer to these items.
    pub(super) fn read(body: &[u8], items: &[Item]) -> Result<Self, String> {
        let read: Self =
            serde_json::from_slice(body).map_err(|error| format!("sent an answer that is none: {error}"))?;
        let names = read.items.iter().map(|given| &given.budget);
        match names.eq(items.iter().map(|item| &item.budget)) {
            true => Ok(read),
            false => Err("sent an answer about other budgets".to_owned()),
        }
    }
}
