//! The fleet as a state machine: members, coordinator, messages under way, and a bucket of the whole limit beside them.

use std::collections::BTreeSet;

use stateright::{Model, Property};
use tollgate_shares::{
    Allowance, Answer, Bucket, Coordinator, Epoch, Incarnation, Key, Limit, Member, Message, Share, Time,
};

use crate::node::Node;
use crate::setup::Setup;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) time: Time,
    pub(crate) nodes: Vec<Node>,
    pub(crate) coordinator: Coordinator,
    epoch: u64,
    /// By what its clock is ahead.
    ahead: Time,
    pub(crate) messages: BTreeSet<Message>,
    pub(crate) answers: BTreeSet<Answer>,
    /// One bucket of the whole limit, for each key: it passes what the fleet passes.
    whole: Vec<Bucket>,
    pub(crate) over: bool,
    requests: u8,
    turns: u8,
    crashes: u8,
    leaves: u8,
    losses: u8,
    jumps: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Time goes on, but not for the clocks of these members.
    Tick(Vec<usize>),
    /// The coordinator's clock jumps forward.
    Jump,
    Send(usize),
    /// The coordinator gets a message. It stays under way, and may come again.
    Hear(Message),
    /// A member gets an answer. It stays under way, and may come again.
    Receive(Answer),
    Admit(usize, usize),
    /// A member's demand, in a period.
    Want(usize, usize, u64),
    Crash(usize),
    Leave(usize),
    LoseData,
}

impl Action {
    /// A walk would use these up at its beginning, if they were as likely as others.
    pub(crate) const fn is_rare(&self) -> bool {
        matches!(
            self,
            Self::Jump | Self::Crash(_) | Self::Leave(_) | Self::LoseData | Self::Want(..)
        )
    }
}

impl Setup {
    fn limit(&self, key: usize) -> (Key, Limit) {
        (Self::key(key), self.limits[key])
    }

    fn begin(&self) -> Time {
        let fills = self.limits.iter().map(Limit::fills_in).max();
        self.timing.ttl + 2 * self.timing.skew + fills.unwrap_or(0) + 1
    }

    fn whole(limit: Limit) -> Allowance {
        Allowance {
            share: limit.whole(),
            since: 0,
            got: 0,
        }
    }

    /// Drops what nobody will take any more: answers to a message that is not the member's last, and messages that a
    /// later one has overtaken, but for those that would be taken for a new member's.
    fn tidy(&self, state: &mut State) {
        if self.keeps_all {
            return;
        }
        let State {
            nodes,
            answers,
            messages,
            coordinator,
            ..
        } = state;
        answers.retain(|answer| nodes.iter().any(|node| node.member.expects(answer)));
        messages.retain(|message| message.epoch.is_none() || !coordinator.is_overtaken(message));
    }

    pub(crate) fn held(&self, state: &State, key: usize) -> Share {
        let (key, limit) = self.limit(key);
        let shares = state.nodes.iter().map(|node| node.share(key, limit, state.time));
        shares.fold(Share::default(), Share::plus)
    }

    fn keys(&self) -> std::ops::Range<usize> {
        0..self.limits.len()
    }
}

impl Model for Setup {
    type State = State;
    type Action = Action;

