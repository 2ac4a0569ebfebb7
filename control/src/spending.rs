//! What is spent of budgets: the rule of `tollgate_budgets`, kept in the database.
//!
//! An exchange is one transaction, and nobody sees its answer before it lasts. It takes the window's row first, so that of
//! two exchanges on one window, on two servers too, one sees what the other did.

use std::collections::BTreeMap;

use sqlx::any::AnyRow;
use sqlx::{Any, Row as _, Transaction};
use tollgate_budgets::{Account, Answer, Book, Report, Rules, State, Terms, Totals};

use crate::access::Caller;
use crate::budget::Budget;
use crate::calendar::Span;
use crate::documents::{Document as _, Kind};
use crate::problem::Problem;
use crate::store::{Store, read};

/// How long a holder counts among those that share a window after it was heard; milliseconds.
const SHARES_FOR: i64 = 60_000;
/// How long before it begins a window gives slices, so that nobody has none when it does; milliseconds.
const AHEAD: i64 = 60_000;
/// How long after its end slices of a window are kept, and what was spent in it is still settled; milliseconds.
pub(crate) const KEPT: i64 = 90 * DAY;
/// How long after its end a window is kept, with what was spent in it; milliseconds.
const WINDOW_KEPT: i64 = 400 * DAY;
const DAY: i64 = 86_400_000;
/// Slices that are written off in one exchange.
const MOST_WRITTEN_OFF: i64 = 100;
/// How long after its end a window takes a holder that was not heard in it before: the database may have come back from a
/// backup. Milliseconds.
const NEWCOMERS: i64 = DAY;
/// So many holders of one token a window has at most, those that are over included.
const MOST_HOLDERS: i64 = 10_000;
/// So many of them are not over: a thousand Envoys that share a token.
const MOST_OPEN: i64 = 1_000;

/// A report, with what it is about.
pub(crate) struct Reported {
    pub(crate) budget: Budget,
    /// Whether the budget was removed: what was spent of it is counted, and nothing is granted.
    pub(crate) is_removed: bool,
    pub(crate) window: Span,
    /// Whether somebody is told of its thresholds: it is now, the one before, or next.
    pub(crate) is_told: bool,
    pub(crate) report: Report,
}

/// Why a report was not taken, and changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

/// Whose slices are struck out of a budget.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// One holder's.
    Holder(&'a str),
    /// Those of all holders of a token, by its id.
    Token(&'a str),
}

/// What was struck out of a budget, over all of its windows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StruckSums {
    pub(crate) slices: u64,
    pub(crate) spent: u64,
    pub(crate) escrowed: u64,
    /// When each of these windows began, and the threshold that it has reached without them; 0 for none.
    pub(crate) reached: BTreeMap<i64, u8>,
}

/// A window as the database has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) window: Span,
    pub(crate) totals: Totals,
}

/// A slice as the database has it.
#[derive(Debug, Clone)]
pub(crate) struct HeldSlice {
    pub(crate) holder: String,
    /// The id of the token by which it speaks; `None` where that was never noted.
    pub(crate) token: Option<String>,
    pub(crate) account: Account,
    /// An operator took its numbers out of the window's.
    pub(crate) is_struck: bool,
    pub(crate) heard_at: i64,
}

/// A threshold that was reached.
pub(crate) struct ReachedThreshold {
    pub(crate) percent: u8,
    pub(crate) standing: Standing,
}

/// The state of a slice that was struck out.
const STRUCK: i64 = 3;

/// First in its transaction: who holds the row is alone with the window.
const LOCK: &str = "INSERT INTO budget_windows \
     (budget, starts_at, ends_at, held, spent, reached, told, heard_at, awake_since) \
     VALUES ($1, $2, $3, 0, 0, 0, 0, $4, $4) ON CONFLICT (budget, starts_at) DO UPDATE SET ends_at = $3 \
     RETURNING held, spent, reached, heard_at, awake_since";
