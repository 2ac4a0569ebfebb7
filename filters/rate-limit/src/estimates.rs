//! What is known of each model's tokens: learned in each worker, shared and kept across reloads with every tick.

use std::collections::BTreeMap;

use tollgate_core::limits::estimate::{Estimator, store_key};
use tollgate_core::usage::Usage;
use tollgate_host::{set_shared, shared};

/// By model. The catalogue bounds their number.
#[derive(Default)]
pub(crate) struct Estimates(BTreeMap<String, Known>);

struct Known {
    estimator: Estimator,
    /// Whether it learned since the last tick.
    learned: bool,
}

pub(crate) use tollgate_core::limits::estimate::{Asked, Settled};

impl Estimates {
    /// What is known of a model.
    pub(crate) fn of(&mut self, model: &str) -> Estimator {
        if let Some(known) = self.0.get(model) {
            return known.estimator;
        }
        let estimator = stored(model);
        let known = Known {
            estimator,
            learned: false,
        };
        self.0.insert(model.to_owned(), known);
        estimator
    }

    /// Learns from a request that was reported in full and was estimated before. `streamed` are events and bytes of its
    /// answer.
    pub(crate) fn learn(&mut self, model: &str, asked: &Asked, usage: &Usage, streamed: Option<(u64, u64)>) {
        let Some(known) = self.0.get_mut(model) else {
            return;
        };
        known.estimator.learn(
            asked,
            &Settled {
                input: usage.input,
                output: usage.output,
                streamed,
            },
        );
        known.learned = true;
    }

    /// Shares what was learned, and takes over what others learned more of.
    pub(crate) fn tick(&mut self) {
        for (model, known) in &mut self.0 {
            let ours = known.estimator;
            known.estimator = ours.or(stored(model));
            if core::mem::take(&mut known.learned) && known.estimator == ours {
                // Lost to another worker's at worst, and shared again with what is learned next.
                let _ = set_shared(&store_key(model), &ours.to_bytes());
            }
        }
    }
}

fn stored(model: &str) -> Estimator {
    let found = shared(&store_key(model)).ok().flatten();
    found.map_or_else(Estimator::default, |(bytes, _)| Estimator::from_bytes(&bytes))
}
