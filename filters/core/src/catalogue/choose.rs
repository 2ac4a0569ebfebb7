//! Which target a request goes to.

use sha2::{Digest as _, Sha256};

use super::model::Model;
use crate::endpoint::Endpoint;
use crate::identity::Identity;

/// Why a request goes to its target: `x-tollgate-route`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// As the weights or a rule say.
    Primary,
    /// As one of the canary's share.
    Canary,
    /// Another model stands in.
    Fallback,
    /// The first choice is broken.
    BreakerOpen,
}

impl Route {
    /// Its name in headers and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Canary => "canary",
            Self::Fallback => "fallback",
            Self::BreakerOpen => "breaker-open",
        }
    }
}

/// A target, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<'m> {
    /// Envoy's cluster.
    pub cluster: &'m str,
    /// Why.
    pub route: Route,
}

/// The targets that a request may go to, by their places in the model's list, and why those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The rule that names them; `None` where it is all of them.
    pub rule: Option<usize>,
    /// The canary, and whether the organization is of its share: then it is asked first, and else not at all.
    pub canary: Option<(usize, bool)>,
    /// All others, to be chosen from by weight.
    pub targets: Vec<usize>,
    /// Those that an operator drained: they are not asked.
    pub drained: Vec<usize>,
}

impl Model {
    /// The place of the rule that a request goes by; `None` where the weights decide.
    pub fn rule(&self, who: &Identity, endpoint: Endpoint) -> Option<usize> {
        self.rules.iter().position(|rule| rule.when.holds(who, endpoint))
    }

    /// The targets that a request may go to.
    pub fn pool(&self, who: &Identity, endpoint: Endpoint) -> Pool {
        let at = self.rule(who, endpoint);
        let rule = at.and_then(|at| self.rules.get(at));
        let mut targets: Vec<usize> =
            rule.map_or_else(|| (0..self.targets.len()).collect(), |rule| rule.targets.clone());
        let is_drained = |target: &usize| {
            let target = self.targets.get(*target);
            target.is_some_and(|target| who.withheld.has_target(&target.cluster))
        };
        let drained: Vec<usize> = targets.extract_if(.., |target| is_drained(target)).collect();
        let canary = self.canary.as_ref().filter(|_| rule.is_none()).map(|canary| {
            // Only the canary's share sees it at all, also where everything else is broken.
            targets.retain(|target| *target != canary.target);
            (canary.target, side(&self.name, &who.org) < canary.share)
        });
        let canary = canary.filter(|(target, _)| !drained.contains(target));
        Pool {
            rule: at,
            canary,
            targets,
            drained,
        }
    }

    /// How likely each target of a pool is the one that is asked first, while all work: in so many of so many.
    pub fn chances(&self, pool: &Pool) -> Vec<(usize, u64, u64)> {
        if let Some((target, true)) = pool.canary {
            return vec![(target, 1, 1)];
        }
        let weight = |target: &usize| self.targets.get(*target).map_or(0, |one| u64::from(one.weight));
        let sum: u64 = pool.targets.iter().map(weight).sum();
        if sum == 0 {
            let first = self.weighted(&pool.targets, 0);
            return first
                .and_then(|at| Some((*pool.targets.get(at)?, 1, 1)))
                .into_iter()
                .collect();
        }
        let each = pool.targets.iter();
        each.map(|target| (*target, weight(target), sum))
            .filter(|(_, weight, _)| *weight > 0)
            .collect()
    }

    /// Targets in the order in which they are to be tried, the chosen one first. `draw` is a random number; the
    /// canary does not depend on it but on the organization alone.
    pub fn candidates(&self, who: &Identity, endpoint: Endpoint, draw: u64) -> Vec<Choice<'_>> {
        let pool = self.pool(who, endpoint);
        let mut rest = pool.targets;
        let mut order = Vec::with_capacity(rest.len() + 1);
        let canary = pool.canary.filter(|(_, chosen)| *chosen);
        order.extend(canary.map(|(target, _)| target));
        let canary = canary.is_some();
        let mut draw = draw;
        while let Some(at) = self.weighted(&rest, draw) {
            order.push(rest.remove(at));
            draw = draw.rotate_left(21).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        let route = |place| match place {
            0 if canary => Route::Canary,
            0 => Route::Primary,
            _ => Route::BreakerOpen,
        };
        order
            .iter()
            .filter_map(|target| self.targets.get(*target))
            .enumerate()
            .map(|(place, target)| Choice {
                cluster: &target.cluster,
                route: route(place),
            })
            .collect()
    }

    /// The place in `targets` that `draw` falls on, by weight; those of weight zero come last.
    fn weighted(&self, targets: &[usize], draw: u64) -> Option<usize> {
        let weight = |target: &usize| {
            self.targets
                .get(*target)
                .map_or(0, |target| u64::from(target.weight))
        };
        let sum: u64 = targets.iter().map(weight).sum();
        if sum == 0 {
            return (!targets.is_empty()).then_some(0);
        }
        let mut left = draw % sum;
        targets
            .iter()
            .position(|target| match left.checked_sub(weight(target)) {
                Some(less) => {
                    left = less;
                    false
                }
                None => true,
            })
    }
}

/// Where an organization stands between 0 and 10,000 for a model: the same for ever, so that a share that grows
/// takes some over and gives nobody back.
pub(super) fn side(model: &str, org: &str) -> u32 {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(model)
        .chain_update([0])
        .chain_update(org)
        .finalize()
        .into();
    let number = digest.first_chunk().map_or(0, |four| u32::from_be_bytes(*four));
    number % 10_000
}
