//! `/v1/budgets`: how much may be spent, by whom, in which windows; and what was.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::idempotency::IdempotentRequest;
use super::patch::{apply_patch, split_id};
use super::quotas::ensure_room_for_budgets;
use super::request::{IfMatch, JsonBody, PageQuery, Path, Query, WriteOptions, parse};
use super::{
    App, Changed, Page, Preview, authorize_object, commit_or_preview, ensure_current, org_filter, show,
    to_page,
};
use crate::access::{Caller, Permission};
use crate::budget::{Budget, BudgetSpec, BudgetTerms, MOST, Raise, Reached, Scope, Struck};
use crate::check;
use crate::documents::{Key, Kind, Metadata, Org, Project};
use crate::problem::{Problem, Problems};
use crate::spending::{self, Whose};
use crate::store::{ListQuery, Stored, Write};
use crate::time;

/// A new budget.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct NewBudget {
    /// Its name: 1 to 64 characters of `A-Z a-z 0-9 . _ -`, or such a one behind the organization that its scope is in and
    /// `:`, as in `acme:monthly`. A token that is confined to organizations makes only the latter. It can't be changed.
    id: String,
    #[serde(flatten)]
    terms: BudgetTerms,
    #[serde(flatten)]
    spec: BudgetSpec,
}

/// What is changed; what is not named stays.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the description of the API alone has it: a change is merged into what there is"
)]
pub(super) struct BudgetChange {
    /// A name for people.
    #[schema(required = false)]
    name: Option<String>,
    /// How much of the unit may be spent in each window.
    #[schema(
        required = false,
        nullable = false,
        minimum = 0,
        maximum = 9007199254740992_u64
    )]
    amount: Option<u64>,
    /// Percent of the amount at which somebody is told.
    #[schema(required = false)]
    thresholds: Option<Vec<u8>>,
    /// What becomes of requests near the end. Another one than before goes with `null` for that: `{"slow": {…}, "downgrade":
    /// null}`.
    #[schema(required = false, value_type = Object)]
    policy: Option<Value>,
    /// After how long without a word the slice of an Envoy is given to others.
    #[schema(required = false)]
    lost_after: Option<String>,
    /// When a budget whose window is `once` ends (RFC 3339).
    #[schema(required = false)]
    ends_at: Option<String>,
}

/// More for a while.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRaise {
    /// How much more, in the budget's unit.
    #[schema(minimum = 1, maximum = 9007199254740992_u64)]
    by: u64,
    /// For how long, such as `2h`.
    #[serde(rename = "for")]
    span: String,
    /// Why, for the trail and for whoever looks at it later.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Whose slices are struck out: exactly one of both.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewStrike {
    /// A holder, as `slices` of the spending has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
    /// All holders of a token, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// What was spent in a window.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Spending {
    /// When the window began; absent where the budget has none now.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<String>,
    /// When it ends, and the budget is full again; absent where it never does.
    #[serde(skip_serializing_if = "Option::is_none")]
    resets_at: Option<String>,
    /// How much may be spent in it, a raise included.
    amount: u64,
    /// What was spent, as far as Envoys have said.
    spent: u64,
    /// What Envoys have and have not said to be spent.
    escrowed: u64,
    /// What is left: neither spent nor with an Envoy.
    left: u64,
    /// Those who have or had a slice, at most 1,000, the last heard first; for who is not confined to organizations.
    #[serde(skip_serializing_if = "Option::is_none")]
    slices: Option<Vec<SliceShown>>,
}

/// One Envoy's part of a window.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SliceShown {
    /// One life of an Envoy.
    holder: String,
    /// The id of the token by which it speaks.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// What it spent.
    spent: u64,
    /// What it has and has not said to be spent.
    escrowed: u64,
    /// `open`; `written_off`, where it was not heard for too long; `done`, where what it spent is final; `struck`, where an
    /// operator took it out, and nothing of it counts.
    state: &'static str,
    /// When it was last heard.
    heard_at: String,
}

