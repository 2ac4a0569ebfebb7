//! Which targets work, as all workers of this Envoy see it: breakers in shared data. Each model at a target has one, and
//! each organization that may itself have caused failures there has one more. Models and targets are the catalogue's,
//! organizations the directory's, so no stranger makes their number grow.

use core::time::Duration;

use tollgate_core::breaker::{Breaker, Ending, Policy, Verdict, tag};
use tollgate_core::retry_after;
use tollgate_host::{Cas, HeaderMap, Status, create_shared, now_nanos, set_shared, set_shared_if, shared};

/// Lost races before a worker gives up on noting an ending: each one means that another noted its own.
const TRIES: usize = 8;
/// Milliseconds that a target is left alone at most.
const LONGEST: &[u8] = b"longest";

/// A model at a target, asked for by an organization.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) model: &'a str,
    pub(crate) org: &'a str,
}

impl Place<'_> {
    /// Where everybody's breaker is. No name holds a NUL.
    fn key(&self) -> Vec<u8> {
        [b"breaker-", self.cluster.as_bytes(), b"\0", self.model.as_bytes()].concat()
    }

    /// Where the organization's own breaker is.
    fn own_key(&self) -> Vec<u8> {
        [&self.key()[..], b"\0", self.org.as_bytes()].concat()
    }
}

/// What a target's breakers let a request do.
pub(crate) enum Leave {
    /// Go there.
    Go(Visit),
    /// Not for so many milliseconds.
    Wait(u64),
}

/// A request's leave to go to a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Visit {
    /// By everybody's breaker.
    shared: Pass,
    /// By the organization's own.
    own: Pass,
}

/// What one breaker lets it do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pass {
    /// Go as the one that finds out whether the target works again: the breaker as it is while that is under way.
    probe: Option<Breaker>,
    /// Whether a success has to be noted: there were failures.
    troubled: bool,
}

impl Visit {
    /// Whether it finds out if the target works again.
    pub(crate) fn is_probe(self) -> bool {
        self.shared.probe.is_some() || self.own.probe.is_some()
    }

    /// What is left of it once the target has answered: a probe is one no longer.
    pub(crate) fn answered(self) -> Self {
        let answered = |pass| Pass { probe: None, ..pass };
        Self {
            shared: answered(self.shared),
            own: answered(self.own),
        }
    }
}

/// A breaker as it was read.
#[derive(Default)]
struct Found {
    breaker: Breaker,
    cas: Option<Cas>,
}

impl Found {
    /// One that can't be read lets everybody through: a request that fails tells more.
    fn read(key: &[u8]) -> Self {
        match shared(key) {
            Ok(Some((bytes, cas))) => Self {
                breaker: Breaker::from_bytes(&bytes),
                cas: Some(cas),
            },
            _ => Self::default(),
        }
    }

    /// What it lets a request do; `Err` is for how many milliseconds nothing. Nothing is written.
    fn pass(&self, policy: &Policy, now: u64) -> Result<Pass, u64> {
        let probe = match self.breaker.ask(policy, now) {
            Verdict::Pass => None,
            Verdict::Probe(probing) => Some(probing),
            Verdict::Wait(nanos) => return Err(nanos.div_ceil(1_000_000)),
        };
        Ok(Pass {
            probe,
            troubled: !self.breaker.is_untroubled(),
        })
    }
}

impl Pass {
    /// Makes a request the probe, if it would be one: whoever writes first. `Err` if another was quicker.
    fn claim(self, policy: &Policy, key: &[u8]) -> Result<Self, ()> {
        if self.probe.is_none() {
            return Ok(self);
        }
        let found = Found::read(key);
        let pass = found.pass(policy, now_nanos().map_err(|_| ())?).map_err(|_| ())?;
        match (pass.probe, found.cas) {
            (None, _) => Ok(pass),
            (Some(probing), Some(cas)) if set_shared_if(key, &probing.to_bytes(), cas).is_ok() => Ok(pass),
            _ => Err(()),
        }
    }

    fn release(self, key: &[u8]) {
        if let (Some(probing), Ok(now)) = (self.probe, now_nanos()) {
            note(key, |breaker| breaker.released(probing, now));
        }
    }
}

/// What a target's breakers would let a request do. Nothing is written: a probe has to be [claimed](claim).
pub(crate) fn ask(policy: &Policy, place: &Place<'_>) -> Leave {
    let found = Found::read(&place.key());
    if found.breaker.is_untroubled() && !found.breaker.had_suspects() {
        return Leave::Go(Visit::default());
    }
    let Ok(now) = now_nanos() else {
        return Leave::Go(Visit::default());
    };
    let own = if found.breaker.has_suspects(policy, now) {
        Found::read(&place.own_key()).pass(policy, now)
    } else {
        Ok(Pass::default())
    };
    // Its own first: who may not go for its own sake is not the probe for others.
    match own.and_then(|own| {
        Ok(Visit {
            shared: found.pass(policy, now)?,
            own,
        })
    }) {
        Ok(visit) => Leave::Go(visit),
        Err(millis) => Leave::Wait(millis),
    }
}

/// Makes a request that is about to go to a target the probe, where it would be one. `Err` if another was quicker.
pub(crate) fn claim(policy: &Policy, place: &Place<'_>, visit: Visit) -> Result<Visit, ()> {
    if !visit.is_probe() {
        return Ok(visit);
    }
    let own = visit.own.claim(policy, &place.own_key())?;
    match visit.shared.claim(policy, &place.key()) {
        Ok(shared) => Ok(Visit { shared, own }),
        Err(()) => {
            own.release(&place.own_key());
            Err(())
        }
    }
}

