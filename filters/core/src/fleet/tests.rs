//! A fleet of Envoys on a virtual clock: the real table, stores, members and coordinator. What is admitted is held against
//! one bucket of the whole limit.

mod envoy;
mod network;
mod oracle;
mod random;

use network::{Fleet, Request};
use random::Random;

use crate::limits::broken::{self, Rule};

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

const REQUESTS: &str = r#"[{"name": "rpm", "per": ["org"], "where": "fleet", "rate": "6000/minute"}]"#;
const TOKENS: &str =
    r#"[{"name": "tpm", "per": ["org"], "where": "fleet", "count": "tokens", "rate": "600000/minute"}]"#;
const CONCURRENT: &str =
    r#"[{"name": "busy", "per": ["org"], "where": "fleet", "count": "concurrent", "max": 100}]"#;

/// So many requests a second at each of these Envoys.
fn ask(
    envoys: core::ops::Range<usize>,
    rate: f64,
    one: Request,
) -> impl FnMut(&mut Random, &mut Vec<(usize, Request)>) {
    move |random, requests| {
        for envoy in envoys.clone() {
            let count = random.around(rate * 0.02);
            requests.extend((0..count).map(|_| (envoy, one)));
        }
    }
}

/// Of what it reserves it uses a tenth, half a second later.
const TENTH: Request = Request {
    reserved: 1_000,
    used: 100,
    takes: 500 * MILLI,
};

fn part(passed: u64, of: u64) -> f64 {
    passed as f64 / of as f64
}

#[test]
fn steady_demand_gets_the_whole_limit() {
    let mut fleet = Fleet::new(REQUESTS, 8, 16);
    let mut plan = |random: &mut Random, requests: &mut Vec<_>| {
        ask(0..2, 80.0, Request::ONE)(random, requests);
        ask(2..6, 10.0, Request::ONE)(random, requests);
    };
    fleet.run(100 * SECOND, &mut plan);
    fleet.count_anew();
    fleet.run(60 * SECOND, &mut plan);
    let used = part(fleet.count_anew().passed, 6_000);
    println!("steady: {used:.4} of the limit");
    assert!(used >= 0.97, "{used}");
    fleet.is_never_over();
}

#[test]
fn tokens_that_are_given_back_serve_others() {
    let mut fleet = Fleet::new(TOKENS, 6, 8);
    // Each uses 100 of 1,000: 10,000 tokens a second are asked for twice over.
    let mut plan = ask(0..4, 50.0, TENTH);
    fleet.run(100 * SECOND, &mut plan);
    fleet.count_anew();
    fleet.run(60 * SECOND, &mut plan);
    let used = part(fleet.count_anew().used, 600_000);
    println!("tokens: {used:.4} of the limit");
    assert!(used >= 0.95, "{used}");
    fleet.is_never_over();
}

#[test]
fn demand_that_moves_is_followed() {
    let mut fleet = Fleet::new(REQUESTS, 8, 16);
    fleet.run(100 * SECOND, ask(0..1, 200.0, Request::ONE));
    let mut thirds = Vec::new();
    for at in 1..8 {
        fleet.run(2 * SECOND, ask(at..at + 1, 200.0, Request::ONE));
        fleet.count_anew();
        fleet.run(SECOND, ask(at..at + 1, 200.0, Request::ONE));
        thirds.push(fleet.count_anew().passed);
        // It moves at any time of a window.
        fleet.run(
            10 * SECOND + at as u64 * 60 * MILLI,
            ask(at..at + 1, 200.0, Request::ONE),
        );
    }
    println!("moved: {thirds:?} of 100 in the third second");
    assert!(thirds.iter().sum::<u64>() >= 90 * 7, "{thirds:?}");
    fleet.is_never_over();
}

#[test]
fn demand_below_the_limit_is_served() {
    let mut fleet = Fleet::new(REQUESTS, 8, 16);
    fleet.run(30 * SECOND, ask(0..8, 6.0, Request::ONE));
    fleet.count_anew();
    fleet.run(30 * SECOND, ask(0..8, 6.0, Request::ONE));
    let figures = fleet.count_anew();
    let served = part(figures.passed, figures.asked);
    println!("half the limit: {served:.4} served");
    assert!(served >= 0.99, "{served}");
    fleet.is_never_over();
}

