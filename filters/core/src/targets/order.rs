//! The targets of one request in the order of its attempts, and what each attempt says of its target.
//!
//! Envoy's router sees one answer, that of the last attempt; that the earlier ones failed follows from their number.

use super::breaker::Policy;
use super::ending::{Ending, tag};
use super::permit::{Destination, Permit};
use crate::catalogue::{Choice, Model, Route};
use crate::endpoint::Endpoint;
use crate::identity::Identity;
use crate::priority_groups;
use crate::state::{Clock, Store};
use crate::trace::{Note, TargetState, Trace};

/// Most targets that one request may try. A header carries their names.
pub const MAX_ATTEMPTS: usize = 8;

/// Where the attempts of a request go: the first to the first target, a retry to the next, and around again.
#[derive(Debug)]
pub struct Order(Vec<Attempt>);

/// One attempt: its target, and its leave to go there.
#[derive(Debug)]
struct Attempt {
    cluster: String,
    permit: Permit,
}

/// A model, and the organization that asks for it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The model, by its own name.
    pub model: &'a str,
    /// The organization.
    pub org: &'a str,
}

impl<'a> Wanted<'a> {
    /// The model at a target.
    pub const fn at(self, cluster: &'a str) -> Destination<'a> {
        Destination {
            cluster,
            model: self.model,
            org: self.org,
        }
    }
}

impl Order {
    /// The first target of a model that works, and its further ones for retries; `Err`: milliseconds until one may be
    /// tried, `None` where it may go to none of them. Where the first attempt is a probe, it is claimed. `draw` is a random number.
    pub fn choose(
        host: &mut (impl Store + Clock + Trace),
        policy: &Policy,
        model: &Model,
        (who, endpoint): (&Identity, Endpoint),
        draw: u64,
    ) -> Result<(Self, Route), Option<u64>> {
        let wanted = Wanted {
            model: &model.name,
            org: &who.org,
        };
        host.note(|| Note::Targets(model.pool(who, endpoint)));
        let mut soonest = None;
        let mut candidates = model.candidates(who, endpoint, draw).into_iter();
        while let Some(Choice { cluster, route }) = candidates.next() {
            let entered = wanted.at(cluster).enter(host, policy);
            note(
                host,
                cluster,
                match &entered {
                    Ok(_) => TargetState::First(route),
                    Err(millis) => TargetState::Open(*millis),
                },
            );
            match entered {
                Ok(permit) => {
                    let mut order = Self::new(cluster, permit);
                    order.stand_by(host, policy, wanted, candidates.map(|choice| choice.cluster));
                    return Ok((order, route));
                }
                Err(millis) => soonest = Some(soonest.map_or(millis, |soonest: u64| soonest.min(millis))),
            }
        }
        Err(soonest)
    }

    /// An order of one attempt.
    fn new(cluster: &str, permit: Permit) -> Self {
        let mut order = Self(Vec::with_capacity(1));
        order.push(cluster, permit);
        order
    }

    fn push(&mut self, cluster: &str, permit: Permit) {
        let cluster = cluster.to_owned();
        self.0.push(Attempt { cluster, permit });
    }

    /// Adds the targets of retries.
    fn stand_by<'m>(
        &mut self,
        host: &mut (impl Store + Clock + Trace),
        policy: &Policy,
        wanted: Wanted<'m>,
        clusters: impl Iterator<Item = &'m str>,
    ) {
        for cluster in clusters {
            if self.0.len() >= MAX_ATTEMPTS {
                return;
            }
            if let Some(permit) = wanted.at(cluster).standby(host, policy) {
                note(host, cluster, TargetState::Standby);
                self.push(cluster, permit);
            }
        }
    }

    /// Whether there is one target, and no failure of it that a success would have to make up for.
    pub fn is_plain(&self) -> bool {
        matches!(&self.0[..], [only] if only.permit.is_plain())
    }

    /// Whether there is one target.
    pub const fn is_single(&self) -> bool {
        self.0.len() == 1
    }

    /// The first target.
    pub fn first(&self) -> &str {
        self.0.first().map_or("", |attempt| &attempt.cluster)
    }

    /// All targets.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|attempt| attempt.cluster.as_str())
    }

    /// For Envoy's router; `None` where there is but one.
    pub fn header(&self) -> Option<String> {
        (self.0.len() > 1).then(|| priority_groups::header(self.clusters()))
    }

    /// The index of the target that the last of so many attempts went to.
    pub fn last(&self, attempts: usize) -> usize {
        attempts.saturating_sub(1) % self.0.len().max(1)
    }

    /// The target that the last of so many attempts went to.
    pub fn at(&self, attempts: usize) -> &str {
        self.0
            .get(self.last(attempts))
            .map_or("", |attempt| &attempt.cluster)
    }

    /// Whether the first attempt is its target's probe.
    pub fn is_probe(&self) -> bool {
        self.0.first().is_some_and(|attempt| attempt.permit.is_probe())
    }

    /// Gives back the probe that the first attempt would have been: there was none.
    pub fn release(&self, host: &mut (impl Store + Clock), wanted: Wanted<'_>) {
        if let Some(Attempt { cluster, permit }) = self.0.first() {
            wanted.at(cluster).release(host, *permit);
        }
    }

    /// Notes how the last of so many attempts since then was answered; those before it failed, or there would be none
    /// after them.
    ///
    /// A good answer is one once it is whole, see [`Self::ended`]; only a probe's counts as soon as it begins, since
    /// others wait for it.
    pub fn answered(
        &self,
        host: &mut (impl Store + Clock),
        policy: &Policy,
        wanted: Wanted<'_>,
        attempts: usize,
        ending: Ending,
        since: u64,
    ) {
        let last = self.last(attempts);
        // Where the last one failed by itself too, nobody has reason to suspect the request.
        let followed = Ending::Followed {
            since,
            suspect: (ending != Ending::Failure).then(|| tag(wanted.org)),
        };
        for (index, Attempt { cluster, permit }) in self.0.iter().enumerate() {
            let destination = wanted.at(cluster);
            if index == last {
                if ending != Ending::Success || permit.is_probe() {
                    destination.ended(host, policy, *permit, ending);
                }
            } else if index < attempts.saturating_sub(1) {
                // Several attempts at one target are one visit. Where one of them was answered, it works.
                destination.ended(host, policy, *permit, followed);
            }
        }
    }

    /// Notes how the good answer of the last of so many attempts ended: whole, or broken off.
    pub fn ended(
        &self,
        host: &mut (impl Store + Clock),
        policy: &Policy,
        wanted: Wanted<'_>,
        attempts: usize,
        ending: Ending,
    ) {
        if let Some(Attempt { cluster, permit }) = self.0.get(self.last(attempts)) {
            wanted.at(cluster).ended(host, policy, permit.answered(), ending);
        }
    }
}

fn note(host: &mut impl Trace, cluster: &str, state: TargetState) {
    host.note(|| Note::Target {
        cluster: cluster.to_owned(),
        state,
    });
}