/// Gives back what was claimed for a request that was not sent after all: the next one is the probe.
pub(crate) fn release(place: &Place<'_>, visit: Visit) {
    visit.shared.release(&place.key());
    visit.own.release(&place.own_key());
}

/// Leave to go there if another target fails. One that is open or waits for its probe is not asked for help.
pub(crate) fn spare(policy: &Policy, place: &Place<'_>) -> Option<Visit> {
    // A closed breaker passes at any time.
    let pass = |breaker: Breaker| {
        (breaker.ask(policy, 0) == Verdict::Pass).then_some(Pass {
            probe: None,
            troubled: !breaker.is_untroubled(),
        })
    };
    let found = Found::read(&place.key()).breaker;
    let own = match found.had_suspects().then(now_nanos) {
        Some(Ok(now)) if found.has_suspects(policy, now) => Found::read(&place.own_key()).breaker,
        _ => Breaker::default(),
    };
    Some(Visit {
        shared: pass(found)?,
        own: pass(own)?,
    })
}

/// Notes how a visit ended.
pub(crate) fn ended(policy: &Policy, place: &Place<'_>, visit: Visit, ending: Ending) {
    if ending == Ending::Success && !visit.shared.troubled && !visit.own.troubled {
        return;
    }
    let Ok(now) = now_nanos() else { return };
    let mut left = false;
    if ending != Ending::Success || visit.shared.troubled {
        note(&place.key(), |breaker| {
            if let Ending::Followed { since, .. } = ending {
                left = breaker.left_since(since);
            }
            breaker.after(policy, ending, visit.shared.probe.is_some(), now)
        });
    }
    let own = match ending {
        Ending::Success if visit.own.troubled => Ending::Success,
        Ending::Followed { .. } if left => return,
        Ending::Suspect(_) | Ending::Followed { suspect: Some(_), .. } => Ending::Failure,
        Ending::Busy(pause, _) => Ending::Leave(pause),
        Ending::Success | Ending::Failure | Ending::Followed { .. } | Ending::Leave(_) => return,
    };
    note(&place.own_key(), |breaker| {
        breaker.after(policy, own, visit.own.probe.is_some(), now)
    });
}

/// Changes a breaker, whoever else changes it too.
fn note(key: &[u8], mut change: impl FnMut(Breaker) -> Breaker) {
    for _ in 0..TRIES {
        let Ok(found) = shared(key) else { return };
        let before = found
            .as_ref()
            .map(|(bytes, _)| Breaker::from_bytes(bytes))
            .unwrap_or_default();
        let after = change(before);
        if after == before {
            return;
        }
        let written = match found {
            Some((_, cas)) => set_shared_if(key, &after.to_bytes(), cas),
            None => create_shared(key, &after.to_bytes()),
        };
        if written != Err(Status::CasMismatch) {
            return;
        }
    }
}

/// Tells [`leave`] the longest that a target is left alone.
pub(crate) fn publish(policy: &Policy) -> Result<(), Status> {
    let millis = u64::try_from(policy.longest.as_millis()).unwrap_or(u64::MAX);
    set_shared(LONGEST, &millis.to_le_bytes())
}

/// Leaves a model at a target alone as this attempt's ending says, as far as the filter allows; `Err` where none has said
/// how far.
pub(crate) fn leave(place: &Place<'_>, ending: Ending) -> Result<(), Status> {
    let (longest, _) = shared(LONGEST)?.ok_or(Status::NotFound)?;
    let millis = longest
        .first_chunk()
        .map(|eight| u64::from_le_bytes(*eight))
        .ok_or(Status::BadArgument)?;
    let policy = Policy {
        failures: 1,
        open: Duration::ZERO,
        longest: Duration::from_millis(millis),
    };
    ended(&policy, place, Visit::default(), ending);
    Ok(())
}

/// What an answer with these headers says of the target that gave it, to a request of this organization.
pub(crate) fn answered(headers: &HeaderMap, org: &str) -> Ending {
    let retry_after = headers.get(b"retry-after");
    let pause = retry_after.and_then(|value| retry_after::seconds(value.trim_ascii(), seconds));
    ending(status(headers), pause, org)
}

/// Seconds since 1970.
pub(crate) fn seconds() -> Option<u64> {
    now_nanos().ok().map(|nanos| nanos / 1_000_000_000)
}

/// An answer's status; zero where it has none.
pub(crate) fn status(headers: &HeaderMap) -> u16 {
    let status = headers.text(b":status").and_then(|status| status.parse().ok());
    status.unwrap_or(0)
}

fn ending(status: u16, pause: Option<u64>, org: &str) -> Ending {
    match (status, pause) {
        (503 | 529, Some(seconds)) => Ending::Leave(Duration::from_secs(seconds)),
        (429, Some(seconds)) => Ending::Busy(Duration::from_secs(seconds), tag(org)),
        // Too busy, and not saying for how long: that is not broken.
        (429, None) => Ending::Success,
        // No credential of a client's goes there, so it is ours that is refused, whoever asks.
        (401 | 402 | 407, _) => Ending::Failure,
        // Not 500: a request that a model server chokes on would take the model from everybody.
        (502 | 503 | 529, _) => Ending::Failure,
        // A request that takes too long, or one that a firewall in between does not like.
        (403 | 504, _) => Ending::Suspect(tag(org)),
        // No status at all, but an answer.
        (1..200 | 600.., _) => Ending::Suspect(tag(org)),
        _ => Ending::Success,
    }
}