#[test]
fn what_is_in_use_stays_below_the_limit() {
    let mut fleet = Fleet::new(CONCURRENT, 4, 4);
    let long = Request {
        takes: 700 * MILLI,
        ..Request::ONE
    };
    let mut most = 0;
    for round in 0..12 {
        let at = round % 4;
        for _ in 0..100 {
            fleet.run(100 * MILLI, ask(at..(at + 2).min(4), 150.0, long));
            most = most.max(fleet.open());
        }
    }
    println!("in use: {most} at most");
    assert!((90..=100).contains(&most), "{most}");
}

/// One that can't pass by the share that there is passes soon after.
#[test]
fn a_large_request_passes_at_the_next_try() {
    let mut fleet = Fleet::new(TOKENS, 4, 4);
    fleet.run(100 * SECOND, |_, _| ());
    let large = Request {
        reserved: 500_000,
        used: 500_000,
        takes: SECOND,
    };
    let mut tries = 0;
    let mut plan = |random: &mut Random, requests: &mut Vec<_>| {
        // As `Retry-After` says: a second from one try to the next.
        if tries % 50 == 0 {
            requests.push((0, large));
        }
        tries += 1;
        ask(1..2, 5.0, TENTH)(random, requests);
    };
    // Each of the others gives up its part with what is in it: what was not used of the limit comes again in a minute.
    fleet.run(70 * SECOND, &mut plan);
    assert!(fleet.count_anew().used >= 500_000);
    fleet.is_never_over();
}

/// Whatever happens, in whichever order.
fn turmoil(seed: u64, table: &str, seconds: u64) -> Fleet {
    let mut fleet = Fleet::new(table, 5, 2);
    let mut random = Random::new(seed);
    fleet.loses(20);
    for _ in 0..seconds / 4 {
        match random.below(12) {
            0 => fleet.crash(random.below(5) as usize),
            1 => fleet.lose_the_books(),
            2 => fleet.cut_off(random.below(5) as usize, random.below(20) * SECOND),
            _ => {}
        }
        let at = random.below(5) as usize;
        let rate = random.below(400) as f64;
        let span = 1 + random.below(2) as usize;
        let requests = random.below(3);
        let plan = move |random: &mut Random, list: &mut Vec<(usize, Request)>| {
            for envoy in at..(at + span).min(5) {
                for _ in 0..random.around(rate * 0.02) {
                    let reserved = 1 + random.below(if requests == 0 { 1 } else { 4_000 });
                    list.push((
                        envoy,
                        Request {
                            reserved,
                            used: random.below(reserved + 1),
                            takes: random.below(3_000) * MILLI,
                        },
                    ));
                }
            }
        };
        fleet.run(4 * SECOND, plan);
    }
    fleet
}

/// One has tokens left when it gets the share of another, which has none; then it is asked for all there is.
fn shift(table: &str) -> Fleet {
    let mut fleet = Fleet::new(table, 3, 4);
    let mut both = |span, one, other| {
        let mut one = ask(0..1, one, Request::ONE);
        let mut other = ask(1..2, other, Request::ONE);
        fleet.run(span * SECOND, |random, requests| {
            one(random, requests);
            other(random, requests);
        });
    };
    both(200, 20.0, 40.0);
    both(8, 20.0, 600.0);
    both(4, 20.0, 0.0);
    both(12, 600.0, 0.0);
    fleet
}

#[test]
fn never_over_whatever_happens() {
    shift(REQUESTS).is_never_over();
    for seed in 1..=4 {
        for table in [REQUESTS, TOKENS] {
            turmoil(seed, table, 160).is_never_over();
        }
    }
}

/// Each is noticed by the same as [`never_over_whatever_happens`].
#[test]
fn broken_rules_are_noticed() {
    for rule in [Rule::Scaled, Rule::Filled, Rule::PartsKept] {
        let noticed = broken::with(rule, || {
            shift(REQUESTS).over().is_some()
                || (1..=8).any(|seed| turmoil(seed, TOKENS, 160).over().is_some())
        });
        assert!(noticed, "{rule:?}");
    }
}

