//! Which CPU does what, and what else ran meanwhile.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::envoy::{Envoy, Seat};

/// One CPU for Envoy; this process (load, model server, document server) keeps to another.
#[derive(Clone, Copy)]
pub(crate) struct Split {
    envoy: usize,
    ours: usize,
}

impl Split {
    /// One worker on Envoy's own CPU.
    pub(crate) fn alone(self) -> Seat {
        Seat {
            cpus: self.envoy.to_string(),
            workers: 1,
        }
    }

    /// So many workers, on this process's CPU as well.
    pub(crate) fn shared(self, workers: usize) -> Seat {
        Seat {
            cpus: format!("{},{}", self.envoy, self.ours),
            workers,
        }
    }
}

/// Keeps this process, and every thread it starts from now on, off Envoy's CPU.
///
/// # Errors
/// There is only one CPU.
pub(crate) fn split() -> Result<Split> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let two = cpus.next().zip(cpus.next());
    let (envoy, ours) = two.context("two CPUs are needed: one for Envoy and one for the load")?;
    let mut set = CpuSet::new();
    set.set(ours);
    sched_setaffinity(None, &set)?;
    Ok(Split { envoy, ours })
}

/// Puts this process and the Envoys before other programs, where that is allowed (only root may), until dropped.
/// [`Busy`] tells what the others took all the same.
pub(crate) struct Priority;

impl Priority {
    /// The scheduler's highest for a common process.
    pub(crate) fn first() -> Self {
        let _ = setpriority_process(None, -20);
        Self::of_session("-20");
        Self
    }

    /// The kernel shares the CPUs among login sessions before it looks at the priorities in each.
    fn of_session(nice: &str) {
        let _ = fs::write("/proc/self/autogroup", nice);
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        Self::of_session("0");
    }
}

/// The CPU time that the machine, and this process, had used at one moment.
pub(crate) struct Busy {
    at: Instant,
    machine: Duration,
    ours: Duration,
    measured: Duration,
}

impl Busy {
    /// Reads both clocks, before `envoy` has its turn.
    pub(crate) fn before(envoy: &Envoy) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            machine: machine()?,
            ours: Duration::try_from(clock_gettime(ClockId::ProcessCPUTime))?,
            measured: envoy.cpu_time()?,
        })
    }

    /// What neither this process nor `envoy` used since then, as a part of one CPU: other programs' noise.
    pub(crate) fn by_others(&self, envoy: &Envoy) -> Result<f64> {
        let now = Self::before(envoy)?;
        let known = (now.ours - self.ours) + (now.measured - self.measured);
        let others = (now.machine - self.machine).saturating_sub(known);
        Ok(others.as_secs_f64() / (now.at - self.at).as_secs_f64())
    }
}

/// All CPUs' time in anything but idling, from `/proc/stat`, in its steps of 10 ms.
fn machine() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks = line
        .split_ascii_whitespace()
        .skip(1)
        .map(|field| field.parse::<u64>().unwrap_or(0));
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user time already.
    let busy: u64 = ticks
        .take(8)
        .enumerate()
        .filter(|(at, _)| !matches!(at, 3 | 4))
        .map(|(_, n)| n)
        .sum();
    Ok(Duration::from_millis(busy * 10))
}
