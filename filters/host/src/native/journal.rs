//! The journal of this process, and what it holds of each request.
//!
//! A request is known to it from its first filter of ours on. Each worker knows its own: all callbacks of a stream are on
//! one thread, and an access logger is told of it right after its filters were.

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tollgate_core::journal::Known;
use tollgate_core::state::KEYSPACES;
use tollgate_core::usage::line::is_id;
use tollgate_journal as files;
use tollgate_journal::Slot;

use super::metric::Counter;
use super::{Handle, abi, headers, log, now, shared, written};
use crate::context::LogContext;
use crate::log::Level;
use crate::metric::Family;

/// Where a journal is, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The usage log.
    pub log: PathBuf,
    /// The folder of journals.
    pub folder: PathBuf,
    /// Whether levels of limits are kept in it, and restored.
    pub levels: bool,
}

/// The journal of this process, for as long as somebody has it.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Open>);

#[derive(Debug)]
struct Open {
    settings: Settings,
    files: Arc<files::Journal>,
}

/// Records that were lost: the usage log could not be written for so long that there was no more room.
pub(crate) const LOST: Family = Family::counters("tollgate_usage_lost", &[]);
/// Requests for which the journal had no more room: their records are lost if this process is killed.
pub(crate) const UNJOURNALED: Family = Family::counters("tollgate_usage_unjournaled", &[]);

static OPEN: Mutex<Weak<Open>> = Mutex::new(Weak::new());

std::thread_local! {
    /// Requests that a filter has begun, by their ids.
    static REQUESTS: RefCell<BTreeMap<Vec<u8>, Rc<Request>>> = const { RefCell::new(BTreeMap::new()) };
    /// The request that a callback is about.
    static CURRENT: RefCell<Option<Rc<Request>>> = const { RefCell::new(None) };
    /// The one that was over last: the next that access loggers are told of.
    static OVER: RefCell<Option<Rc<Request>>> = const { RefCell::new(None) };
}

/// A request under way.
pub(crate) struct Request {
    files: Arc<files::Journal>,
    id: Vec<u8>,
    slot: Option<Slot>,
    /// Its members, where they are not in the slot.
    members: RefCell<Option<String>>,
    /// Whether its line is written.
    is_written: Cell<bool>,
    /// The filters that it has met.
    filters: RefCell<Vec<&'static str>>,
}

impl Journal {
    /// The journal with these settings; it begins here, with what processes have left that are gone, unless it has begun
    /// already. `Err` says what is wrong.
    pub fn open(settings: Settings) -> Result<Self, String> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = open.upgrade() {
            return match open.settings == settings {
                true => Ok(Self(open)),
                false => Err(format!(
                    "this process has a journal in {} for {} already: another takes a restart",
                    open.settings.folder.display(),
                    open.settings.log.display()
                )),
            };
        }
        let levels = recover(&settings)?;
        let begun = files::Journal::begin(&settings.folder, &settings.log, settings.levels, report);
        let files = Arc::new(begun.map_err(|error| error.to_string())?);
        written::begin(&files);
        if settings.levels {
            // Another version's may be written in another way.
            let is_known = |key: &[u8]| {
                KEYSPACES
                    .iter()
                    .any(|keyspace| key.starts_with(keyspace.prefix()))
            };
            for (key, value) in levels.into_iter().filter(|(key, _)| is_known(key)) {
                shared::restore(&key, value);
            }
        }
        let journal = Arc::new(Open { settings, files });
        *open = Arc::downgrade(&journal);
        Ok(Self(journal))
    }

    /// Writes the record of a request that is over, by its id and the members of its record that filters know.
    pub fn finish(&self, host: &LogContext, line: impl FnOnce(&str, &str) -> String) {
        let own_id = || host.request.text("x-request-id");
        let request = OVER
            .take()
            .filter(|over| own_id().is_some_and(|id| id.as_bytes() == over.id));
        let Some(request) = request else {
            // Envoy answered it before any filter of ours.
            let told = host
                .response
                .text("x-request-id")
                .filter(|id| is_id(id.as_bytes()));
            let id = told.unwrap_or_else(files::new_id);
            return self.0.files.finish(None, line(&id, ""));
        };
        let id = String::from_utf8_lossy(&request.id);
        let line = request.with_members(|members| line(&id, members));
        request.is_written.set(true);
        self.0.files.finish(request.slot, line);
        self.count_lost();
    }

    fn count_lost(&self) {
        static FAMILY: Family = LOST;
        static COUNTED: AtomicU64 = AtomicU64::new(0);
        let lost = self.0.files.lost();
        let new = lost.saturating_sub(COUNTED.fetch_max(lost, Ordering::Relaxed));
        if new > 0 {
            count(&FAMILY, new);
        }
    }
}

