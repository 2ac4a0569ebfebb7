//! The thread that brings finished records from their slots to the usage log.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::log::Log;
use crate::slots::{Slot, Slots};

/// Between two batches, unless more comes.
const PERIOD: Duration = Duration::from_millis(50);
/// So many bytes are written at once, about.
const BATCH: usize = 1 << 20;
/// Records that have no slot, while the usage log can't be written. Beyond this they are lost.
const MAX_UNJOURNALED: usize = 65_536;

/// A record that is to be written.
#[derive(Debug)]
pub(crate) enum Pending {
    /// It is in its slot.
    Kept(Slot),
    /// It is not: there was no room. A slot says that its request was under way.
    Unjournaled(String, Option<Slot>),
}

impl Pending {
    const fn is_unjournaled(&self) -> bool {
        matches!(self, Self::Unjournaled(..))
    }
}

/// The thread, and what it is told.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    slots: Arc<Slots>,
    queue: Mutex<Queue>,
    wake: Condvar,
    lost: AtomicU64,
    failures: AtomicU64,
    /// What it says when something goes wrong, and when it is well again.
    report: fn(&str),
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<Pending>,
    unjournaled: usize,
    is_closing: bool,
}

impl Writer {
    pub(crate) fn start(slots: Arc<Slots>, log: Log, report: fn(&str)) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            slots,
            queue: Mutex::default(),
            wake: Condvar::new(),
            lost: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            report,
        });
        let its = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("tollgate-usage".to_owned())
            .spawn(move || its.run(log))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Has a line written.
    pub(crate) fn write(&self, line: Pending) {
        let mut queue = self.shared.queue();
        if line.is_unjournaled() {
            if queue.unjournaled == MAX_UNJOURNALED {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                if let Pending::Unjournaled(_, Some(slot)) = line {
                    self.shared.slots.release([slot]);
                }
                return;
            }
            queue.unjournaled += 1;
        }
        queue.lines.push(line);
    }

    /// How many records were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// How often the usage log could not be written so far.
    pub(crate) fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Writes what is there, and ends.
    pub(crate) fn close(&self) {
        self.shared.queue().is_closing = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut log: Log) {
        let mut failing = false;
        loop {
            let mut queue = self.queue();
            if !queue.is_closing {
                let waited = self.wake.wait_timeout(queue, PERIOD);
                queue = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(queue, _)| queue);
            }
            let is_closing = queue.is_closing;
            let lines = mem::take(&mut queue.lines);
            drop(queue);
            let left = self.write(&mut log, lines, &mut failing);
            let mut queue = self.queue();
            let is_done = left.is_empty();
            queue.lines.splice(..0, left);
            queue.unjournaled = queue.lines.iter().filter(|line| line.is_unjournaled()).count();
            if is_closing && (queue.lines.is_empty() || !is_done) {
                if queue.unjournaled > 0 {
                    self.lost.fetch_add(queue.unjournaled as u64, Ordering::Relaxed);
                    (self.report)(&format!("{} records are lost", queue.unjournaled));
                }
                return;
            }
        }
    }

    /// Writes lines in batches; those that are left.
    fn write(&self, log: &mut Log, lines: Vec<Pending>, failing: &mut bool) -> Vec<Pending> {
        let mut lines = lines.into_iter();
        loop {
            let mut batch = Vec::new();
            let mut text = String::new();
            while text.len() < BATCH
                && let Some(line) = lines.next()
            {
                match &line {
                    Pending::Kept(slot) => text.push_str(self.slots.text(slot)),
                    Pending::Unjournaled(line, _) => text.push_str(line),
                }
                batch.push(line);
            }
            if batch.is_empty() {
                return batch;
            }
            if let Err(error) = self.append(log, text.as_bytes()) {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if !mem::replace(failing, true) {
                    (self.report)(&format!(
                        "the usage log can't be written: {error}; records stay in the journal until it can"
                    ));
                }
                batch.extend(lines);
                return batch;
            }
            if mem::replace(failing, false) {
                (self.report)("the usage log can be written again");
            }
            self.slots
                .release(batch.into_iter().filter_map(|line| match line {
                    Pending::Kept(slot) => Some(slot),
                    Pending::Unjournaled(_, slot) => slot,
                }));
        }
    }

    fn append(&self, log: &mut Log, lines: &[u8]) -> io::Result<()> {
        let mut log = log.lock()?;
        self.slots.check(log.checkpoint());
        log.append(lines)
    }
}
