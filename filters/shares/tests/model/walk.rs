//! Random walks: as deep as an instance goes, where there are too many states to go through all of them.

use std::time::{Duration, Instant};

use stateright::{Expectation, Model as _};

use crate::fleet::Action;
use crate::setup::Setup;

/// What walks came upon.
pub(crate) struct Walked {
    pub(crate) steps: u64,
    pub(crate) walks: u64,
    /// The property that did not hold, and the steps to there.
    pub(crate) failure: Option<(&'static str, Vec<Action>)>,
}

/// Walks until a property fails, or for so long.
pub(crate) fn walk(setup: &Setup, time: Duration) -> Walked {
    let begun = Instant::now();
    let mut random = Random(7);
    let mut walked = Walked {
        steps: 0,
        walks: 0,
        failure: None,
    };
    while begun.elapsed() < time && walked.failure.is_none() {
        walked.walks += 1;
        one(setup, &mut random, &mut walked);
    }
    walked
}

fn one(setup: &Setup, random: &mut Random, walked: &mut Walked) {
    let properties = setup.properties();
    let mut state = setup.init_states().remove(0);
    let mut taken = Vec::new();
    let mut actions = Vec::new();
    while setup.within_boundary(&state) {
        actions.clear();
        setup.actions(&state, &mut actions);
        let next = loop {
            if actions.is_empty() {
                return;
            }
            let action = actions.swap_remove(random.below(actions.len()));
            if action.is_rare() && random.below(16) > 0 {
                continue;
            }
            if let Some(next) = setup.next_state(&state, action.clone()) {
                taken.push(action);
                break next;
            }
        };
        state = next;
        walked.steps += 1;
        let mut always = properties
            .iter()
            .filter(|property| matches!(property.expectation, Expectation::Always));
        if let Some(property) = always.find(|property| !(property.condition)(setup, &state)) {
            walked.failure = Some((property.name, taken));
            return;
        }
    }
}

/// Xorshift, so that a walk is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }
}
