//! A member that reads the log so slowly that it uses its part of a key until shortly before that leaves the books.

use stateright::Model as _;

use crate::fleet::{Action, State};
use crate::setup::Setup;

const FAST: usize = 0;
const SLOW: usize = 1;
/// The key that comes and goes, and one that is activated before it.
const KEY: usize = 0;
const OTHER: usize = 1;

/// Whether more than one bucket of it passes.
pub(crate) fn comes_back_full(setup: &Setup) -> bool {
    let mut state = setup.init_states().remove(0);
    let mut go = |action| {
        state = setup.next_state(&state, action).unwrap_or(state.clone());
        state.clone()
    };
    for member in [FAST, SLOW] {
        exchange(member, &mut go);
    }
    for (key, demand) in [(OTHER, 2), (KEY, 2), (KEY, 0)] {
        go(Action::Want(FAST, key, demand));
        exchange(FAST, &mut go);
    }
    for time in 1..=7 {
        go(Action::Tick(Vec::new()));
        exchange(FAST, &mut go);
        if time == 6 {
            // It uses all of its part before it reads that it is to give it up.
            go(Action::Admit(SLOW, KEY));
            go(Action::Admit(SLOW, KEY));
        }
        // Its lease is renewed shortly before its end, each time with one entry of the log.
        if time >= 5 {
            exchange(SLOW, &mut go);
        }
    }
    for member in [FAST, SLOW, FAST, SLOW] {
        go(Action::Admit(member, KEY));
    }
    go(Action::Tick(Vec::new())).over
}

/// A member's next message is heard, and answered.
fn exchange(member: usize, go: &mut impl FnMut(Action) -> State) {
    let sent = go(Action::Send(member));
    let incarnation = sent.nodes[member].incarnation();
    let own = sent
        .messages
        .iter()
        .filter(|message| message.incarnation == incarnation);
    let Some(message) = own.max_by_key(|message| message.seq) else {
        return;
    };
    let heard = go(Action::Hear(message.clone()));
    let to = |answer: &&tollgate_shares::Answer| answer.incarnation == message.incarnation;
    if let Some(answer) = heard.answers.iter().find(to) {
        go(Action::Receive(answer.clone()));
    }
}
