//! What is known of the tokens of each organization's requests to each model: learned in each worker, shared and kept
//! across reloads with every tick. Nothing that one organization does changes what is known of another.

use std::collections::BTreeMap;

use super::estimate::{Demand, Estimator, Sample, Slot};
use crate::state::Store;

/// By organization and model.
#[derive(Debug, Default)]
pub struct Estimates {
    known: BTreeMap<String, BTreeMap<String, Known>>,
    count: usize,
}

#[derive(Debug)]
struct Known {
    slot: Slot,
    estimator: Estimator,
    /// Whether it learned since the last tick.
    learned: bool,
    /// Ticks since it was asked for.
    idle: u16,
}

/// How many a worker remembers at most; it goes by the shared ones of the others.
const MAX: usize = 4_096;
/// Ticks after which one is forgotten that nobody asked for.
const IDLE: u16 = 600;

impl Estimates {
    /// What is known of an organization's requests to a model.
    pub fn of(&mut self, store: &mut impl Store, org: &str, model: &str) -> Estimator {
        if let Some(known) = self.known.get_mut(org).and_then(|models| models.get_mut(model)) {
            known.idle = 0;
            return known.estimator;
        }
        let slot = Slot::of(org, model);
        let estimator = slot.read(&stored(store, slot).unwrap_or_default());
        if self.count < MAX {
            self.count += 1;
            let known = Known {
                slot,
                estimator,
                learned: false,
                idle: 0,
            };
            self.known
                .entry(org.to_owned())
                .or_default()
                .insert(model.to_owned(), known);
        }
        estimator
    }

    /// Learns from a request that was reported in full and was estimated before.
    pub fn learn(&mut self, org: &str, model: &str, demand: &Demand, sample: &Sample) {
        let Some(known) = self.known.get_mut(org).and_then(|models| models.get_mut(model)) else {
            return;
        };
        known.estimator.learn(demand, sample);
        known.learned = true;
    }

    /// Shares what was learned, takes over what other workers learned more of, and forgets what nobody asks for. `now` is
    /// in seconds.
    pub fn tick(&mut self, store: &mut impl Store, now: u64) {
        for models in self.known.values_mut() {
            models.retain(|_, known| known.tick(store, now));
        }
        self.known.retain(|_, models| !models.is_empty());
        self.count = self.known.values().map(BTreeMap::len).sum();
    }
}

impl Known {
    /// Whether it is still of use.
    fn tick(&mut self, store: &mut impl Store, now: u64) -> bool {
        self.idle = self.idle.saturating_add(1);
        // Asked for since the last tick, or with something to tell.
        if self.learned || self.idle == 1 {
            let value = stored(store, self.slot);
            let ours = self.estimator;
            self.estimator = ours.or(self.slot.read(value.as_deref().unwrap_or_default()));
            if core::mem::take(&mut self.learned)
                && self.estimator == ours
                && let Some(value) = self.slot.write(value.as_deref(), ours, now)
            {
                // Lost to another worker's at worst, and shared again with what is learned next.
                let _ = store.put(&self.slot.store_key(), &value);
            }
        }
        self.idle < IDLE
    }
}

fn stored(store: &mut impl Store, slot: Slot) -> Option<Vec<u8>> {
    let found = store.get(&slot.store_key()).ok().flatten();
    found.map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Input;
    use crate::state::Memory;

    fn demand() -> Demand {
        Demand {
            input: Input {
                text: 1_000,
                ..Input::default()
            },
            max_output: Some(10),
            answers: 1,
            context_window: None,
        }
    }

    /// Twice as many tokens as the prior says.
    fn teach(estimates: &mut Estimates, store: &mut Memory, org: &str) {
        for _ in 0..20 {
            let expected = estimates.of(store, org, "m").estimate(&demand()).input;
            assert!(expected > 0);
            let sample = Sample {
                input: 560,
                output: 5,
                streamed: None,
            };
            estimates.learn(org, "m", &demand(), &sample);
        }
    }

    fn expects(estimates: &mut Estimates, store: &mut Memory, org: &str) -> u64 {
        estimates.of(store, org, "m").estimate(&demand()).input
    }

    #[test]
    fn what_one_worker_learned_others_know_and_other_organizations_do_not() {
        let mut store = Memory::default();
        let (mut one, mut two) = (Estimates::default(), Estimates::default());
        let prior = expects(&mut two, &mut store, "acme");
        teach(&mut one, &mut store, "acme");
        assert!(expects(&mut one, &mut store, "acme") > prior + prior / 4);
        assert_eq!(expects(&mut two, &mut store, "acme"), prior);
        one.tick(&mut store, 1);
        two.tick(&mut store, 1);
        let learned = expects(&mut one, &mut store, "acme");
        assert_eq!(expects(&mut two, &mut store, "acme"), learned);
        assert_eq!(expects(&mut two, &mut store, "globex"), prior);
        // And a worker that is new.
        assert_eq!(expects(&mut Estimates::default(), &mut store, "acme"), learned);
    }

    #[test]
    fn one_that_nobody_asks_for_is_forgotten() {
        let (mut store, mut estimates) = (Memory::default(), Estimates::default());
        expects(&mut estimates, &mut store, "acme");
        for now in 1..u64::from(IDLE) {
            estimates.tick(&mut store, now);
        }
        assert_eq!(estimates.count, 1);
        estimates.tick(&mut store, 0);
        assert_eq!(estimates.count, 0);
        // What nobody was asked about teaches nothing.
        let sample = Sample {
            input: 1,
            output: 1,
            streamed: None,
        };
        estimates.learn("acme", "m", &demand(), &sample);
        assert_eq!(estimates.count, 0);
    }

    #[test]
    fn beyond_so_many_a_worker_goes_by_the_shared_ones() {
        let (mut store, mut estimates) = (Memory::default(), Estimates::default());
        teach(&mut estimates, &mut store, "acme");
        estimates.tick(&mut store, 1);
        let mut full = Estimates::default();
        for org in 0..MAX {
            full.of(&mut store, &org.to_string(), "m");
        }
        let learned = expects(&mut estimates, &mut store, "acme");
        assert_eq!(expects(&mut full, &mut store, "acme"), learned);
        assert_eq!(full.count, MAX);
    }
}