#[cold]
fn count(family: &'static Family, by: u64) {
    if let Ok(counter) = Counter::define(family, &[]) {
        counter.add(by);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        written::end(&self.files);
        self.files.close();
    }
}

/// Brings records to the usage log that were left; levels of limits that were.
fn recover(settings: &Settings) -> Result<files::FoundLevels, String> {
    if !settings.folder.exists() {
        return Ok(Vec::new());
    }
    let recovered = files::recover(&settings.folder, &settings.log).map_err(|error| error.to_string())?;
    if recovered.journals > 0 {
        report_as(
            Level::Warn,
            &format!(
                "an earlier process was killed: {} of its records are in the usage log now, {} of them of requests that \
                 were under way",
                recovered.finished + recovered.crashed,
                recovered.crashed
            ),
        );
    }
    files::take_levels(&settings.folder).map_err(|error| error.to_string())
}

fn report(line: &str) {
    report_as(Level::Error, line);
}

fn report_as(level: Level, line: &str) {
    log(level as u32, &format!("usage: {line}"));
}

/// A stream comes to a filter.
pub(crate) fn begin(filter: abi::Filter, name: &'static str) -> Option<Rc<Request>> {
    written::with(|files, _| {
        let id = headers::get(Handle::Stream(filter), 0, "x-request-id").ok()??;
        REQUESTS.with_borrow_mut(|requests| {
            if let Some(found) = requests.get(&id)
                // The same stream comes to a filter once.
                && !found.filters.borrow().contains(&name)
            {
                found.filters.borrow_mut().push(name);
                return Some(Rc::clone(found));
            }
            let request = Rc::new(Request::begin(files, &id, name)?);
            requests.insert(id, Rc::clone(&request));
            Some(request)
        })
    })
}

/// What follows is about this request, until it is told otherwise.
pub(crate) fn enter(request: Option<&Rc<Request>>) {
    CURRENT.with_borrow_mut(|current| *current = request.cloned());
}

/// Keeps what is known of the request that the callback is about.
pub(crate) fn keep(known: impl FnOnce() -> Known) {
    CURRENT.with_borrow(|current| {
        if let Some(request) = current {
            request.keep(known());
        }
    });
}

/// A request is over for its filters.
pub(crate) fn over(request: Option<&Rc<Request>>) {
    if let Some(request) = request {
        OVER.set(Some(Rc::clone(request)));
    }
}

/// A stream is forgotten.
pub(crate) fn end(request: Rc<Request>) {
    REQUESTS.with_borrow_mut(|requests| {
        if requests
            .get(&request.id)
            .is_some_and(|found| Rc::ptr_eq(found, &request))
        {
            requests.remove(&request.id);
        }
    });
}

impl Request {
    fn begin(files: &Arc<files::Journal>, id: &[u8], filter: &'static str) -> Option<Self> {
        if !is_id(id) {
            return None;
        }
        let slot = files.take(id, now().unwrap_or(0) / 1_000_000);
        if slot.is_none() {
            static FAMILY: Family = UNJOURNALED;
            count(&FAMILY, 1);
        }
        Some(Self {
            files: Arc::clone(files),
            id: id.to_vec(),
            slot,
            members: RefCell::new(None),
            is_written: Cell::new(false),
            filters: RefCell::new(vec![filter]),
        })
    }

    fn keep(&self, known: Known) {
        let at_ms = now().unwrap_or(0) / 1_000_000;
        let said = files::Known {
            at_ms,
            status: known.status,
            members: &known.members,
        };
        let is_kept = self.slot.is_some_and(|slot| self.files.keep(slot, said));
        *self.members.borrow_mut() = (!is_kept).then_some(known.members);
    }

    fn with_members<T>(&self, then: impl FnOnce(&str) -> T) -> T {
        match (&*self.members.borrow(), self.slot) {
            (Some(members), _) => then(members),
            (None, Some(slot)) => then(self.files.members(slot)),
            (None, None) => then(""),
        }
    }
}

impl Drop for Request {
    /// Nobody logged it: there is no logger of usage on its listener.
    fn drop(&mut self) {
        if let Some(slot) = self.slot.filter(|_| !self.is_written.get()) {
            self.files.forget(slot);
        }
    }
}
