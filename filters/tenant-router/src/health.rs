//! Which targets work, as all workers of this Envoy see it: one breaker for each in shared data. The set of targets
//! is the catalogue's, so no stranger makes it grow.

use core::time::Duration;

use tollgate_core::breaker::{Breaker, Ending, Policy, Verdict};
use tollgate_host::{HeaderMap, Status, create_shared, now_nanos, set_shared, set_shared_if, shared};

/// Lost races before a worker gives up on noting an ending: each one means that another noted its own.
const TRIES: usize = 8;
/// Milliseconds that a target is left alone at most.
const LONGEST: &[u8] = b"longest";

/// What a target's breaker lets a request do.
pub(crate) enum Leave {
    /// Go there.
    Go(Visit),
    /// Not for so many milliseconds.
    Wait(u64),
}

/// A request's leave to go to a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Visit {
    /// As the one that finds out whether it works again.
    probe: bool,
    /// Whether a success has to be noted: there were failures.
    troubled: bool,
}

impl Visit {
    /// Whether it finds out if the target works again.
    pub(crate) fn is_probe(self) -> bool {
        self.probe
    }

    /// What is left of it once the target has answered: a probe is one no longer.
    pub(crate) fn answered(self) -> Self {
        Self { probe: false, ..self }
    }
}

/// Asks for leave. Where the state can't be read the target is tried: a request that fails tells more.
pub(crate) fn ask(policy: &Policy, cluster: &str) -> Leave {
    let key = key(cluster);
    let Ok(Some((bytes, cas))) = shared(&key) else {
        return Leave::Go(Visit::default());
    };
    let breaker = Breaker::from_bytes(&bytes);
    let troubled = !breaker.is_untroubled();
    let Some(now) = troubled.then(now_nanos).and_then(Result::ok) else {
        return Leave::Go(Visit {
            probe: false,
            troubled,
        });
    };
    match breaker.ask(policy, now) {
        Verdict::Pass => Leave::Go(Visit {
            probe: false,
            troubled,
        }),
        Verdict::Wait(nanos) => Leave::Wait(nanos.div_ceil(1_000_000)),
        // Whoever writes first is the probe.
        Verdict::Probe(probing) => match set_shared_if(&key, &probing.to_bytes(), cas) {
            Ok(()) => Leave::Go(Visit {
                probe: true,
                troubled,
            }),
            Err(_) => Leave::Wait(1_000),
        },
    }
}

/// Leave to go there if another target fails. One that is open or waits for its probe is not asked for help.
pub(crate) fn spare(policy: &Policy, cluster: &str) -> Option<Visit> {
    let Ok(Some((bytes, _))) = shared(&key(cluster)) else {
        return Some(Visit::default());
    };
    let breaker = Breaker::from_bytes(&bytes);
    let troubled = !breaker.is_untroubled();
    // A closed breaker passes at any time.
    (breaker.ask(policy, 0) == Verdict::Pass).then_some(Visit {
        probe: false,
        troubled,
    })
}

/// Notes how a visit ended.
pub(crate) fn ended(policy: &Policy, cluster: &str, visit: Visit, ending: Ending) {
    if ending == Ending::Success && !visit.troubled {
        return;
    }
    let Ok(now) = now_nanos() else { return };
    let key = key(cluster);
    for _ in 0..TRIES {
        let found = match shared(&key) {
            Ok(found) => found,
            Err(_) => return,
        };
        let before = found
            .as_ref()
            .map(|(bytes, _)| Breaker::from_bytes(bytes))
            .unwrap_or_default();
        let after = before.after(policy, ending, visit.probe, now);
        if after == before {
            return;
        }
        let written = match found {
            Some((_, cas)) => set_shared_if(&key, &after.to_bytes(), cas),
            None => create_shared(&key, &after.to_bytes()),
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

/// Leaves a target alone for so long, as far as the filter allows; `Err` where none has said how far.
pub(crate) fn leave(cluster: &str, pause: Duration) -> Result<(), Status> {
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
    ended(&policy, cluster, Visit::default(), Ending::Leave(pause));
    Ok(())
}

/// What an answer with these headers says of the target that gave it.
pub(crate) fn answered(headers: &HeaderMap) -> Ending {
    let status = headers.text(b":status").and_then(|status| status.parse().ok());
    ending(status.unwrap_or(0), headers.text(b"retry-after"))
}

fn ending(status: u16, retry_after: Option<&str>) -> Ending {
    match (
        status,
        retry_after.and_then(|seconds| seconds.trim().parse().ok()),
    ) {
        (429 | 503, Some(seconds)) => Ending::Leave(Duration::from_secs(seconds)),
        // Too busy, and not saying for how long: that is not broken.
        (429, None) => Ending::Success,
        // Not 500: a request that a model server chokes on would take the model from everybody.
        (502..=504 | 529, _) => Ending::Failure,
        _ => Ending::Success,
    }
}

fn key(cluster: &str) -> Vec<u8> {
    [b"breaker-", cluster.as_bytes()].concat()
}
