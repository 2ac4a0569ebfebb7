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

impl Model {
    /// The place of the rule that a request goes by; `None` where the weights decide.
    pub fn rule(&self, who: &Identity, endpoint: Endpoint) -> Option<usize> {
        self.rules.iter().position(|rule| rule.when.holds(who, endpoint))
    }

    /// Targets in the order in which they are to be tried, the chosen one first. `draw` is a random number; the
    /// canary does not depend on it but on the organization alone.
    pub fn candidates(&self, who: &Identity, endpoint: Endpoint, draw: u64) -> Vec<Choice<'_>> {
        let rule = self.rule(who, endpoint).and_then(|at| self.rules.get(at));
        let mut rest: Vec<usize> =
            rule.map_or_else(|| (0..self.targets.len()).collect(), |rule| rule.targets.clone());
        let mut order = Vec::with_capacity(rest.len() + 1);
        if rule.is_none()
            && let Some(canary) = &self.canary
        {
            // Only the canary's share sees it at all, also where everything else is broken.
            rest.retain(|target| *target != canary.target);
            if side(&self.name, &who.org) < canary.share {
                order.push(canary.target);
            }
        }
        let canary = !order.is_empty();
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
