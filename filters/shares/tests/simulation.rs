//! A fleet under load, on a virtual clock: how much of a limit it uses, how soon it follows, and what it costs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing"
)]

#[path = "simulation/envoy.rs"]
mod envoy;
#[path = "simulation/fleet.rs"]
mod fleet;
#[path = "simulation/random.rs"]
mod random;

use fleet::{Figures, Fleet, SECOND};
use random::{Random, Zipf};
use tollgate_shares::{Limit, RULE};

const MEMBERS: usize = 50;

fn per_minute(rate: u64) -> Limit {
    Limit {
        rate,
        period: 60 * SECOND,
        burst: rate,
    }
}

fn ratio(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}

/// Requests of one subject, at these members, so many a second each.
fn load(
    members: std::ops::Range<usize>,
    subject: usize,
    rate: f64,
) -> impl FnMut(&mut Random, &mut Vec<(usize, usize)>) {
    move |random, requests| {
        for member in members.clone() {
            for _ in 0..random.around(rate * 0.02) {
                requests.push((member, subject));
            }
        }
    }
}

fn never_over(figures: &Figures) {
    assert!(figures.passed > 0, "{figures:?}");
    assert_eq!(figures.over, 0, "{figures:?}");
}

#[test]
fn steady_demand_gets_the_whole_limit() {
    // 100 a second; the members together ask for twice that, some for much and some for little.
    let mut fleet = Fleet::new(MEMBERS, vec![per_minute(6_000)], 64);
    let mut plan = |random: &mut Random, requests: &mut Vec<_>| {
        load(0..2, 0, 60.0)(random, requests);
        load(2..20, 0, 4.0)(random, requests);
        load(20..40, 0, 0.5)(random, requests);
    };
    fleet.run(100 * SECOND, &mut plan);
    never_over(&fleet.count_anew());
    fleet.run(60 * SECOND, &mut plan);
    let figures = fleet.count_anew();
    never_over(&figures);
    let used = ratio(figures.passed, 6_000);
    println!(
        "steady: {used:.4} of the limit, {:.2} messages a second and member",
        ratio(figures.messages, 60 * MEMBERS as u64)
    );
    assert!(used >= 0.97, "{used} {figures:?}");
}

#[test]
fn demand_that_moves_is_followed_within_two_seconds() {
    let mut fleet = Fleet::new(MEMBERS, vec![per_minute(6_000)], 64);
    fleet.run(100 * SECOND, load(0..1, 0, 200.0));
    never_over(&fleet.count_anew());
    fleet.run(2 * SECOND, load(1..2, 0, 200.0));
    let begun = fleet.count_anew();
    fleet.run(SECOND, load(1..2, 0, 200.0));
    let third = fleet.count_anew();
    println!(
        "moved: {} passed in 2 s, {} in the third; of 100 a second",
        begun.passed, third.passed
    );
    never_over(&begun);
    never_over(&third);
    assert!(third.passed >= 90, "{third:?}");
}

#[test]
fn demand_below_the_limit_is_served() {
    let mut fleet = Fleet::new(MEMBERS, vec![per_minute(6_000)], 64);
    fleet.run(30 * SECOND, load(0..10, 0, 5.0));
    fleet.count_anew();
    fleet.run(30 * SECOND, load(0..10, 0, 5.0));
    let figures = fleet.count_anew();
    never_over(&figures);
    let served = ratio(figures.passed, figures.asked);
    println!("half the limit: {served:.4} of what was asked for");
    assert!(served >= 0.99, "{figures:?}");
}

/// A number from the environment: `SIMULATION_MEMBERS`, `SIMULATION_SUBJECTS` and `SIMULATION_RATE` (requests a second and
/// member) make the last test as large as a real fleet.
fn setting(name: &str, or: usize) -> usize {
    std::env::var(name).map_or(or, |text| text.parse().expect("a number"))
}

#[test]
fn many_subjects_cost_little() {
    let members = setting("SIMULATION_MEMBERS", MEMBERS);
    let subjects = setting("SIMULATION_SUBJECTS", 10_000);
    let rate = setting("SIMULATION_RATE", 200);
    let parts = members.next_power_of_two() as u64;
    // A slot has 94 requests a minute of each.
    let limit = per_minute(94 * parts);
    let mut fleet = Fleet::new(members, vec![limit; subjects], parts as u32);
    let zipf = Zipf::new(subjects);
    let mut plan = |random: &mut Random, requests: &mut Vec<_>| {
        for member in 0..members {
            for _ in 0..random.around(rate as f64 * 0.02) {
                requests.push((member, zipf.subject(random)));
            }
        }
    };
    // Slots fill first.
    fleet.run(80 * SECOND, |_, _| ());
    fleet.run(30 * SECOND, &mut plan);
    never_over(&fleet.count_anew());
    fleet.run(10 * SECOND, &mut plan);
    let figures = fleet.count_anew();
    never_over(&figures);
    let each = |of: u64| ratio(of, 10 * members as u64);
    println!(
        "many: {:.4} of what one bucket would pass; {} requests, {:.2} messages and {:.0} bytes a second and member; [subjects, members, slots, log] {:?}",
        ratio(figures.passed, figures.possible),
        each(figures.asked),
        each(figures.messages),
        each(figures.bytes),
        fleet.coordinator.sizes(),
    );
    assert!(
        figures.passed as f64 >= 0.95 * figures.possible as f64,
        "{figures:?}"
    );
    // One heartbeat a second, and one more for a thousand requests.
    assert!(
        each(figures.messages) <= 1.0 + each(figures.asked) / 1000.0,
        "{figures:?}"
    );
}

/// Servers that keep books as the messages that made them have to give the same answers, of whatever version they are.
#[test]
fn another_rule_has_another_number() {
    let limits = vec![
        per_minute(60_000),
        per_minute(6_000),
        per_minute(600),
        per_minute(3),
    ];
    let mut fleet = Fleet::new(12, limits, 4);
    fleet.run(60 * SECOND, |random, requests| {
        for member in 0..12 {
            for _ in 0..random.below(6) {
                requests.push((member, random.below(4) as usize));
            }
        }
    });
    let expected = (2, 11_160_374_938_028_767_893);
    assert_eq!(
        (RULE, fleet.answers),
        expected,
        "answers have changed: give RULE another number, and put both here"
    );
}
