//! `/v1/budgets/exchange`: Envoys say what they spent of budgets, and are given slices of them. docs/budgets.md has the rule.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use tollgate_budgets::{Answer, MOST, Report};
use tollgate_core::key::shown;
use utoipa::ToSchema;

use super::App;
use super::request::JsonBody;
use crate::access::{Caller, Permission};
use crate::budget::Budget;
use crate::calendar::Span;
use crate::check;
use crate::problem::{Problem, Problems};
use crate::secret;
use crate::spending::{KEPT, Refused, Reported};
use crate::time;

/// Budgets, or windows of them, in one message.
const MOST_ITEMS: usize = 200;
/// Messages and items of one token in a second: a thousand Envoys that share one, and report four windows each.
pub(super) const RATE: u32 = 5_000;
/// A window that begins later than this is none that anybody should know; milliseconds.
const FUTURE: i64 = 3_600_000;

/// What a holder says: one life of an Envoy.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Exchange {
    /// Its name, random at its start: 16 to 64 characters of `A-Z a-z 0-9 _ -`.
    holder: String,
    /// Each window of each budget that it is about; at most 200.
    items: Vec<ItemReport>,
}

/// About one window of a budget. Amounts are in the budget's unit, and at most 2^53.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemReport {
    /// The budget.
    budget: String,
    /// When the window began, as an answer said; the one that is now if absent. Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<i64>,
    /// All that the holder was granted so far, as far as it knows.
    #[serde(default)]
    granted: u64,
    /// All that it gave back so far.
    #[serde(default)]
    returned: u64,
    /// All that it spent so far.
    #[serde(default)]
    spent: u64,
    /// How much it would like to have unspent, what requests under way have reserved included.
    #[serde(default)]
    want: u64,
    /// How much it has to have unspent, the same included: a request waits for it.
    #[serde(default)]
    need: u64,
    /// It is over: `spent` is final, and it holds nothing any more.
    #[serde(default)]
    done: bool,
}

/// What is answered: an item for each, in the same order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Exchanged {
    items: Vec<ItemAnswer>,
}

/// About one window of a budget.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ItemAnswer {
    /// The budget.
    budget: String,
    /// When the window began; milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<i64>,
    /// When it ends; absent where it never does.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<i64>,
    /// All that the holder was granted so far.
    granted: u64,
    /// How much of it the holder may keep unspent: it gives back what is beyond and not reserved.
    keep: u64,
    /// How much may be spent in the window, a raise included.
    amount: u64,
    /// What all holders have spent of it.
    spent: u64,
    /// Why nothing was taken and nothing granted; the other items are as they should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Takes what a holder spent, and grants it slices. Numbers are cumulative: a message that is lost, late, doubled or out of
/// order changes nothing that it should not.
#[utoipa::path(post, path = "/v1/budgets/exchange", tag = "budgets", request_body = Exchange, responses(
    (status = 200, body = Exchanged), Problems,
))]
pub(super) async fn exchange(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(body): JsonBody<Exchange>,
) -> Result<axum::Json<Exchanged>, Problem> {
    caller.authorize(Permission::FetchDirectory)?;
    app.store.ensure_token_valid(&caller).await?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if !(16..=64).contains(&body.holder.len()) || !body.holder.bytes().all(is_name) {
        let expected = "16 to 64 characters of `A-Z a-z 0-9 _ -`";
        return Err(Problem::invalid("holder", &body.holder, expected));
    }
    check::no_secret("holder", &body.holder)?;
    if body.items.len() > MOST_ITEMS {
        let problem = format!("found {}, expected at most {MOST_ITEMS}", body.items.len());
        return Err(Problem::field("items", problem));
    }
    let token = caller.token_id().unwrap_or_default();
    let _place = app.spenders.take(token, body.items.len())?;
    let now = time::now();
    let mut budgets: BTreeMap<&str, Option<(Budget, bool)>> = BTreeMap::new();
    for item in &body.items {
        if !budgets.contains_key(item.budget.as_str()) {
            budgets.insert(&item.budget, app.store.budget_or_removed(&item.budget).await?);
        }
    }
    // In the order in which windows are taken; where in the message each was.
    let mut reports: BTreeMap<(String, i64), (usize, Reported)> = BTreeMap::new();
    let mut answers: Vec<ItemAnswer> = Vec::with_capacity(body.items.len());
    for (at, item) in body.items.iter().enumerate() {
        let known = budgets.get(item.budget.as_str()).and_then(Option::as_ref);
        let name = match known {
            Some(_) => item.budget.clone(),
            // It may be a key or a token in the wrong place, or endless.
            None => secret::masked(&shown(&item.budget, 64)),
        };
        let mut answer = unanswered(item, name);
        match reported(item, known, now) {
            Ok(reported) => {
                let Span { from, until } = reported.window;
                answer.window = Some(from);
                answer.ends_at = (until != i64::MAX).then_some(until);
                answer.amount = reported.budget.amount();
                match reports.entry((item.budget.clone(), from)) {
                    Entry::Vacant(place) => {
                        place.insert((at, reported));
                    }
                    Entry::Occupied(_) => {
                        answer.problem = Some("the same window stands in the message twice".to_owned());
                    }
                }
            }
            Err(problem) => answer.problem = Some(problem.to_owned()),
        }
        answers.push(answer);
    }
    let (places, reports): (Vec<usize>, Vec<Reported>) = reports.into_values().unzip();
    let given = app.store.exchange(&caller, &body.holder, &reports, now).await?;
    for (at, given) in places.into_iter().zip(given) {
        if let Some(answer) = answers.get_mut(at) {
            fill(answer, given);
        }
    }
    Ok(axum::Json(Exchanged { items: answers }))
}

/// What an item is about; why it is about nothing otherwise.
fn reported(item: &ItemReport, budget: Option<&(Budget, bool)>, now: i64) -> Result<Reported, &'static str> {
    let Some((budget, is_removed)) = budget else {
        return Err("there is no such budget");
    };
    let at = item.window.unwrap_or(now);
    if at > now.saturating_add(FUTURE) {
        return Err("the window is still to come");
    }
    let window = budget
        .window_at(at)
        .map_err(|_| "the budget's windows are not known")?;
    let window = window.ok_or("the budget has no window then")?;
    if item.window.is_some_and(|named| named != window.from) {
        return Err("no window of the budget begins then");
    }
    if window.until < now.saturating_sub(KEPT) {
        return Err("the window ended too long ago");
    }
    if window.until <= budget.made_at() {
        return Err("the window ended before the budget was made");
    }
    // A report may be late by a window. Of one for once there is no other.
    let current = budget.window_at(now).ok().flatten();
    let is_told = current.is_none_or(|current| window.until >= current.from);
    Ok(Reported {
        budget: budget.clone(),
        is_removed: *is_removed,
        window,
        is_told,
        report: Report {
            granted: item.granted,
            returned: item.returned,
            spent: item.spent,
            want: item.want.min(MOST),
            need: item.need.min(MOST),
            done: item.done,
        },
    })
}

fn unanswered(item: &ItemReport, budget: String) -> ItemAnswer {
    ItemAnswer {
        budget,
        window: item.window,
        ends_at: None,
        granted: 0,
        keep: 0,
        amount: 0,
        spent: 0,
        problem: None,
    }
}

fn fill(answer: &mut ItemAnswer, given: Result<Answer, Refused>) {
    match given {
        Ok(given) => {
            answer.granted = given.granted;
            answer.keep = given.keep;
            answer.amount = given.amount;
            answer.spent = given.spent;
        }
        Err(Refused(why)) => answer.problem = Some(why.to_owned()),
    }
}