const FIND_SLICE: &str = "SELECT holder, token, granted, returned, spent, claimed, state, heard_at FROM budget_slices \
     WHERE budget = $1 AND starts_at = $2 AND holder = $3";
/// What the slices of one token are: how many, how many of these are not over, and how far they go beyond what was granted.
const SUM_OF_TOKEN: &str = "SELECT COUNT(*) AS n, COUNT(CASE WHEN state < 2 THEN 1 END) AS open, \
     CAST(COALESCE(SUM(claimed), 0) AS BIGINT) AS claimed FROM budget_slices \
     WHERE budget = $1 AND starts_at = $2 AND token = $3";
const COUNT_OTHERS: &str = "SELECT COUNT(*) AS n FROM budget_slices \
     WHERE budget = $1 AND starts_at = $2 AND state = 0 AND heard_at > $3 AND holder <> $4";
const FIND_LOST: &str = "SELECT holder, token, granted, returned, spent, claimed, state, heard_at FROM budget_slices \
     WHERE budget = $1 AND starts_at = $2 AND state = 0 AND heard_at <= $3 AND holder <> $4 LIMIT $5";
const PUT_SLICE: &str = "INSERT INTO budget_slices \
     (budget, starts_at, holder, granted, returned, spent, state, heard_at, token, claimed) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (budget, starts_at, holder) \
     DO UPDATE SET granted = $4, returned = $5, spent = $6, state = $7, heard_at = $8, token = $9, claimed = $10";
/// What slices count for in their window's sums, as [`Account::held`] has it.
const SUM_TO_STRIKE: &str = "SELECT COUNT(*) AS n, CAST(COALESCE(SUM(spent), 0) AS BIGINT) AS spent, CAST(COALESCE(SUM( \
     CASE WHEN state = 0 AND granted - returned > spent THEN granted - returned ELSE spent END), 0) AS BIGINT) AS held \
     FROM budget_slices WHERE budget = $1 AND starts_at = $2 AND state < 3 AND";
const PUT_TOTALS: &str = "UPDATE budget_windows SET held = $1, spent = $2, reached = $3, heard_at = $4, awake_since = $5 \
     WHERE budget = $6 AND starts_at = $7";

impl Store {
    /// A budget, and whether it was removed; `None` where there never was one of that name.
    pub(crate) async fn budget_or_removed(&self, id: &str) -> Result<Option<(Budget, bool)>, Problem> {
        let row = sqlx::query("SELECT gone, document FROM objects WHERE kind = $1 AND id = $2")
            .bind(Kind::Budget.name())
            .bind(id)
            .fetch_optional(self.pool())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let budget = read(&row.try_get::<String, _>("document")?)?;
        Ok(Some((budget, row.try_get::<i64, _>("gone")? != 0)))
    }

    /// Takes a holder's reports by a token, and grants what it may have. Of each the answer, or why it was not taken. They are
    /// in the order of budgets and windows, each once, or two servers could wait for one another.
    pub(crate) async fn exchange(
        &self,
        caller: &Caller,
        holder: &str,
        reports: &[Reported],
        now: i64,
    ) -> Result<Vec<Result<Answer, Refused>>, Problem> {
        if reports.is_empty() {
            return Ok(Vec::new());
        }
        let mut exchange = self.begin_spending(caller).await?;
        let mut answers = Vec::with_capacity(reports.len());
        for reported in reports {
            let heard = Heard {
                store: self,
                token: caller.token_id().unwrap_or_default(),
                holder,
                reported,
                now,
            };
            answers.push(heard.exchange(&mut exchange.transaction).await?);
        }
        exchange.commit().await?;
        Ok(answers)
    }

