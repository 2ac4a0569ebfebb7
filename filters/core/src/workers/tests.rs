use super::*;
use crate::state::Memory;

fn join(store: &mut Memory) -> Workers {
    Workers::join(store, None).unwrap()
}

/// So many ticks of each of these.
fn ticks(store: &mut Memory, count: u32, workers: &mut [&mut Workers]) {
    for _ in 0..count {
        for worker in &mut *workers {
            worker.tick(store).unwrap();
        }
    }
}

#[test]
fn each_has_an_id_of_its_own_and_keeps_it() {
    let mut store = Memory::default();
    let (one, two) = (join(&mut store), join(&mut store));
    assert_eq!((one.id(), two.id()), (1, 2));
    // Another configuration of the same worker.
    let again = Workers::join(&mut store, Some(1)).unwrap();
    assert_eq!(again.id(), 1);
    assert!(again.lives(1) && again.lives(2) && again.lives(3));
}

#[test]
fn a_dead_worker_is_dead_after_so_many_ticks() {
    let mut store = Memory::default();
    let (mut one, mut two) = (join(&mut store), join(&mut store));
    ticks(&mut store, 5, &mut [&mut one, &mut two]);
    let dead = two.id();
    drop(two);
    // The first of them still sees its last heartbeat come.
    ticks(&mut store, PATIENCE, &mut [&mut one]);
    assert!(one.lives(dead));
    ticks(&mut store, 1, &mut [&mut one]);
    assert!(!one.lives(dead) && one.lives(one.id()));
    // It is forgotten, and its id is never given again.
    ticks(&mut store, 2, &mut [&mut one]);
    assert!(!one.lives(dead));
    assert_eq!(join(&mut store).id(), 3);
}

/// It was given up by others, and is there again.
#[test]
fn one_that_stood_still_lives_again() {
    let mut store = Memory::default();
    let (mut one, mut slow) = (join(&mut store), join(&mut store));
    ticks(&mut store, 1, &mut [&mut one, &mut slow]);
    ticks(&mut store, PATIENCE + 5, &mut [&mut one]);
    assert!(!one.lives(slow.id()));
    assert!(slow.lives(slow.id()), "to itself it always does");
    ticks(&mut store, 1, &mut [&mut slow, &mut one]);
    assert!(one.lives(slow.id()) && slow.lives(one.id()));
}

/// A worker that is slower than others is none that stands still.
#[test]
fn one_heartbeat_in_time_is_enough() {
    let mut store = Memory::default();
    let (mut one, mut slow) = (join(&mut store), join(&mut store));
    for _ in 0..5 {
        ticks(&mut store, PATIENCE, &mut [&mut one]);
        assert!(one.lives(slow.id()));
        ticks(&mut store, 1, &mut [&mut slow]);
    }
}

#[test]
fn one_that_is_newer_than_the_last_tick_lives() {
    let mut store = Memory::default();
    let one = join(&mut store);
    let new = join(&mut store);
    assert!(one.lives(new.id()));
}

/// Rubbish, or nothing at all: each says again that it is there.
#[test]
fn a_record_that_is_lost_ends_nobody_for_long() {
    for rubbish in [&b""[..], b"x", &[0; 4], &[0xff; 4], &[0xff; 12], &[7; 1_001]] {
        let mut store = Memory::default();
        let (mut one, mut two) = (join(&mut store), join(&mut store));
        ticks(&mut store, 2, &mut [&mut one, &mut two]);
        store.put(&Keyspace::WORKERS.key(""), rubbish).unwrap();
        ticks(&mut store, 2, &mut [&mut one, &mut two]);
        assert!(one.lives(two.id()) && two.lives(one.id()), "{rubbish:?}");
        // What the rubbish named is dead in time.
        ticks(&mut store, PATIENCE + 2, &mut [&mut one, &mut two]);
        let left = store.get(&Keyspace::WORKERS.key("")).unwrap().unwrap().0;
        assert_eq!(Heartbeats::decode(&left).unwrap().counts.len(), 2, "{rubbish:?}");
        assert!(join(&mut store).id() > 0);
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    let all = Heartbeats {
        next: 9,
        counts: vec![(1, 7), (8, u32::MAX)],
    };
    assert_eq!(Heartbeats::decode(&all.encode()), Some(all));
}