/// Which window.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SpendingQuery {
    /// The one that this instant is in (RFC 3339); now if absent.
    #[param(required = false, nullable = false)]
    at: Option<String>,
}

/// Budgets, in the order of their names.
#[utoipa::path(get, path = "/v1/budgets", params(PageQuery), tag = "budgets", responses(
    (status = 200, body = Page<Budget>), Problems,
))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<Value>>, Problem> {
    caller.authorize(Permission::Read)?;
    let org = org_filter(&caller, query.org.as_deref())?;
    let wanted = ListQuery {
        org: &org,
        after: query.after.as_deref().unwrap_or_default(),
        limit: query.limit()?,
    };
    let listed = app.store.list(wanted).await?;
    to_page(&app.store, &caller, listed, |budget: &Budget| budget.id.clone()).await
}

/// One budget.
#[utoipa::path(get, path = "/v1/budgets/{budget}", tag = "budgets", params(("budget" = String, Path)), responses(
    (status = 200, body = Budget), Problems,
))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let budget = readable(&app, &caller, &id).await?;
    show(
        &app.store,
        &caller,
        StatusCode::OK,
        &budget.document,
        budget.revision,
    )
    .await
}

/// What was spent of a budget in one window.
#[utoipa::path(get, path = "/v1/budgets/{budget}/spending", tag = "budgets",
    params(SpendingQuery, ("budget" = String, Path)), responses(
    (status = 200, body = Spending), Problems,
))]
pub(super) async fn spending(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<SpendingQuery>,
) -> Result<axum::Json<Spending>, Problem> {
    let budget = readable(&app, &caller, &id).await?.document;
    let at = query.at.as_deref();
    time::ensure_rfc3339("at", at)?;
    let window = match at {
        None => budget.window_at(time::now())?,
        Some(text) => {
            let beyond = |_| Problem::invalid("at", text, "a time in the years that there are");
            budget.window_at(time::parse("at", text)?).map_err(beyond)?
        }
    };
    let amount = budget.amount();
    let Some(window) = window else {
        return Ok(axum::Json(Spending {
            window: None,
            resets_at: None,
            amount,
            spent: 0,
            escrowed: 0,
            left: 0,
            slices: None,
        }));
    };
    let totals = app.store.standing(&id, window).await?.totals;
    let slices = match caller.is_confined() {
        true => None,
        false => Some(app.store.slices(&id, window, 1_000).await?),
    };
    let shown = |slice: crate::spending::HeldSlice| SliceShown {
        spent: slice.account.spent,
        escrowed: match slice.is_struck {
            true => 0,
            false => slice.account.escrowed(),
        },
        state: match slice.account.state {
            _ if slice.is_struck => "struck",
            tollgate_budgets::State::Open => "open",
            tollgate_budgets::State::WrittenOff => "written_off",
            tollgate_budgets::State::Done => "done",
        },
        heard_at: time::to_rfc3339(slice.heard_at),
        holder: slice.holder,
        token: slice.token.filter(|token| !token.is_empty()),
    };
    Ok(axum::Json(Spending {
        window: Some(time::to_rfc3339(window.from)),
        resets_at: (window.until != i64::MAX).then(|| time::to_rfc3339(window.until)),
        amount,
        spent: totals.spent,
        escrowed: totals.held.saturating_sub(totals.spent),
        left: amount.saturating_sub(totals.held),
        slices: slices.map(|slices| slices.into_iter().map(shown).collect()),
    }))
}