    /// A window of a budget as it stands; nothing held and nothing spent where nobody has asked for it yet.
    pub(crate) async fn standing(&self, budget: &str, window: Span) -> Result<Standing, Problem> {
        let row = sqlx::query("SELECT held, spent FROM budget_windows WHERE budget = $1 AND starts_at = $2")
            .bind(budget)
            .bind(window.from)
            .fetch_optional(self.pool())
            .await?;
        let totals = row.map_or(Ok(Totals::default()), |row| totals(&row))?;
        Ok(Standing { window, totals })
    }

    /// The slices of a window, those that were heard last first.
    pub(crate) async fn slices(
        &self,
        budget: &str,
        window: Span,
        limit: i64,
    ) -> Result<Vec<HeldSlice>, Problem> {
        let rows = sqlx::query(
            "SELECT holder, token, granted, returned, spent, claimed, state, heard_at FROM budget_slices \
             WHERE budget = $1 AND starts_at = $2 ORDER BY heard_at DESC, holder LIMIT $3",
        )
        .bind(budget)
        .bind(window.from)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(slice).collect()
    }

    /// Windows of which a threshold was reached and not told: budgets, and when the window began.
    pub(crate) async fn thresholds_to_tell(&self) -> Result<Vec<(String, i64)>, Problem> {
        let rows = sqlx::query(
            "SELECT budget, starts_at FROM budget_windows WHERE reached > told ORDER BY budget, starts_at LIMIT 100",
        )
        .fetch_all(self.pool())
        .await?;
        let each = rows
            .iter()
            .map(|row| Ok((row.try_get("budget")?, row.try_get("starts_at")?)));
        each.collect()
    }

    /// Tells nobody that a threshold was reached, of a budget that was removed.
    pub(crate) async fn forget_threshold(&self, budget: &str, starts_at: i64) -> Result<(), Problem> {
        sqlx::query("UPDATE budget_windows SET told = reached WHERE budget = $1 AND starts_at = $2")
            .bind(budget)
            .bind(starts_at)
            .execute(self.writers())
            .await?;
        Ok(())
    }

    /// Forgets the slices of windows that ended long ago, and later the windows. Where the clock is wrong, what was spent of a
    /// window stays counted: it goes with the window alone.
    pub(crate) async fn forget_old_windows(&self, now: i64) -> Result<(), Problem> {
        sqlx::query(
            "DELETE FROM budget_slices WHERE heard_at < $1 AND EXISTS (SELECT 1 FROM budget_windows AS ended \
             WHERE ended.budget = budget_slices.budget AND ended.starts_at = budget_slices.starts_at \
             AND ended.ends_at < $1)",
        )
        .bind(now.saturating_sub(KEPT))
        .execute(self.writers())
        .await?;
        sqlx::query("DELETE FROM budget_windows WHERE ends_at < $1")
            .bind(now.saturating_sub(WINDOW_KEPT))
            .execute(self.writers())
            .await?;
        Ok(())
    }
}

/// Notes that what was reached of a window is told; `None` where it was told already.
pub(crate) async fn tell_threshold(
    transaction: &mut Transaction<'static, Any>,
    budget: &str,
    starts_at: i64,
) -> Result<Option<ReachedThreshold>, Problem> {
    let row = sqlx::query(
        "UPDATE budget_windows SET told = reached WHERE budget = $1 AND starts_at = $2 AND reached > told \
         RETURNING reached, ends_at, held, spent",
    )
    .bind(budget)
    .bind(starts_at)
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(ReachedThreshold {
        percent: u8::try_from(row.try_get::<i64, _>("reached")?).unwrap_or(u8::MAX),
        standing: Standing {
            window: Span {
                from: starts_at,
                until: row.try_get("ends_at")?,
            },
            totals: totals(&row)?,
        },
    }))
}

