//! Leave to ask a target, by its breakers, and what is told them once it was asked.

use core::time::Duration;

use super::breaker::{Admission, Breaker, Policy};
use super::ending::{Ending, tag};
use crate::state::{self, Clock, Keyspace, Store, StoreError, Value};

/// Milliseconds after which a target that another request is finding out about may be known to work.
const PROBED: u64 = 1_000;

/// A model at a target, asked for by an organization.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'a> {
    /// The target: Envoy's name of it.
    pub cluster: &'a str,
    /// The model, by its own name.
    pub model: &'a str,
    /// The organization.
    pub org: &'a str,
}

/// A request's leave to go to a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Permit {
    /// By everybody's breaker.
    shared: Pass,
    /// By the organization's own.
    own: Pass,
}

/// What one breaker lets it do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pass {
    /// Go as the one that finds out whether the target works again: the breaker as it is while that is in flight.
    probe: Option<Breaker>,
    /// Whether a success has to be noted: there were failures.
    troubled: bool,
}

impl Permit {
    /// Whether it finds out if the target works again.
    pub fn is_probe(self) -> bool {
        self.shared.probe.is_some() || self.own.probe.is_some()
    }

    /// Whether there is no failure that a success would have to make up for.
    pub fn is_plain(self) -> bool {
        self == Self::default()
    }

    /// What is left of it once the target has answered: a probe is one no longer.
    #[must_use]
    pub fn answered(self) -> Self {
        let answered = |pass| Pass { probe: None, ..pass };
        Self {
            shared: answered(self.shared),
            own: answered(self.own),
        }
    }
}

impl Pass {
    /// What a breaker lets a request do; `Err`: milliseconds until it lets one try.
    fn of(breaker: Breaker, policy: &Policy, tag: u64, now: u64) -> Result<Self, u64> {
        let probe = match breaker.admit(policy, tag, now) {
            Admission::Pass => None,
            Admission::Probe(probing) => Some(probing),
            Admission::Wait(nanos) => return Err(nanos.div_ceil(1_000_000)),
        };
        Ok(Self {
            probe,
            troubled: !breaker.is_untroubled(),
        })
    }

    /// What it lets a request do that goes there only if another target fails. One that is open or waits for its probe is
    /// not asked for help.
    fn standby(breaker: Breaker) -> Option<Self> {
        breaker.is_closed().then_some(Self {
            probe: None,
            troubled: !breaker.is_untroubled(),
        })
    }

    /// Makes a request the probe, if it would be one: whoever writes first. `None` if another was quicker, or where that
    /// can't be told.
    fn claim(self, host: &mut (impl Store + Clock), policy: &Policy, tag: u64, name: &[u8]) -> Option<Self> {
        if self.probe.is_none() {
            return Some(self);
        }
        let now = host.now()?;
        let claimed = state::update(host, name, |breaker: Option<Breaker>| {
            match Self::of(breaker.unwrap_or_default(), policy, tag, now) {
                Ok(pass) => (Some(pass), pass.probe),
                Err(_) => (None, None),
            }
        });
        claimed.ok().flatten()
    }

    fn release(self, host: &mut (impl Store + Clock), name: &[u8]) {
        if let (Some(probing), Some(now)) = (self.probe, host.now()) {
            note(host, name, |breaker| breaker.released(probing, now));
        }
    }
}

