//! Reserving from every budget that covers a request, or from none, and settling by its usage record.

use super::purse::{Lack, Purse, Standing};
use super::queue::AskSoon;
use crate::budget::{Terms, Unit};
use crate::limits::{Amounts, OnError};
use crate::state::{Store, StoreError};
use crate::usage::record::{Source, Used};

/// What a request may spend, or has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expense {
    requests: u64,
    tokens: u64,
    cost: u64,
}

impl Expense {
    /// The most that a request is expected to spend, where so much is reserved for it.
    pub const fn reserved(amounts: &Amounts) -> Self {
        Self {
            requests: 1,
            tokens: amounts.input.saturating_add(amounts.output),
            cost: amounts.cost,
        }
    }

    /// What a request spent, by its usage record: nothing where no model server used anything for it.
    pub fn recorded(used: &Used) -> Self {
        if used.source == Source::Nothing {
            return Self::default();
        }
        Self {
            requests: 1,
            tokens: used.input_tokens.saturating_add(used.output_tokens),
            cost: used.cost_micros.unwrap_or(0),
        }
    }

    /// That in a unit.
    pub const fn of(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
            Unit::CostMicros => self.cost,
        }
    }
}

/// A request that asks to pass.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The budgets that cover its caller.
    pub budgets: &'a [Terms],
    /// The most that it may spend.
    pub most: Expense,
    /// Nanoseconds since 1970.
    pub now: u64,
    /// What becomes of it where nobody knows how a budget stands.
    pub on_error: OnError,
}

/// What a request has reserved.
#[must_use = "what is reserved must be settled"]
#[derive(Debug, Default)]
pub struct Reservation(Vec<Held>);

/// Of one budget.
#[derive(Debug)]
struct Held {
    budget: String,
    unit: Unit,
    /// When the window began.
    window: i64,
    reserved: u64,
}

/// The budget that refuses a request. Of several, one that is spent before one that is not known, and that before one of
/// which there is too little here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Which one.
    pub budget: Terms,
    /// What the request may spend of it.
    pub requested: u64,
    /// Why.
    pub verdict: Verdict,
}

/// Why a budget refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is enough, and not at this Envoy yet.
    Short,
    /// Nobody knows how much there is.
    Unknown,
    /// There is less left of it.
    Spent(Standing),
}

impl Verdict {
    /// Of several, the one of the highest rank is told.
    const fn rank(&self) -> u8 {
        match self {
            Self::Short => 0,
            Self::Unknown => 1,
            Self::Spent(_) => 2,
        }
    }
}

/// A request that may not pass. Nothing is reserved for it.
#[derive(Debug)]
pub struct Refused {
    /// By which budget.
    pub denied: Denied,
    /// What could not be given back yet.
    pub unreturned: Option<Unsettled>,
}

/// Reserves from every budget that covers the request, or from none.
pub fn reserve(store: &mut impl Store, claim: &Claim<'_>) -> Result<Reservation, Box<Refused>> {
    let mut reservation = Reservation::default();
    let mut denied: Option<Denied> = None;
    for budget in claim.covering() {
        let amount = claim.most.of(budget.unit);
        let verdict = match claim.reserve(store, budget, amount) {
            Ok(held) => {
                reservation.0.extend(held);
                continue;
            }
            Err(Lack::Spent(standing)) => Verdict::Spent(standing),
            Err(Lack::Unknown(_)) => Verdict::Unknown,
            Err(Lack::Short) => Verdict::Short,
        };
        if denied
            .as_ref()
            .is_none_or(|before| before.verdict.rank() < verdict.rank())
        {
            denied = Some(Denied {
                budget: budget.clone(),
                requested: amount,
                verdict,
            });
        }
    }
    match denied {
        None => Ok(reservation),
        Some(denied) => Err(Box::new(Refused {
            denied,
            unreturned: reservation.settle(&Expense::default()).carry_out(store).err(),
        })),
    }
}

impl Claim<'_> {
    /// The budgets that count it now.
    pub fn covering(&self) -> impl Iterator<Item = &Terms> {
        let seconds = (self.now / 1_000_000_000) as i64;
        let budgets = self.budgets.iter();
        budgets.filter(move |budget| budget.is_in_force(seconds))
    }

    /// Reserves from one budget; nothing where it is allowed to pass uncounted.
    fn reserve(&self, store: &mut impl Store, budget: &Terms, amount: u64) -> Result<Option<Held>, Lack> {
        let held = |window, reserved| Held {
            budget: budget.id.clone(),
            unit: budget.unit,
            window,
            reserved,
        };
        let lack = match self.try_reserve(store, budget, amount) {
            Ok(Ok(window)) => return Ok(Some(held(window, amount))),
            Ok(Err(lack)) => lack,
            Err(_) => Lack::Unknown(None),
        };
        match (lack, self.on_error) {
            // Counted, where it is known in which window.
            (Lack::Unknown(window), OnError::Allow) => Ok(window.map(|window| held(window, 0))),
            (lack, _) => Err(lack),
        }
    }

    /// The same, and has the exchanger know of what is missing.
    fn try_reserve(
        &self,
        store: &mut impl Store,
        budget: &Terms,
        amount: u64,
    ) -> Result<Result<i64, Lack>, StoreError> {
        let key = Purse::key(&budget.id);
        let (mut lack, mut is_known) = (Lack::Short, true);
        let reserved = store.modify(&key, &mut None, Purse::default, |purse| {
            is_known = purse.is_known();
            match purse.reserve(amount, self.now) {
                Ok(window) => Some(Some(window)),
                Err(found) => {
                    lack = found;
                    let is_news = match lack {
                        Lack::Spent(_) => purse.doubt(),
                        Lack::Short | Lack::Unknown(_) => purse.lacks(amount),
                    };
                    is_news.then_some(None)
                }
            }
        })?;
        // What is spent is looked at with the rest, and not soon.
        let is_news = reserved == Some(None) && !matches!(lack, Lack::Spent(_));
        let is_heard = (is_news || !is_known) && AskSoon::add(store, &budget.id)?;
        if is_heard && !is_known {
            store.modify(&key, &mut None, Purse::default, |purse| {
                purse.know();
                Some(())
            })?;
        }
        Ok(reserved.flatten().ok_or(lack))
    }
}

impl Reservation {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is to be done now that so much was spent.
    pub fn settle(self, spent: &Expense) -> Settling {
        let changes = self.0.into_iter().map(|held| {
            let spent = spent.of(held.unit);
            (held, spent)
        });
        Settling(changes.collect())
    }
}

/// A reservation of which it is known what was spent.
#[must_use = "what is not settled stays reserved"]
#[derive(Debug)]
pub struct Settling(Vec<(Held, u64)>);

/// What the store did not take. It may be tried again.
pub type Unsettled = Settling;

impl Settling {
    /// Settles each, whatever becomes of the others.
    pub fn carry_out(self, store: &mut impl Store) -> Result<(), Unsettled> {
        let mut left = Vec::new();
        for (held, spent) in self.0 {
            let key = Purse::key(&held.budget);
            let settled = store.modify(&key, &mut None, Purse::default, |purse| {
                purse.settle(held.window, held.reserved, spent);
                Some(())
            });
            if settled.is_err() {
                left.push((held, spent));
            }
        }
        if left.is_empty() { Ok(()) } else { Err(Self(left)) }
    }
}