/// Takes slices out of the sums of each of a budget's windows, in the order of windows. Those of one that had reached a
/// threshold by them tell of it again.
pub(crate) async fn strike(
    transaction: &mut Transaction<'static, Any>,
    budget: &Budget,
    whose: Whose<'_>,
) -> Result<StruckSums, Problem> {
    let (column, name) = match whose {
        Whose::Holder(holder) => ("holder = $3", holder),
        Whose::Token(token) => ("token = $3", token),
    };
    let statement = |text: String| sqlx::AssertSqlSafe(text);
    let windows = sqlx::query(statement(format!(
        "SELECT DISTINCT starts_at FROM budget_slices WHERE budget = $1 AND state < $2 AND {column} ORDER BY starts_at"
    )))
    .bind(budget.id())
    .bind(STRUCK)
    .bind(name)
    .fetch_all(&mut **transaction)
    .await?;
    let mut struck = StruckSums::default();
    for window in windows {
        let starts_at: i64 = window.try_get("starts_at")?;
        // As an exchange does: from here on nobody else changes the window or its slices.
        let row = sqlx::query(
            "UPDATE budget_windows SET held = held WHERE budget = $1 AND starts_at = $2 \
             RETURNING held, spent, reached, told",
        )
        .bind(budget.id())
        .bind(starts_at)
        .fetch_one(&mut **transaction)
        .await?;
        let sums = sqlx::query(statement(format!("{SUM_TO_STRIKE} {column}")))
            .bind(budget.id())
            .bind(starts_at)
            .bind(name)
            .fetch_one(&mut **transaction)
            .await?;
        sqlx::query(statement(format!(
            "UPDATE budget_slices SET state = {STRUCK} WHERE budget = $1 AND starts_at = $2 AND {column}"
        )))
        .bind(budget.id())
        .bind(starts_at)
        .bind(name)
        .execute(&mut **transaction)
        .await?;
        let (before, taken) = (totals(&row)?, totals(&sums)?);
        let spent = before.spent.saturating_sub(taken.spent);
        let percent = budget.threshold(spent).unwrap_or(0);
        let reached = i64::from(percent);
        struck.reached.insert(starts_at, percent);
        sqlx::query(
            "UPDATE budget_windows SET held = $1, spent = $2, reached = $3, told = $4 WHERE budget = $5 AND starts_at = $6",
        )
        .bind(stored(before.held.saturating_sub(taken.held))?)
        .bind(stored(spent)?)
        .bind(reached.min(row.try_get("reached")?))
        .bind(reached.min(row.try_get("told")?))
        .bind(budget.id())
        .bind(starts_at)
        .execute(&mut **transaction)
        .await?;
        struck.slices = struck.slices.saturating_add(number(sums.try_get("n")?));
        struck.spent = struck.spent.saturating_add(taken.spent);
        struck.escrowed = struck
            .escrowed
            .saturating_add(taken.held.saturating_sub(taken.spent));
    }
    Ok(struck)
}

/// What the slices of one token are, in a window.
struct OfToken {
    holders: i64,
    open: i64,
    claimed: u64,
}

/// A report, and by whom.
struct Heard<'a> {
    store: &'a Store,
    token: &'a str,
    holder: &'a str,
    reported: &'a Reported,
    now: i64,
}

