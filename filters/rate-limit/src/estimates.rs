//! What is known of the tokens of each organization's requests to each model: learned in each worker, shared and kept
//! across reloads with every tick. Nothing that one organization does changes what is known of another.

use std::collections::BTreeMap;

use tollgate_core::limits::estimate::{Demand, Estimator, Sample, Slot};
use tollgate_host::{set_shared, shared};

/// By organization and model.
#[derive(Default)]
pub(crate) struct Estimates {
    known: BTreeMap<String, BTreeMap<String, Known>>,
    count: usize,
}

struct Known {
    slot: Slot,
    estimator: Estimator,
    /// Whether it learned since the last tick.
    learned: bool,
    /// Ticks since it was asked for.
    idle: u16,
}

/// How many a worker remembers at most; it goes by the shared ones of the others.
const MOST: usize = 4_096;
/// Ticks after which one is forgotten that nobody asked for.
const IDLE: u16 = 600;

impl Estimates {
    /// What is known of an organization's requests to a model.
    pub(crate) fn of(&mut self, org: &str, model: &str) -> Estimator {
        if let Some(known) = self.known.get_mut(org).and_then(|models| models.get_mut(model)) {
            known.idle = 0;
            return known.estimator;
        }
        let slot = Slot::of(org, model);
        let estimator = slot.read(&stored(slot).unwrap_or_default());
        if self.count < MOST {
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
    pub(crate) fn learn(&mut self, org: &str, model: &str, demand: &Demand, sample: &Sample) {
        let Some(known) = self.known.get_mut(org).and_then(|models| models.get_mut(model)) else {
            return;
        };
        known.estimator.learn(demand, sample);
        known.learned = true;
    }

    /// Shares what was learned, takes over what other workers learned more of, and forgets what nobody asks for. `now` is
    /// in seconds.
    pub(crate) fn tick(&mut self, now: u64) {
        for models in self.known.values_mut() {
            models.retain(|_, known| known.tick(now));
        }
        self.known.retain(|_, models| !models.is_empty());
        self.count = self.known.values().map(BTreeMap::len).sum();
    }
}

impl Known {
    /// Whether it is still of use.
    fn tick(&mut self, now: u64) -> bool {
        self.idle = self.idle.saturating_add(1);
        // Asked for since the last tick, or with something to tell.
        if self.learned || self.idle == 1 {
            let value = stored(self.slot);
            let ours = self.estimator;
            self.estimator = ours.or(self.slot.read(value.as_deref().unwrap_or_default()));
            if core::mem::take(&mut self.learned)
                && self.estimator == ours
                && let Some(value) = self.slot.write(value.as_deref(), ours, now)
            {
                // Lost to another worker's at worst, and shared again with what is learned next.
                let _ = set_shared(&self.slot.store_key(), &value);
            }
        }
        self.idle < IDLE
    }
}

fn stored(slot: Slot) -> Option<Vec<u8>> {
    let found = shared(&slot.store_key()).ok().flatten();
    found.map(|(value, _)| value)
}
