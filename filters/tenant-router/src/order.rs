//! The targets of one request in the order of its attempts, and what each attempt says of its target.
//!
//! Envoy's router sees one answer, that of the last attempt; that the earlier ones failed follows from their number.

use tollgate_core::breaker::{Ending, Policy, tag};
use tollgate_core::priority_groups;

use crate::health::{self, Place, Visit};

/// Most targets that one request may try. A header carries their names.
pub(crate) const LONGEST: usize = 8;

/// Where the attempts of a request go: the first to the first target, a retry to the next, and around again.
pub(crate) struct Order(Vec<(String, Visit)>);

/// Whose request it is, for which model.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) model: &'a str,
    pub(crate) org: &'a str,
}

impl<'a> Of<'a> {
    /// The model at a target.
    pub(crate) fn at(self, cluster: &'a str) -> Place<'a> {
        Place {
            cluster,
            model: self.model,
            org: self.org,
        }
    }
}

impl Order {
    /// An order that begins with `first`.
    pub(crate) fn new(first: &str, visit: Visit) -> Self {
        Self(vec![(first.to_owned(), visit)])
    }

    /// Adds the target of one more retry.
    pub(crate) fn push(&mut self, cluster: &str, visit: Visit) {
        self.0.push((cluster.to_owned(), visit));
    }

    /// Whether there is no more room.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= LONGEST
    }

    /// Whether there is one target, and no failure of it that a success would have to make up for.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(&self.0[..], [(_, visit)] if *visit == Visit::default())
    }

    /// The first target.
    pub(crate) fn first(&self) -> &str {
        self.0.first().map_or("", |(cluster, _)| cluster)
    }

    /// All targets.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(cluster, _)| cluster.as_str())
    }

    /// For Envoy's router; `None` where there is but one.
    pub(crate) fn header(&self) -> Option<String> {
        (self.0.len() > 1).then(|| priority_groups::header(self.clusters()))
    }

    /// The place of the target that the last of so many attempts went to.
    pub(crate) fn last(&self, attempts: usize) -> usize {
        attempts.saturating_sub(1) % self.0.len().max(1)
    }

    /// The target that the last of so many attempts went to.
    pub(crate) fn at(&self, attempts: usize) -> &str {
        self.0.get(self.last(attempts)).map_or("", |(cluster, _)| cluster)
    }

    /// Gives back the probe that the first attempt would have been: there was none.
    pub(crate) fn release(&self, of: Of<'_>) {
        if let Some((cluster, visit)) = self.0.first() {
            health::release(&of.at(cluster), *visit);
        }
    }

    /// Whether the first attempt is its target's probe.
    pub(crate) fn is_probe(&self) -> bool {
        self.0.first().is_some_and(|(_, visit)| visit.is_probe())
    }

    /// Notes how the last of so many attempts since then was answered; those before it failed, or there would be none
    /// after them.
    ///
    /// A good answer is one once it is whole, see [`Self::ended`]; only a probe's counts as soon as it begins, since
    /// others wait for it.
    pub(crate) fn answered(&self, policy: &Policy, of: Of<'_>, attempts: usize, ending: Ending, since: u64) {
        let last = self.last(attempts);
        // Where the last one failed by itself too, nobody has reason to suspect the request.
        let followed = Ending::Followed {
            since,
            suspect: (ending != Ending::Failure).then(|| tag(of.org)),
        };
        for (place, (cluster, visit)) in self.0.iter().enumerate() {
            if place == last {
                if ending != Ending::Success || visit.is_probe() {
                    health::ended(policy, &of.at(cluster), *visit, ending);
                }
            } else if place < attempts.saturating_sub(1) {
                // Several attempts at one target are one visit. Where one of them was answered, it works.
                health::ended(policy, &of.at(cluster), *visit, followed);
            }
        }
    }

    /// Notes how the good answer of the last of so many attempts ended: whole, or broken off.
    pub(crate) fn ended(&self, policy: &Policy, of: Of<'_>, attempts: usize, ending: Ending) {
        if let Some((cluster, visit)) = self.0.get(self.last(attempts)) {
            health::ended(policy, &of.at(cluster), visit.answered(), ending);
        }
    }
}
