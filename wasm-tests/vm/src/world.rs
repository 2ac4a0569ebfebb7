//! One Envoy process: the clock, the shared data, the metrics and the log that all its VMs have in common.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::faults::{Fault, Faults};
use crate::hostcall::Hostcall;
use crate::metrics::{Kind, Metrics};
use crate::properties::Properties;
use crate::shared::Shared;
use crate::status::Status;

/// One Envoy process, as far as a module can tell. Cheap to clone: clones are the same world.
///
/// Nothing in it moves by itself: time stands still until [`World::advance`], a callout is unanswered until
/// the test answers it, and a tick comes when the test says so.
#[derive(Clone)]
pub struct World(Rc<RefCell<Process>>);

/// What the VMs of one process share.
pub(crate) struct Process {
    pub(crate) now: SystemTime,
    pub(crate) shared: Shared,
    pub(crate) metrics: Metrics,
    pub(crate) faults: Faults,
    pub(crate) log: Vec<LogLine>,
    pub(crate) log_level: Level,
    pub(crate) properties: Properties,
    pub(crate) requests: u64,
    /// By their numbers.
    pub(crate) workers: Vec<Weak<dyn Worker>>,
}

/// A worker's VM, as far as time and queues go by it.
pub(crate) trait Worker {
    /// When it has its next tick.
    fn next_tick(self: Rc<Self>) -> Option<SystemTime>;

    /// Has that tick now.
    #[track_caller]
    fn tick(self: Rc<Self>);

    /// Tells the plugin `root` that there is something in its queue.
    #[track_caller]
    fn queue_ready(self: Rc<Self>, root: u32, token: u32);
}

/// How much a log line matters; the ABI's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// 0
    Trace,
    /// 1
    Debug,
    /// 2
    Info,
    /// 3
    Warn,
    /// 4
    Error,
    /// 5
    Critical,
}

impl Level {
    pub(crate) fn of(number: u32) -> Option<Self> {
        use Level::{Critical, Debug, Error, Info, Trace, Warn};
        [Trace, Debug, Info, Warn, Error, Critical]
            .into_iter()
            .find(|level| *level as u32 == number)
    }
}

