//! How much of a budget is spent before anybody is refused, on a virtual clock: one tick is the time between two reports.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing"
)]

use proptest::prelude::*;
use tollgate_budgets::{Account, Book, Report, Rules, Slice, Terms, Totals};

/// A fleet that spends.
#[derive(Debug, Clone)]
struct Fleet {
    /// What each holder spends in a tick, about, in requests of `request` units.
    rates: Vec<u64>,
    request: u64,
    amount: u64,
    /// Of 100 messages, so many are lost.
    lost: u64,
}

/// What came of it.
#[derive(Debug)]
struct Outcome {
    /// What was spent when somebody was refused whose request the ledger had no room for.
    at_first_refusal: u64,
    /// What was spent after everybody was refused for a while.
    at_the_end: u64,
}

/// Xorshift, so that a run is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % bound.max(1)
    }
}

struct Holder {
    slice: Slice,
    account: Account,
    /// Whether a request waits for more than the slice has.
    waits: bool,
}

fn spent(holders: &[Holder]) -> u64 {
    holders.iter().map(|holder| holder.slice.spent()).sum()
}

fn run(fleet: &Fleet) -> Outcome {
    let mut random = Random(7);
    let mut holders: Vec<Holder> = fleet
        .rates
        .iter()
        .map(|_| Holder {
            slice: Slice::default(),
            account: Account::default(),
            waits: false,
        })
        .collect();
    let mut book = Book {
        terms: Terms {
            amount: fleet.amount,
            holders: fleet.rates.len() as u64,
            grants: true,
            believes: fleet.amount,
            rules: Rules::default(),
        },
        totals: Totals::default(),
    };
    let mut refused = None;
    let (mut ticks, mut quiet) = (0, 0);
    while quiet < 10 && ticks < 1_000_000 {
        ticks += 1;
        quiet += 1;
        for (at, holder) in holders.iter_mut().enumerate() {
            let rate = fleet.rates[at];
            let wishes =
                (rate / fleet.request / 2 + random.below(rate / fleet.request + 2)).max(u64::from(rate > 0));
            for _ in 0..wishes {
                holder.waits = holder.slice.reserve(fleet.request).is_err();
                if holder.waits {
                    break;
                }
                // Most use less than they reserve.
                holder
                    .slice
                    .settle(fleet.request, 1 + random.below(fleet.request));
                quiet = 0;
            }
            // A report and its answer, either of which may be lost. Old ones change nothing, as the model shows.
            let waiting = if holder.waits { fleet.request } else { 0 };
            let report: Report = holder.slice.report(rate.saturating_mul(4), waiting);
            if random.below(100) < fleet.lost {
                continue;
            }
            let answer = book
                .exchange(&mut holder.account, &report)
                .expect("numbers that fit");
            if random.below(100) < fleet.lost {
                continue;
            }
            holder.slice.take(&answer);
            if holder.waits && holder.slice.available() < fleet.request {
                refused.get_or_insert(at);
            }
        }
        let now = spent(&holders);
        assert!(now <= fleet.amount, "{now} of {}", fleet.amount);
        if refused.is_some() {
            // The rest of this run is what is left for those who ask again.
            let at_first_refusal = now;
            return Outcome {
                at_first_refusal,
                at_the_end: drain(fleet, &mut holders, &mut book),
            };
        }
    }
    panic!(
        "nobody was refused in {ticks} ticks: {} of {}",
        spent(&holders),
        fleet.amount
    );
}

/// Everybody asks again and again; what is spent once nobody gets anything any more.
fn drain(fleet: &Fleet, holders: &mut [Holder], book: &mut Book) -> u64 {
    for _ in 0..200 {
        for holder in &mut *holders {
            while holder.slice.reserve(fleet.request).is_ok() {
                holder.slice.settle(fleet.request, fleet.request);
            }
            let report = holder.slice.report(0, fleet.request);
            let answer = book
                .exchange(&mut holder.account, &report)
                .expect("numbers that fit");
            holder.slice.take(&answer);
        }
    }
    spent(holders)
}

#[test]
fn fifty_envoys_and_a_budget_of_an_hour() {
    // Some have much to do, some little, some nothing.
    let rates: Vec<u64> = (0..50).map(|at| [0, 10, 200, 3_000][at % 4]).collect();
    let per_tick: u64 = rates.iter().sum();
    let fleet = Fleet {
        rates,
        request: 10,
        amount: per_tick * 3_600,
        lost: 1,
    };
    let outcome = run(&fleet);
    println!("{outcome:?} of {}", fleet.amount);
    assert!(
        outcome.at_first_refusal * 1_000 >= fleet.amount * 999,
        "{outcome:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever spends how much: where a budget lasts for 4,000 reports of each holder, and no request takes more than a
    /// five-thousandth of it, nobody is refused before 99.9% of it is spent. Never is more than all of it spent.
    #[test]
    fn nobody_is_refused_early(
        rates in prop::collection::vec(0_u64..500, 1..24),
        request in 1_u64..40,
        lost in 0_u64..10,
        more in 4_000_u64..6_000,
    ) {
        let per_tick: u64 = rates.iter().map(|rate| (rate + rate / 2).max(request * u64::from(*rate > 0)) + request * 2).sum();
        let mut fleet = Fleet { rates, request, amount: per_tick * more, lost };
        // Somebody has to spend, or nobody is ever refused.
        fleet.rates[0] = fleet.rates[0].max(1);
        let outcome = run(&fleet);
        prop_assert!(outcome.at_first_refusal * 1_000 >= fleet.amount * 999, "{:?} of {}", outcome, fleet.amount);
        prop_assert!(outcome.at_the_end <= fleet.amount);
        prop_assert!(outcome.at_the_end + fleet.request * 2 > fleet.amount, "{:?} of {}", outcome, fleet.amount);
    }
}