    /// The coordinator has been ready for so long that all is full. What comes before is explored where it loses its data.
    fn init_states(&self) -> Vec<State> {
        let mut coordinator = Coordinator::new(self.timing, Epoch(1), self.parts, 0);
        let begin = self.begin();
        let mut stranger = Member::new(self.timing, Incarnation(u64::MAX)).message(0);
        stranger.epoch = Some(Epoch(0));
        for time in 0..begin {
            coordinator.receive(&stranger, time);
        }
        let whole = self.limits.iter().map(|limit| {
            let mut bucket = Bucket::new(Self::whole(*limit));
            bucket.advance(*limit, Self::whole(*limit), 1000);
            bucket
        });
        let mut nodes: Vec<_> = (0..self.members).map(|at| Node::new(self.timing, at)).collect();
        for node in nodes.iter_mut().take(self.wanting) {
            let (key, limit) = self.limit(0);
            node.want(key, limit, 2);
        }
        vec![State {
            time: begin,
            nodes,
            coordinator,
            epoch: 1,
            ahead: 0,
            messages: BTreeSet::new(),
            answers: BTreeSet::new(),
            whole: whole.collect(),
            over: false,
            requests: 0,
            turns: 0,
            crashes: 0,
            leaves: 0,
            losses: 0,
            jumps: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for slow in 0..1_usize << self.members {
            let slow: Vec<_> = (0..self.members).filter(|at| slow >> at & 1 == 1).collect();
            if slow.iter().all(|at| state.nodes[*at].lag < self.lag) {
                actions.push(Action::Tick(slow));
            }
        }
        actions.extend(state.messages.iter().cloned().map(Action::Hear));
        actions.extend(state.answers.iter().cloned().map(Action::Receive));
        for at in 0..self.members {
            if state.nodes[at].sent < self.sends && state.nodes[at].may_send(state.time) {
                actions.push(Action::Send(at));
            }
            for key in self.keys() {
                if state.requests < self.requests {
                    actions.push(Action::Admit(at, key));
                }
                if state.turns < self.turns {
                    let wanted = state.nodes[at].demands.get(&Self::key(key));
                    let other = if wanted.is_some_and(|wanted| *wanted > 0) {
                        0
                    } else {
                        2
                    };
                    actions.push(Action::Want(at, key, other));
                }
            }
            if state.crashes < self.crashes {
                actions.push(Action::Crash(at));
            }
            if state.leaves < self.leaves {
                actions.push(Action::Leave(at));
            }
        }
        if state.losses < self.losses {
            actions.push(Action::LoseData);
        }
        if state.jumps < self.jumps {
            actions.push(Action::Jump);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        let time = state.time;
        match action {
            Action::Tick(slow) => {
                state.time += 1;
                for at in slow {
                    state.nodes[at].lag += 1;
                }
            }
            Action::Jump => {
                state.jumps += 1;
                state.ahead += 3600;
            }
            Action::Send(at) => {
                let message = state.nodes[at].send(time);
                state.messages.insert(message);
            }
            Action::Hear(message) => state
                .answers
                .extend(state.coordinator.receive(&message, time + state.ahead)),
            Action::Receive(answer) => {
                for node in &mut state.nodes {
                    node.receive(&answer, time);
                }
            }
            Action::Admit(at, key) => {
                let (name, limit) = self.limit(key);
                if !state.nodes[at].admit(name, limit, time) {
                    return None;
                }
                state.requests += 1;
                state.over |= !state.whole[key].take(limit, Self::whole(limit), 1, 1000 + time);
            }
            Action::Want(at, key, demand) => {
                state.turns += 1;
                let (key, limit) = self.limit(key);
                state.nodes[at].want(key, limit, demand);
            }
            Action::Crash(at) => {
                state.crashes += 1;
                state.nodes[at].restart(self.timing);
            }
            Action::Leave(at) => {
                state.leaves += 1;
                let message = state.nodes[at].member.leave();
                state.nodes[at].restart(self.timing);
                state.messages.insert(message);
            }
            Action::LoseData => {
                state.losses += 1;
                state.epoch += 1;
                let wall = time + state.ahead;
                state.coordinator = Coordinator::new(self.timing, Epoch(state.epoch), self.parts, wall);
            }
        }
        self.tidy(&mut state);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "shares add up to no more than the limit",
                |model: &Self, state: &State| {
                    let mut keys = model.keys();
                    keys.all(|key| model.held(state, key).fits(model.limits[key].whole()))
                },
            ),
            Property::always(
                "what all would pass at once, one bucket would",
                |model: &Self, state: &State| {
                    model.keys().all(|key| {
                        let (name, limit) = model.limit(key);
                        let fleet: u128 = state
                            .nodes
                            .iter()
                            .map(|node| node.units(name, limit, state.time))
                            .sum();
                        let mut whole = state.whole[key].clone();
                        whole.advance(limit, Self::whole(limit), 1000 + state.time);
                        fleet <= whole.units()
                    })
                },
            ),
            Property::sometimes("somebody has a share", |model: &Self, state: &State| {
                !model.held(state, 0).is_nothing()
            }),
            Property::always("what passed, one bucket would have passed", |_, state: &State| {
                !state.over
            }),
        ]
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.time <= self.begin() + self.horizon
    }
}