impl Heard<'_> {
    async fn exchange(
        &self,
        transaction: &mut Transaction<'static, Any>,
    ) -> Result<Result<Answer, Refused>, Problem> {
        let Self { reported, now, .. } = *self;
        let (budget, window) = (&reported.budget, reported.window);
        // Before a window is kept for it.
        if window.until < now.saturating_sub(NEWCOMERS) && self.slice(transaction).await?.is_none() {
            return Ok(Err(Refused(
                "the window ended, and the holder was never heard in it",
            )));
        }
        let row = sqlx::query(LOCK)
            .bind(budget.id())
            .bind(window.from)
            .bind(window.until)
            .bind(now)
            .fetch_one(&mut **transaction)
            .await?;
        let known = self.slice(transaction).await?;
        if let Some(refused) = self.refused(transaction, known.as_ref()).await? {
            return Ok(Err(refused));
        }
        let reached: i64 = row.try_get("reached")?;
        let awake_since = awake_since(now, row.try_get("heard_at")?, row.try_get("awake_since")?);
        let others = sqlx::query(COUNT_OTHERS)
            .bind(budget.id())
            .bind(window.from)
            .bind(now.saturating_sub(SHARES_FOR))
            .bind(self.holder)
            .fetch_one(&mut **transaction)
            .await?;
        let mut account = known.map_or_else(Account::default, |known| known.account);
        let is_now = window.from.saturating_sub(AHEAD) <= now && now < window.until;
        // All that a token's holders are believed beyond what was granted is the amount, once.
        let believes = match account.is_passed_by(&reported.report) {
            true => budget
                .amount()
                .saturating_sub(self.of_token(transaction).await?.claimed),
            false => 0,
        };
        let mut book = Book {
            terms: Terms {
                amount: budget.amount(),
                holders: number(others.try_get("n")?).saturating_add(1),
                grants: is_now && !reported.is_removed,
                believes,
                rules: Rules::default(),
            },
            totals: totals(&row)?,
        };
        // Where nobody was heard, as the servers were down, it is not they who were silent.
        let lost_after = budget.lost_after();
        if let Some(lost_after) = lost_after.filter(|span| awake_since <= now.saturating_sub(*span)) {
            let since = now.saturating_sub(lost_after);
            write_off(transaction, &mut book, self.holder, reported, since).await?;
        }
        let answer = book.exchange(&mut account, &reported.report);
        if answer.is_ok() {
            let heard = HeldSlice {
                holder: self.holder.to_owned(),
                token: Some(self.token.to_owned()),
                account,
                is_struck: false,
                heard_at: now,
            };
            put_slice(transaction, budget, window, &heard).await?;
        }
        // Of one that was removed nobody is told any more.
        let threshold = budget
            .threshold(book.totals.spent)
            .filter(|_| reported.is_told && !reported.is_removed);
        sqlx::query(PUT_TOTALS)
            .bind(stored(book.totals.held)?)
            .bind(stored(book.totals.spent)?)
            .bind(reached.max(threshold.map_or(0, i64::from)))
            .bind(now)
            .bind(awake_since)
            .bind(budget.id())
            .bind(window.from)
            .execute(&mut **transaction)
            .await?;
        Ok(answer.map_err(|_| Refused("its numbers cannot be: expected at most 2^53 each")))
    }

    async fn slice(&self, transaction: &mut Transaction<'static, Any>) -> Result<Option<HeldSlice>, Problem> {
        let row = sqlx::query(FIND_SLICE)
            .bind(self.reported.budget.id())
            .bind(self.reported.window.from)
            .bind(self.holder)
            .fetch_optional(&mut **transaction)
            .await?;
        row.map(|row| slice(&row)).transpose()
    }

    /// Why its holder may not report by its token.
    async fn refused(
        &self,
        transaction: &mut Transaction<'static, Any>,
        known: Option<&HeldSlice>,
    ) -> Result<Option<Refused>, Problem> {
        let Some(known) = known else {
            let of_token = self.of_token(transaction).await?;
            let is_full = of_token.holders >= MOST_HOLDERS || of_token.open >= MOST_OPEN;
            return Ok(is_full.then_some(Refused(
                "the window has as many holders of this token as it takes: give each gateway a token of its own",
            )));
        };
        if known.is_struck {
            return Ok(Some(Refused(
                "the holder was struck out: begin anew by another name",
            )));
        }
        // A gateway is given another token, and the one before is revoked: then it speaks for its holders by the new one.
        let other = known.token.as_deref().filter(|token| *token != self.token);
        let is_anothers = match other {
            Some(other) => self.store.is_token_valid(other).await?,
            None => false,
        };
        Ok(is_anothers.then_some(Refused("the holder is another token's, until that is revoked")))
    }

    async fn of_token(&self, transaction: &mut Transaction<'static, Any>) -> Result<OfToken, Problem> {
        let row = sqlx::query(SUM_OF_TOKEN)
            .bind(self.reported.budget.id())
            .bind(self.reported.window.from)
            .bind(self.token)
            .fetch_one(&mut **transaction)
            .await?;
        Ok(OfToken {
            holders: row.try_get("n")?,
            open: row.try_get("open")?,
            claimed: number(row.try_get("claimed")?),
        })
    }
}

