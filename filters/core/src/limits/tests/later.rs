//! What is not settled at once: what the store did not take, and what is held for work that may go on.

use super::*;
use crate::limits::fair::Org;
use crate::settlement::{Disposition, Pending, Settlement};
use crate::state::fake::Worker;
use crate::usage::record::{Outcome, Source, Used};

/// One request at a time, and 100 tokens of output.
fn tables() -> Table {
    table(
        r#"[{"name": "slots", "per": ["key"], "count": "concurrent", "max": 1},
            {"name": "output", "per": ["key"], "count": "output_tokens", "rate": "100/day"}]"#,
    )
}

/// An answer that broke off after ten tokens of the fifty that were reserved.
fn broken_off(in_flight: bool) -> Settlement {
    Settlement {
        outcome: Outcome::Aborted,
        used: Used {
            output_tokens: 10,
            source: Source::Estimated,
            ..Used::NOTHING
        },
        disposition: Disposition::Hold {
            max: tokens(0, 50),
            in_flight,
        },
        sample: None,
    }
}

fn reserved(table: &Table, store: &mut impl Store, now: u64) -> Result<Admitted, Refused> {
    table.reserve(store, &ask(&acme(), now, tokens(0, 50)))
}

/// Tokens and slots that are left.
fn left(table: &Table, store: &mut impl Store, now: u64) -> (u64, u64) {
    let probe = table.reserve(store, &ask(&acme(), now, tokens(0, 0)));
    let statuses = match probe {
        Ok(admitted) => {
            admitted.reservation.cancel(store, now).unwrap();
            // The probe has one itself.
            let slots = admitted.statuses[0].remaining + 1;
            return (admitted.statuses[1].remaining, slots);
        }
        Err(refused) => refused.denied().statuses,
    };
    (statuses[1].remaining, statuses[0].remaining)
}

#[test]
fn what_may_go_on_is_held_for_its_time() {
    for (in_flight, slots) in [(true, 0), (false, 1)] {
        let (table, mut store) = (tables(), Worker::default());
        let (mut backlog, mut holds) = (Backlog::default(), Holds::new());
        let mut pending = Pending {
            backlog: &mut backlog,
            holds: &mut holds,
            hold_for: 60 * SECOND,
        };
        let reservation = reserved(&table, &mut store, START).unwrap().reservation;
        broken_off(in_flight).carry_out("acme", reservation, &mut store, &mut pending, START);
        assert_eq!(left(&table, &mut store, START), (50, slots));
        pending.tick(&mut store, START + 60 * SECOND - 1);
        assert_eq!(left(&table, &mut store, START), (50, slots));
        pending.tick(&mut store, START + 60 * SECOND);
        assert_eq!(left(&table, &mut store, START), (90, 1));
    }
}

/// What is held beyond the room for it keeps nobody's slot.
#[test]
fn without_room_the_slot_is_free_at_once() {
    let others: Vec<String> = (0..8).map(|number| format!("other-{number}")).collect();
    for fillers in [vec!["acme"], others.iter().map(String::as_str).collect()] {
        assert_eq!(slots_left_where_it_is_full_of(&fillers), 1, "{fillers:?}");
    }
    // One organization takes the room of no other.
    assert_eq!(slots_left_where_it_is_full_of(&["globex"]), 0);
}

/// Slots that are left to `acme` of one, once it has left a request where these organizations have left all they may.
fn slots_left_where_it_is_full_of(fillers: &[&str]) -> u64 {
    let (table, mut store) = (tables(), Worker::default());
    let (mut backlog, mut holds) = (Backlog::default(), Holds::new());
    let fill = table_of_one();
    let fillers = fillers
        .iter()
        .flat_map(|org| [Org::named(org); Holds::MAX_OF_ONE]);
    for (at, org) in (0..).zip(fillers) {
        let reservation = fill
            .reserve(&mut store, &ask(&acme(), START, tokens(0, 1)))
            .unwrap()
            .reservation;
        let (_, hold) = reservation.settle_in_part(&mut store, START, &tokens(0, 0), &tokens(0, 1), false);
        let until = START + 3_600 * SECOND + at;
        assert!(holds.keep(until, org, hold.unwrap()).is_none());
    }
    let mut pending = Pending {
        backlog: &mut backlog,
        holds: &mut holds,
        hold_for: 60 * SECOND,
    };
    let reservation = reserved(&table, &mut store, START).unwrap().reservation;
    broken_off(true).carry_out("acme", reservation, &mut store, &mut pending, START);
    let (tokens, slots) = left(&table, &mut store, START);
    // What it may come to leaks away.
    assert_eq!(tokens, 50);
    slots
}

fn table_of_one() -> Table {
    table(r#"[{"name": "fill", "per": ["org"], "count": "output_tokens", "rate": "1000000/second"}]"#)
}

#[test]
fn what_the_store_did_not_take_is_tried_again() {
    let (table, mut store) = (tables(), Worker::default());
    let (mut backlog, mut holds) = (Backlog::default(), Holds::new());
    let mut pending = Pending {
        backlog: &mut backlog,
        holds: &mut holds,
        hold_for: SECOND,
    };
    let reservation = reserved(&table, &mut store, START).unwrap().reservation;
    store.fail(true);
    broken_off(true).carry_out("acme", reservation, &mut store, &mut pending, START);
    pending.tick(&mut store, START + 5 * SECOND);
    store.fail(false);
    assert_eq!(left(&table, &mut store, START), (50, 0));
    pending.tick(&mut store, START + 5 * SECOND);
    assert_eq!(left(&table, &mut store, START), (90, 1));
}

#[test]
fn the_earliest_hold_ends_first() {
    let (fill, mut store, mut holds) = (table_of_one(), Worker::default(), Holds::new());
    for until in [5, 3, 4] {
        let reservation = fill
            .reserve(&mut store, &ask(&acme(), START, tokens(0, 1)))
            .unwrap()
            .reservation;
        let (_, hold) = reservation.settle_in_part(&mut store, START, &tokens(0, 0), &tokens(0, 1), false);
        assert!(holds.keep(until, Org::named("acme"), hold.unwrap()).is_none());
    }
    let mut ended = |now| core::iter::from_fn(|| holds.over(now)).count();
    assert_eq!([2, 3, 4, 4, 9].map(&mut ended), [0, 1, 1, 0, 1]);
}
