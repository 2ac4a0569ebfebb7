//! Metrics over dynamic modules. What is counted is added up here, and handed to Envoy by the main thread ten times a
//! second: an update with labels costs Envoy more than a microsecond, and here some nanoseconds.

use core::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use super::abi::{self, Buffer};
use crate::metric::{Family, Kind};
use crate::status::Result;

/// A number that only grows.
#[derive(Debug, Clone, Copy)]
pub struct Counter(&'static Series);

/// A number that is set.
#[derive(Debug, Clone, Copy)]
pub struct Gauge(&'static Series);

/// Numbers whose spread is of interest.
#[derive(Debug, Clone, Copy)]
pub struct Histogram(&'static Series);

impl Counter {
    /// Defines one, or finds the one with these values of its labels.
    pub fn define(family: &'static Family, labels: &[&str]) -> Result<Self> {
        Ok(Self(series(family, labels)))
    }

    /// Adds one.
    pub fn increment(self) {
        self.add(1);
    }

    /// Adds so many.
    pub fn add(self, count: u64) {
        // Workers share the number: one that stays as it is need not be fetched from another.
        if count == 0 {
            return;
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.0.moved.fetch_add(count, Ordering::Relaxed);
    }
}

/// Adds so many to a family without labels: of what is rare, and counted nowhere else.
#[cold]
pub(crate) fn count(family: &'static Family, by: u64) {
    if let Ok(counter) = Counter::define(family, &[]) {
        counter.add(by);
    }
}

impl Gauge {
    /// Defines it, or finds the one of that name.
    pub fn define(family: &'static Family) -> Result<Self> {
        Ok(Self(series(family, &[])))
    }

    /// Moves it by so much, together with other workers.
    pub fn add(self, by: i64) {
        self.0.moved.fetch_add(by, Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(self, value: u64) {
        self.0.set.store(value.min(UNSET - 1), Ordering::Relaxed);
    }
}

impl Histogram {
    /// Defines it, or finds the one of that name.
    pub fn define(family: &'static Family) -> Result<Self> {
        Ok(Self(series(family, &[])))
    }

    /// Notes one.
    pub fn record(self, value: u64) {
        let mut noted = lock(&self.0.noted);
        if noted.len() < MAX_NOTED {
            noted.push(value);
        }
    }
}

/// How often what was counted was handed over: it stands still where nothing is.
pub(crate) const FLUSHES: Family = Family::counters("tollgate_metric_flushes", &[]);

/// Beyond so many numbers between two flushes their spread is known well enough.
const MAX_NOTED: usize = 10_000;

/// Of a gauge that was not set since it was handed over.
const UNSET: u64 = u64::MAX;

/// One set of label values, and what is not with Envoy yet. It is never forgotten, as metrics are not.
#[derive(Debug)]
struct Series {
    labels: Vec<String>,
    moved: AtomicI64,
    set: AtomicU64,
    noted: Mutex<Vec<u64>>,
}

/// The series of a family, also in the order in which they came.
#[derive(Default)]
struct Known {
    by_labels: HashMap<Vec<String>, &'static Series>,
    all: Vec<&'static Series>,
}

type Families = HashMap<&'static str, Known>;

static FAMILIES: LazyLock<Mutex<Families>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn series(family: &'static Family, labels: &[&str]) -> &'static Series {
    let mut families = lock(&FAMILIES);
    let known = families.entry(family.name).or_default();
    let labels: Vec<String> = labels.iter().map(|&value| value.to_owned()).collect();
    let Known { by_labels, all } = known;
    by_labels.entry(labels.clone()).or_insert_with(|| {
        let series: &'static Series = Box::leak(Box::new(Series {
            labels,
            moved: AtomicI64::new(0),
            set: AtomicU64::new(UNSET),
            noted: Mutex::default(),
        }));
        all.push(series);
        series
    })
}

/// Of whom Envoy takes metrics: a filter's configuration, or a bootstrap extension.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner {
    Filter(abi::FilterConfig),
    Extension(abi::Extension),
}

/// What one owner has defined.
///
/// Envoy forgets a series with labels when the last owner that counted it goes. So every owner counts each, with zero, and
/// what was counted is handed over by the youngest, which goes last.
#[derive(Debug)]
pub(crate) struct Exporter {
    owner: Owner,
    number: u64,
    families: Vec<Defined>,
}

/// A family, as an owner has it.
#[derive(Debug)]
struct Defined {
    family: &'static Family,
    id: usize,
    /// So many of its series this owner has counted.
    held: AtomicUsize,
}

/// Names of the families that each [`Exporter`] has, by its number.
static EXPORTERS: Mutex<BTreeMap<u64, Vec<&'static str>>> = Mutex::new(BTreeMap::new());

impl Exporter {
    /// Defines them, as is only possible while the owner's configuration is being made.
    pub(crate) fn define(owner: Owner, families: impl IntoIterator<Item = &'static Family>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut defined: Vec<Defined> = Vec::new();
        for family in families {
            if defined.iter().any(|known| known.family.name == family.name) {
                continue;
            }
            defined.extend(define(owner, family).map(|id| Defined {
                family,
                id,
                held: AtomicUsize::new(0),
            }));
        }
        let exporter = Self {
            owner,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            families: defined,
        };
        for defined in &exporter.families {
            exporter.hold(defined, &known(defined.family));
        }
        let names = exporter.families.iter().map(|defined| defined.family.name);
        lock(&EXPORTERS).insert(exporter.number, names.collect());
        exporter
    }

    /// Counts, with zero, what came since.
    fn hold(&self, Defined { family, id, held }: &Defined, series: &[&Series]) {
        if family.kind == Kind::Counter {
            let held = held.swap(series.len(), Ordering::Relaxed);
            for series in series.get(held..).unwrap_or_default() {
                self.count(*id, series, 0);
            }
        }
    }

    /// Whether no younger one has this family.
    fn is_youngest(&self, family: &Family) -> bool {
        lock(&EXPORTERS)
            .range(self.number + 1..)
            .all(|(_, names)| !names.contains(&family.name))
    }

    /// Hands over what was counted since. On the main thread.
    pub(crate) fn flush(&self) {
        if self.families.is_empty() {
            return;
        }
        if let Ok(flushes) = Counter::define(&FLUSHES, &[]) {
            flushes.increment();
        }
        for defined in &self.families {
            let Defined { family, id, .. } = defined;
            let all = known(family);
            self.hold(defined, &all);
            if !self.is_youngest(family) {
                continue;
            }
            for series in all {
                match family.kind {
                    Kind::Counter => match series.moved.swap(0, Ordering::Relaxed) {
                        0 => {}
                        count => self.count(*id, series, count.unsigned_abs()),
                    },
                    Kind::Gauge => self.move_gauge(*id, series),
                    Kind::Histogram => self.record(*id, series),
                }
            }
        }
    }

    fn count(&self, id: usize, series: &Series, by: u64) {
        let mut values = series.values();
        let (labels, count) = (values.as_mut_ptr(), values.len());
        // SAFETY: the owner lives, as it is what calls, and the labels are there for the call. What Envoy refuses to count has
        // nowhere to be reported, here and below.
        let _ = unsafe {
            match self.owner {
                Owner::Filter(config) => abi::increment_counter(config, id, labels, count, by),
                Owner::Extension(extension) => {
                    abi::extension_increment_counter(extension, id, labels, count, by)
                }
            }
        };
    }

    fn move_gauge(&self, id: usize, series: &Series) {
        let set = series.set.swap(UNSET, Ordering::Relaxed);
        let moved = series.moved.swap(0, Ordering::Relaxed);
        let (none, by) = (core::ptr::null_mut(), moved.unsigned_abs());
        // SAFETY: as above; no gauge has labels.
        let _ = unsafe {
            match self.owner {
                Owner::Filter(config) if set != UNSET => abi::set_gauge(config, id, none, 0, set),
                Owner::Filter(config) if moved > 0 => abi::increment_gauge(config, id, none, 0, by),
                Owner::Filter(config) if moved < 0 => abi::decrement_gauge(config, id, none, 0, by),
                // The main thread's are only set.
                Owner::Extension(extension) if set != UNSET => {
                    abi::extension_set_gauge(extension, id, none, 0, set)
                }
                Owner::Filter(_) | Owner::Extension(_) => abi::DONE,
            }
        };
    }

    fn record(&self, id: usize, series: &Series) {
        let Owner::Filter(config) = self.owner else {
            return;
        };
        for value in core::mem::take(&mut *lock(&series.noted)) {
            // SAFETY: as above; no histogram has labels.
            let _ = unsafe { abi::record_histogram(config, id, core::ptr::null_mut(), 0, value) };
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        lock(&EXPORTERS).remove(&self.number);
    }
}

impl Series {
    fn values(&self) -> Vec<Buffer> {
        self.labels
            .iter()
            .map(|value| Buffer::of(value.as_bytes()))
            .collect()
    }
}

/// Every series of a family.
fn known(family: &Family) -> Vec<&'static Series> {
    let families = lock(&FAMILIES);
    families
        .get(family.name)
        .map_or_else(Vec::new, |known| known.all.clone())
}

fn define(owner: Owner, family: &Family) -> Option<usize> {
    let mut labels: Vec<Buffer> = family
        .labels
        .iter()
        .map(|label| Buffer::of(label.as_bytes()))
        .collect();
    let (labels, count) = (labels.as_mut_ptr(), labels.len());
    let name = Buffer::of(family.name.as_bytes());
    let mut id = 0;
    // SAFETY: the owner is being made, and the names are there for the call.
    let defined = unsafe {
        match (owner, family.kind) {
            (Owner::Filter(config), Kind::Counter) => {
                abi::define_counter(config, name, labels, count, &raw mut id)
            }
            (Owner::Filter(config), Kind::Gauge) => {
                abi::define_gauge(config, name, labels, count, &raw mut id)
            }
            (Owner::Filter(config), Kind::Histogram) => {
                abi::define_histogram(config, name, labels, count, &raw mut id)
            }
            (Owner::Extension(extension), Kind::Counter) => {
                abi::extension_define_counter(extension, name, labels, count, &raw mut id)
            }
            (Owner::Extension(extension), _) => {
                abi::extension_define_gauge(extension, name, labels, count, &raw mut id)
            }
        }
    };
    (defined == abi::DONE).then_some(id)
}