/// Since when there was no minute in which nobody was heard.
fn awake_since(now: i64, heard_at: i64, awake_since: i64) -> i64 {
    // A clock that went back says nothing of how long it was.
    let silence = now.saturating_sub(heard_at);
    if (0..=SHARES_FOR).contains(&silence) {
        awake_since
    } else {
        now
    }
}

/// Lets others have the slices of those that were not heard since.
async fn write_off(
    transaction: &mut Transaction<'static, Any>,
    book: &mut Book,
    holder: &str,
    reported: &Reported,
    since: i64,
) -> Result<(), Problem> {
    let lost = sqlx::query(FIND_LOST)
        .bind(reported.budget.id())
        .bind(reported.window.from)
        .bind(since)
        .bind(holder)
        .bind(MOST_WRITTEN_OFF)
        .fetch_all(&mut **transaction)
        .await?;
    for row in lost {
        let mut lost = slice(&row)?;
        book.write_off(&mut lost.account);
        put_slice(transaction, &reported.budget, reported.window, &lost).await?;
    }
    Ok(())
}

async fn put_slice(
    transaction: &mut Transaction<'static, Any>,
    budget: &Budget,
    window: Span,
    slice: &HeldSlice,
) -> Result<(), Problem> {
    let account = &slice.account;
    sqlx::query(PUT_SLICE)
        .bind(budget.id())
        .bind(window.from)
        .bind(slice.holder.clone())
        .bind(stored(account.granted)?)
        .bind(stored(account.returned)?)
        .bind(stored(account.spent)?)
        .bind(match account.state {
            _ if slice.is_struck => STRUCK,
            State::Open => 0,
            State::WrittenOff => 1,
            State::Done => 2,
        })
        .bind(slice.heard_at)
        .bind(slice.token.clone())
        .bind(stored(account.claimed)?)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

fn slice(row: &AnyRow) -> Result<HeldSlice, Problem> {
    let kept: i64 = row.try_get("state")?;
    let state = match kept {
        0 => State::Open,
        1 => State::WrittenOff,
        _ => State::Done,
    };
    Ok(HeldSlice {
        holder: row.try_get("holder")?,
        token: row.try_get("token")?,
        is_struck: kept == STRUCK,
        account: Account {
            granted: number(row.try_get("granted")?),
            returned: number(row.try_get("returned")?),
            spent: number(row.try_get("spent")?),
            claimed: number(row.try_get::<Option<i64>, _>("claimed")?.unwrap_or(0)),
            state,
        },
        heard_at: row.try_get("heard_at")?,
    })
}

fn totals(row: &AnyRow) -> Result<Totals, Problem> {
    Ok(Totals {
        held: number(row.try_get("held")?),
        spent: number(row.try_get("spent")?),
    })
}

/// None is stored below zero.
fn number(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

fn stored(number: u64) -> Result<i64, Problem> {
    i64::try_from(number).map_err(|_| Problem::unavailable("a sum is larger than the database holds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_of_all_is_nobodys_own() {
        for (now, heard_at, expected) in [
            (100_000, 99_000, 5),
            (100_000, 40_000, 5),
            (100_000, 39_999, 100_000),
            (100_000, 100_001, 100_000),
            (i64::MAX, i64::MIN, i64::MAX),
        ] {
            assert_eq!(awake_since(now, heard_at, 5), expected);
        }
    }
}