/// Makes a budget. A request has to have room in every budget that covers it.
#[utoipa::path(post, path = "/v1/budgets", tag = "budgets", params(WriteOptions), request_body = NewBudget, responses(
    (status = 201, body = Budget), (status = 200, body = Preview, description = "A dry run."),
    Problems,
))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    options: WriteOptions,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Value>,
) -> Result<Response, Problem> {
    caller.authorize(Permission::ManageBudgets)?;
    let idempotency = IdempotentRequest::from_headers(&headers, "budgets", &body)?;
    let (mut terms, body) = split_terms(body)?;
    let (id, spec): (String, BudgetSpec) = split_id(body)?;
    terms.scope.check()?;
    let mut write = app
        .store
        .begin(&caller, "budget.create", options.reason.as_deref())
        .await?;
    if let Some(idempotency) = &idempotency
        && let Some(answer) = idempotency.stored_answer(&mut write, &caller, &options).await?
    {
        return Ok(answer);
    }
    let org = scope_org(&mut write, &caller, &terms.scope).await?;
    if caller.is_confined() && !id.starts_with(&format!("{org}:")) {
        let expected =
            format!("`{org}:` and a name: a token that is confined to organizations makes no other");
        return Err(Problem::invalid("id", &id, &expected));
    }
    terms.scope = whole_line(&mut write, terms.scope).await?;
    let budget = Budget {
        org,
        id,
        terms,
        spec,
        raise: None,
        reached: None,
        struck: None,
        by_confined: caller.is_confined(),
        metadata: Metadata::new(time::to_rfc3339(write.time()), caller.name()),
    };
    budget.check()?;
    time::ensure_future("ends_at", budget.spec.ends_at.as_deref(), write.time())?;
    write.create(&budget).await?;
    ensure_room_for_budgets(&mut write, &caller, &budget.org).await?;
    if let Some(idempotency) = &idempotency {
        idempotency.remember(&mut write, &caller, &budget).await?;
    }
    commit_or_preview(write, &budget.org, &options, StatusCode::CREATED, &budget, 0).await
}

/// Changes a budget: a JSON merge patch (RFC 7396). Its scope, unit and window stay: what is spent is counted in them.
#[utoipa::path(patch, path = "/v1/budgets/{budget}", tag = "budgets", params(WriteOptions, ("budget" = String, Path)),
    request_body = BudgetChange, responses(
    (status = 200, body = Changed<Budget>), Problems,
))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
    if_match: IfMatch,
    JsonBody(change): JsonBody<Value>,
) -> Result<Response, Problem> {
    let (write, before) = begin(&app, &caller, "budget.change", options.reason.as_deref(), &id).await?;
    ensure_current(&before, &if_match)?;
    let spec: BudgetSpec = apply_patch(&before.document.spec, change)?;
    let budget = Budget {
        spec,
        ..before.document.clone()
    };
    budget.check()?;
    put(write, &before, &budget, &options).await
}

/// Removes a budget. What is still spent of it is counted, and its name is not used again.
#[utoipa::path(delete, path = "/v1/budgets/{budget}", tag = "budgets", params(WriteOptions, ("budget" = String, Path)),
    responses((status = 200, body = Changed<Budget>), Problems,
))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let (mut write, before) = begin(&app, &caller, "budget.remove", options.reason.as_deref(), &id).await?;
    ensure_current(&before, &if_match)?;
    write.remove(&before).await?;
    let budget = &before.document;
    commit_or_preview(
        write,
        &budget.org,
        &options,
        StatusCode::OK,
        budget,
        before.revision,
    )
    .await
}