/// A line a module logged. All levels are kept, also those an operator's log level would hide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// What it says; bytes that are no UTF-8 show as `U+FFFD`.
    pub text: String,
    /// The `vm_id` of the VM that said it.
    pub vm_id: String,
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}] {}: {}", self.level, self.vm_id, self.text)
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A process at 2026-01-01T00:00:00Z with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        let process = Process {
            now: parse_time("2026-01-01T00:00:00Z"),
            shared: Shared::default(),
            metrics: Metrics::default(),
            faults: Faults::default(),
            log: Vec::new(),
            log_level: Level::Info,
            properties: Properties::default(),
            requests: 0,
            workers: Vec::new(),
        };
        Self(Rc::new(RefCell::new(process)))
    }

    /// Sets the clock to an RFC 3339 time in UTC, as `2026-11-24T00:00:00Z`.
    #[must_use]
    pub fn at(self, time: &str) -> Self {
        self.0.borrow_mut().now = parse_time(time);
        self
    }

    /// The time modules see.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.0.borrow().now
    }

    /// The time modules see, in nanoseconds since 1970.
    #[must_use]
    pub fn nanos(&self) -> u64 {
        self.0.borrow().nanos()
    }

    /// Moves the clock on. No tick comes of it; see [`World::run_for`].
    pub fn advance(&self, by: Duration) {
        self.0.borrow_mut().now += by;
    }

    /// Moves the clock back, as a corrected system clock does.
    pub fn set_back(&self, by: Duration) {
        self.0.borrow_mut().now -= by;
    }

    /// Lets `time` pass: every plugin with a tick period gets the ticks that fall into it, each at its time.
    #[track_caller]
    pub fn run_for(&self, time: Duration) {
        let end = self.now() + time;
        while let Some((due, worker)) = self.next_tick().filter(|(due, _)| *due <= end) {
            let now = self.now().max(due);
            self.0.borrow_mut().now = now;
            worker.tick();
        }
        self.0.borrow_mut().now = end;
    }

    /// Tells the plugins that registered a shared queue of what was put into it.
    #[track_caller]
    pub fn deliver_queues(&self) {
        loop {
            let told = self.0.borrow_mut().shared.next_told();
            let Some(((vm, root), token)) = told else { return };
            if let Some(worker) = self.workers().into_iter().nth(vm).flatten() {
                worker.queue_ready(root, token);
            }
        }
    }

    /// Makes `call` answer `status` without doing anything, until cleared. Narrow it with [`Fault::of`],
    /// [`Fault::nth`] and [`Fault::times`].
    pub fn fault(&self, call: Hostcall, status: Status) -> Fault {
        self.0.borrow_mut().faults.answer(call, status)
    }

    /// Runs `hook` once, just before the host does the next `call` (or the one that [`Fault::of`] and
    /// [`Fault::nth`] choose). The hook may use other VMs of this world, not the one that is calling.
    pub fn before(&self, call: Hostcall, hook: impl FnOnce() + 'static) -> Fault {
        self.0.borrow_mut().faults.run(call, Box::new(hook))
    }

    /// Ends all faults and hooks.
    pub fn clear_faults(&self) {
        self.0.borrow_mut().faults.clear();
    }

    /// What `proxy_get_log_level` tells modules. Lines below it are kept all the same.
    #[must_use]
    pub fn log_level(self, level: Level) -> Self {
        self.0.borrow_mut().log_level = level;
        self
    }

    /// Everything logged so far.
    #[must_use]
    pub fn log(&self) -> Vec<LogLine> {
        self.0.borrow().log.clone()
    }

    /// Whether a line of the log has `text` in it.
    #[must_use]
    pub fn logged(&self, text: &str) -> bool {
        self.0.borrow().log.iter().any(|line| line.text.contains(text))
    }

    /// Fails when `secret` was logged anywhere, at whatever level.
    #[track_caller]
    pub fn expect_never_logged(&self, secret: &str) {
        let log = self.log();
        let found = log.iter().find(|line| line.text.contains(secret));
        assert!(found.is_none(), "the log has what must not be in it: {found:?}");
    }

    /// A counter's value; 0 when it was not defined.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.metric(Kind::Counter, name).unwrap_or(0)
    }

    /// All counters by name.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.0.borrow().metrics.all(Kind::Counter)
    }

    /// A gauge's value; `None` when it was not defined.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<u64> {
        self.metric(Kind::Gauge, name)
    }

    /// All gauges by name.
    #[must_use]
    pub fn gauges(&self) -> BTreeMap<String, u64> {
        self.0.borrow().metrics.all(Kind::Gauge)
    }

    /// Everything a histogram was given.
    #[must_use]
    pub fn histogram(&self, name: &str) -> Vec<u64> {
        self.0
            .borrow()
            .metrics
            .named(Kind::Histogram, name)
            .unwrap_or_default()
            .to_vec()
    }

    /// A value of the shared data, and its compare-and-swap number.
    #[must_use]
    pub fn shared(&self, vm_id: &str, key: &str) -> Option<(Vec<u8>, u32)> {
        self.0.borrow().shared.get(vm_id, key.as_bytes()).ok()
    }

    /// Writes shared data unconditionally, as another worker could.
    pub fn set_shared(&self, vm_id: &str, key: &str, value: &[u8]) {
        self.0
            .borrow_mut()
            .shared
            .set(vm_id, key.as_bytes(), value, 0)
            .expect("cas 0 always writes");
    }

    /// The keys of a `vm_id`'s shared data, sorted.
    #[must_use]
    pub fn shared_keys(&self, vm_id: &str) -> Vec<String> {
        let keys = self.0.borrow().shared.keys(vm_id);
        keys.iter()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .collect()
    }

    /// A property that every context has, as `["node", "id"]`; a stream's own come first.
    pub fn property(&self, path: &[&str], value: impl AsRef<[u8]>) {
        self.0.borrow_mut().properties.set_bytes(path, value.as_ref());
    }

    pub(crate) fn process(&self) -> Ref<'_, Process> {
        self.0.borrow()
    }

    pub(crate) fn process_mut(&self) -> std::cell::RefMut<'_, Process> {
        self.0.borrow_mut()
    }

    fn metric(&self, kind: Kind, name: &str) -> Option<u64> {
        self.0
            .borrow()
            .metrics
            .named(kind, name)
            .map(|values| values.last().copied().unwrap_or(0))
    }

    fn workers(&self) -> Vec<Option<Rc<dyn Worker>>> {
        self.0.borrow().workers.iter().map(Weak::upgrade).collect()
    }

    /// Who has the next tick, and when.
    fn next_tick(&self) -> Option<(SystemTime, Rc<dyn Worker>)> {
        let workers = self.workers().into_iter().flatten();
        workers
            .filter_map(|worker| Some((worker.clone().next_tick()?, worker)))
            .min_by_key(|(due, _)| *due)
    }
}

impl Process {
    pub(crate) fn nanos(&self) -> u64 {
        let since = self.now.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).expect("a time before 2554")
    }
}

fn parse_time(time: &str) -> SystemTime {
    humantime::parse_rfc3339(time).unwrap_or_else(|error| panic!("`{time}` is no RFC 3339 time: {error}"))
}