/// Those who stay have a steady demand, and would not ask.
#[test]
fn what_a_dead_envoy_had_is_used_by_the_others() {
    // In each step as many.
    let steady = |envoys: core::ops::Range<usize>| {
        move |_: &mut Random, requests: &mut Vec<_>| {
            requests.extend(envoys.clone().flat_map(|at| [(at, Request::ONE); 2]));
        }
    };
    let mut fleet = Fleet::new(REQUESTS, 2, 4);
    fleet.run(100 * SECOND, steady(0..2));
    fleet.crash(1);
    // Its lease, and a turn of the coordinator's looking after keys.
    fleet.run(25 * SECOND, steady(0..1));
    fleet.count_anew();
    fleet.run(10 * SECOND, steady(0..1));
    let used = part(fleet.count_anew().passed, 1_000);
    assert!(used >= 0.9, "{used}");
    fleet.is_never_over();
}

#[test]
fn what_is_in_use_is_counted_as_parts_become_smaller() {
    let eight = CONCURRENT.replace("100", "8");
    let mut fleet = Fleet::new(&eight, 2, 2);
    fleet.run(20 * SECOND, |_, _| ());
    let long = Request {
        takes: 60 * SECOND,
        ..Request::ONE
    };
    let mut once = Some(());
    fleet.run(SECOND, |_, requests| {
        if once.take().is_some() {
            requests.extend([0, 1].into_iter().flat_map(|at| [(at, long); 4]));
        }
    });
    assert_eq!(fleet.open(), 8);
    // Three more Envoys, for which slots are halved.
    fleet.join(3);
    fleet.run(35 * SECOND, |_, _| ());
    let mut most = 0;
    for _ in 0..50 {
        fleet.run(100 * MILLI, ask(2..5, 20.0, long));
        most = most.max(fleet.open());
    }
    assert_eq!(most, 8);
    // They get what becomes free.
    fleet.run(20 * SECOND, |_, _| ());
    fleet.count_anew();
    fleet.run(10 * SECOND, ask(2..5, 20.0, long));
    assert!(fleet.count_anew().passed >= 6);
    assert!(fleet.open() <= 8, "{}", fleet.open());
}

#[test]
fn several_members_of_one_envoy_do_not_take_turns() {
    let mut fleet = Fleet::new(REQUESTS, 2, 4);
    for _ in 0..3 {
        fleet.add_member(0);
    }
    fleet.run(100 * SECOND, ask(0..2, 100.0, Request::ONE));
    fleet.is_never_over();
    let stops = fleet.stops(0);
    assert!((3..=6).contains(&stops), "{stops}");
    fleet.count_anew();
    fleet.run(20 * SECOND, ask(0..2, 100.0, Request::ONE));
    let used = part(fleet.count_anew().passed, 2_000);
    assert!(used >= 0.9, "{used}");
    assert_eq!(fleet.stops(0), stops);
    fleet.is_never_over();
}

/// Whoever owes is not asked any more, and has no part that would pay.
#[test]
fn a_debt_is_paid_where_a_part_is_given_up() {
    let mut fleet = Fleet::new(TOKENS, 2, 4);
    fleet.run(100 * SECOND, |_, _| ());
    let much = Request {
        reserved: 1_000,
        used: 500_000,
        takes: SECOND,
    };
    let mut once = Some(());
    fleet.run(2 * SECOND, |_, requests| {
        requests.extend(once.take().map(|()| (0, much)));
    });
    fleet.count_anew();
    fleet.run(120 * SECOND, ask(1..2, 200.0, TENTH));
    let used = part(fleet.count_anew().used, 1_200_000);
    println!("beside a debt: {used:.4} of the limit");
    // It would be more than all, with what was left of the burst.
    assert!((0.5..=0.9).contains(&used), "{used}");
    fleet.is_never_over();
}

/// More used than was reserved is waited for, wherever the share goes meanwhile.
#[test]
fn a_debt_is_paid() {
    let mut fleet = Fleet::new(TOKENS, 4, 4);
    let more = Request {
        reserved: 100,
        used: 400,
        takes: 300 * MILLI,
    };
    let mut plan = ask(0..2, 60.0, more);
    fleet.run(100 * SECOND, &mut plan);
    fleet.count_anew();
    fleet.run(120 * SECOND, &mut plan);
    let used = part(fleet.count_anew().used, 1_200_000);
    println!("with debts: {used:.4} of the limit");
    assert!((0.9..=1.1).contains(&used), "{used}");
}