/// Raises a budget for a while, which ends by itself. It takes the place of a raise that is in force.
#[utoipa::path(post, path = "/v1/budgets/{budget}/raise", tag = "budgets", params(WriteOptions, ("budget" = String, Path)),
    request_body = NewRaise, responses(
    (status = 200, body = Changed<Budget>), Problems,
))]
pub(super) async fn raise(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
    if_match: IfMatch,
    JsonBody(new): JsonBody<NewRaise>,
) -> Result<Response, Problem> {
    let reason = new.reason.trim();
    if reason.is_empty() {
        return Err(Problem::field("reason", "say why, in at most 500 characters"));
    }
    check::reason(reason)?;
    if !(1..=MOST).contains(&new.by) {
        let expected = "a number from 1 to 9007199254740992 (2^53)";
        return Err(Problem::invalid("by", &new.by.to_string(), expected));
    }
    let span = time::parse_span("for", &new.span)?;
    let (write, before) = begin(&app, &caller, "budget.raise", Some(reason), &id).await?;
    ensure_current(&before, &if_match)?;
    let budget = Budget {
        raise: Some(Raise {
            by: new.by,
            until: time::end_to_rfc3339(write.time().saturating_add(span)),
            reason: reason.to_owned(),
            raised_by: caller.name().to_owned(),
        }),
        ..before.document.clone()
    };
    put(write, &before, &budget, &options).await
}

/// Ends a raise before its time. Doing it again changes nothing.
#[utoipa::path(post, path = "/v1/budgets/{budget}/raise/end", tag = "budgets",
    params(WriteOptions, ("budget" = String, Path)), responses(
    (status = 200, body = Changed<Budget>), Problems,
))]
pub(super) async fn end_raise(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let (write, before) = begin(&app, &caller, "budget.raise_end", options.reason.as_deref(), &id).await?;
    ensure_current(&before, &if_match)?;
    let budget = Budget {
        raise: None,
        ..before.document.clone()
    };
    put(write, &before, &budget, &options).await
}

/// Strikes out what holders said, in every window: what they have and what they spent counts no longer, they are given
/// nothing, and nothing more is taken of them. For a gateway's token that was stolen: revoke it first.
#[utoipa::path(post, path = "/v1/budgets/{budget}/strike", tag = "budgets", params(WriteOptions, ("budget" = String, Path)),
    request_body = NewStrike, responses(
    (status = 200, body = Changed<Budget>), Problems,
))]
pub(super) async fn strike(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    options: WriteOptions,
    if_match: IfMatch,
    JsonBody(new): JsonBody<NewStrike>,
) -> Result<Response, Problem> {
    caller.authorize(Permission::StrikeHolders)?;
    let (whose, named) = match (&new.holder, &new.token) {
        (Some(holder), None) => (Whose::Holder(holder), format!("holder:{holder}")),
        (None, Some(token)) => (Whose::Token(token), format!("token:{token}")),
        _ => {
            return Err(Problem::field(
                "holder",
                "name a `holder` or a `token`, and not both",
            ));
        }
    };
    let reason = options.reason.as_deref();
    let (mut write, before) = begin(&app, &caller, "budget.strike", reason, &id).await?;
    ensure_current(&before, &if_match)?;
    let sums = spending::strike(write.transaction(), &before.document, whose).await?;
    if sums.slices == 0 {
        let (noun, name) = match whose {
            Whose::Holder(holder) => ("slice of the holder", holder),
            Whose::Token(token) => ("slice of the token", token),
        };
        return Err(Problem::not_found(noun, name));
    }
    let mut budget = before.document.clone();
    budget.reached = budget.reached.and_then(|reached| {
        let window = time::parse("window", &reached.window).ok()?;
        match sums.reached.get(&window) {
            None => Some(reached),
            Some(0) => None,
            Some(percent) => Some(Reached {
                percent: reached.percent.min(*percent),
                ..reached
            }),
        }
    });
    budget.struck = Some(Struck {
        whose: named,
        at: time::to_rfc3339(write.time()),
        slices: sums.slices,
        spent: sums.spent,
        escrowed: sums.escrowed,
    });
    put(write, &before, &budget, &options).await
}

/// A budget that the caller may read.
async fn readable(app: &App, caller: &Caller, id: &str) -> Result<Stored<Budget>, Problem> {
    caller.authorize(Permission::Read)?;
    let budget = app.store.get::<Budget>(id).await?;
    authorize_object(
        caller,
        Permission::Read,
        &budget.document.org,
        Kind::Budget.noun(),
        id,
    )?;
    Ok(budget)
}