impl Destination<'_> {
    /// The name of everybody's breaker. No part of it holds a NUL.
    fn name(&self) -> Vec<u8> {
        [self.cluster.as_bytes(), b"\0", self.model.as_bytes()].concat()
    }

    /// The name of the organization's own breaker.
    fn own_name(&self) -> Vec<u8> {
        let Self { cluster, model, org } = self;
        [cluster.as_bytes(), b"\0", model.as_bytes(), b"\0", org.as_bytes()].concat()
    }

    /// Leave to go there now: a probe is [claimed](Self::claim), so that no other request becomes one meanwhile. `Err` is
    /// for how many milliseconds there is none.
    pub fn enter(&self, host: &mut (impl Store + Clock), policy: &Policy) -> Result<Permit, u64> {
        let permit = self.ask(host, policy)?;
        self.claim(host, policy, permit).ok_or(PROBED)
    }

    /// What its breakers would let a request do; `Err`: milliseconds until they let one try. Nothing is written.
    pub fn ask(&self, host: &mut (impl Store + Clock), policy: &Policy) -> Result<Permit, u64> {
        let shared = read(host, &self.name());
        if shared.is_untroubled() && !shared.had_suspects() {
            return Ok(Permit::default());
        }
        let Some(now) = host.now() else {
            return Ok(Permit::default());
        };
        // Its own first: who may not go for its own sake is not the probe for others.
        let own = if shared.has_suspects(policy, now) {
            Pass::of(read(host, &self.own_name()), policy, tag(self.org), now)?
        } else {
            Pass::default()
        };
        Ok(Permit {
            shared: Pass::of(shared, policy, tag(self.org), now)?,
            own,
        })
    }

    /// Makes a request that is about to go there the probe, where it would be one. `None` if another was quicker.
    pub fn claim(&self, host: &mut (impl Store + Clock), policy: &Policy, permit: Permit) -> Option<Permit> {
        if !permit.is_probe() {
            return Some(permit);
        }
        let own = permit.own.claim(host, policy, tag(self.org), &self.own_name())?;
        let shared = permit.shared.claim(host, policy, tag(self.org), &self.name());
        if shared.is_none() {
            own.release(host, &self.own_name());
        }
        shared.map(|shared| Permit { shared, own })
    }

    /// Gives back what was claimed for a request that was not sent after all: the next one is the probe.
    pub fn release(&self, host: &mut (impl Store + Clock), permit: Permit) {
        permit.shared.release(host, &self.name());
        permit.own.release(host, &self.own_name());
    }

    /// Leave to go there if another target fails; `None` where it is not asked for help.
    pub fn standby(&self, host: &mut (impl Store + Clock), policy: &Policy) -> Option<Permit> {
        let shared = read(host, &self.name());
        let now = if shared.had_suspects() { host.now() } else { None };
        let own = match now {
            Some(now) if shared.has_suspects(policy, now) => read(host, &self.own_name()),
            _ => Breaker::default(),
        };
        Some(Permit {
            shared: Pass::standby(shared)?,
            own: Pass::standby(own)?,
        })
    }

    /// Notes how a request with this permit ended.
    pub fn ended(&self, host: &mut (impl Store + Clock), policy: &Policy, permit: Permit, ending: Ending) {
        if ending == Ending::Success && !permit.shared.troubled && !permit.own.troubled {
            return;
        }
        let Some(now) = host.now() else { return };
        let mut told = false;
        if ending != Ending::Success || permit.shared.troubled {
            note(host, &self.name(), |breaker| {
                told = matches!(ending, Ending::Followed { since, .. } if breaker.backed_off_since(since));
                breaker.after(policy, ending, permit.shared.probe.is_some(), now)
            });
        }
        if let Some(own) = own_ending(ending, permit.own, told) {
            note(host, &self.own_name(), |breaker| {
                breaker.after(policy, own, permit.own.probe.is_some(), now)
            });
        }
    }
}

/// What an ending is to the organization's own breaker; `None` where it is not one that the organization may have caused,
/// or was told already.
fn own_ending(ending: Ending, own: Pass, told: bool) -> Option<Ending> {
    match ending {
        Ending::Success => own.troubled.then_some(Ending::Success),
        Ending::Followed { suspect, .. } => suspect.filter(|_| !told).map(|_| Ending::Failure),
        Ending::Suspect(_) => Some(Ending::Failure),
        Ending::Busy(pause, _) => Some(Ending::BackOff(pause)),
        Ending::Failure | Ending::BackOff(_) => None,
    }
}

/// One that can't be read lets everybody through: a request that fails tells more.
fn read(host: &mut impl Store, name: &[u8]) -> Breaker {
    state::read(host, name).unwrap_or_default().unwrap_or_default()
}

/// Changes a breaker, whoever else changes it too. One that can't be changed stays as it is.
fn note(host: &mut impl Store, name: &[u8], mut change: impl FnMut(Breaker) -> Breaker) {
    let _ = state::update(host, name, |stored: Option<Breaker>| {
        let before = stored.unwrap_or_default();
        let after = change(before);
        ((), (after != before).then_some(after))
    });
}

/// How long a target is left alone at most; milliseconds. The filter says so to the access logger of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Longest(u64);

impl Longest {
    /// As a policy says.
    pub fn of(policy: &Policy) -> Self {
        Self(u64::try_from(policy.longest.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Value for Longest {
    const KEYSPACE: Keyspace = Keyspace::BREAKER_POLICY;

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u64::from_le_bytes(bytes)))
    }

    fn encode(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }
}

/// Tells [`back_off`] the longest that a target is left alone.
pub fn publish(host: &mut impl Store, policy: &Policy) -> Result<(), StoreError> {
    state::write(host, "", Longest::of(policy))
}

/// Leaves a model at a target alone as this attempt's ending says, as far as the filter allows; `false` where none has said
/// how far.
pub fn back_off(host: &mut (impl Store + Clock), destination: &Destination<'_>, ending: Ending) -> bool {
    let Ok(Some(Longest(millis))) = state::read(host, "") else {
        return false;
    };
    let policy = Policy {
        failures: 1,
        open: Duration::ZERO,
        longest: Duration::from_millis(millis),
    };
    destination.ended(host, &policy, Permit::default(), ending);
    true
}