/// Begins a write to a budget that the caller may change. What the platform made, only the platform changes.
async fn begin<'a>(
    app: &'a App,
    caller: &Caller,
    action: &str,
    reason: Option<&str>,
    id: &str,
) -> Result<(Write<'a>, Stored<Budget>), Problem> {
    caller.authorize(Permission::ManageBudgets)?;
    let mut write = app.store.begin(caller, action, reason).await?;
    let before: Stored<Budget> = write.get(id).await?;
    let budget = &before.document;
    authorize_object(
        caller,
        Permission::ManageBudgets,
        &budget.org,
        Kind::Budget.noun(),
        id,
    )?;
    if caller.is_confined() && !budget.by_confined {
        return Err(Problem::forbidden(
            "it was made by the platform, and a token that is confined to organizations may not change it; it may add a \
             tighter one",
        ));
    }
    Ok((write, before))
}

/// Puts a changed budget in the place of what it was, and answers with it.
async fn put(
    mut write: Write<'_>,
    before: &Stored<Budget>,
    budget: &Budget,
    options: &WriteOptions,
) -> Result<Response, Problem> {
    write.replace(before, budget).await?;
    commit_or_preview(
        write,
        &budget.org,
        options,
        StatusCode::OK,
        budget,
        before.revision,
    )
    .await
}

/// What can't be changed, taken out of a body.
fn split_terms(mut body: Value) -> Result<(BudgetTerms, Value), Problem> {
    let mut terms = Map::new();
    if let Some(members) = body.as_object_mut() {
        for name in ["scope", "unit", "window", "time_zone", "begins_at"] {
            if let Some((name, value)) = members.remove_entry(name) {
                terms.insert(name, value);
            }
        }
    }
    Ok((parse(Value::Object(terms).to_string().as_bytes())?, body))
}

/// The same scope; of a key, by the first of those that it was rotated from: they are one to a budget.
async fn whole_line(write: &mut Write<'_>, scope: Scope) -> Result<Scope, Problem> {
    let Scope::Key(id) = scope else {
        return Ok(scope);
    };
    let key = write.get::<Key>(&id).await?.document;
    Ok(Scope::Key(key.rotation_root.unwrap_or(id)))
}

/// The organization that a scope is in, and that what it names is there; empty for what is in none, or in several. A confined
/// caller's is a project or key of its own.
async fn scope_org(write: &mut Write<'_>, caller: &Caller, scope: &Scope) -> Result<String, Problem> {
    let (kind, id, org) = match scope {
        Scope::Key(id) => {
            let key = write.get::<Key>(id).await?.document;
            if let Some(at) = key.revoked_at.as_ref().filter(|_| caller.can_see(&key.org)) {
                return Err(Problem::conflict(format!("the key `{id}` was revoked at {at}")));
            }
            (Kind::Key, id, key.org)
        }
        Scope::Project(id) => (Kind::Project, id, write.get::<Project>(id).await?.document.org),
        Scope::Org(id) => (Kind::Org, id, write.get::<Org>(id).await?.document.id),
        Scope::Label(_) | Scope::Pool(_) if caller.is_confined() => {
            return Err(Problem::forbidden(
                "a token that is confined to organizations may not make a budget that others share",
            ));
        }
        Scope::Label(_) => return Ok(String::new()),
        Scope::Pool(orgs) => {
            for org in orgs {
                write.get::<Org>(org).await?;
            }
            return Ok(String::new());
        }
    };
    authorize_object(caller, Permission::ManageBudgets, &org, kind.noun(), id)?;
    if caller.is_confined() && kind == Kind::Org {
        return Err(Problem::forbidden(
            "a token that is confined to organizations may make budgets of projects and keys, and not of one whole",
        ));
    }
    Ok(org)
}
