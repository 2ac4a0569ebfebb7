//! The journal of this process, and what it holds of each request.
//!
//! A request is known to it from its first filter of ours on. Each worker knows its own: all callbacks of a stream are on
//! one thread, and an access logger is told of it right after its filters were.

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tollgate_core::journal::Known;
use tollgate_core::limits::still_counts;
use tollgate_core::state::Keyspace;
use tollgate_core::usage::line::is_id;
use tollgate_journal as files;
use tollgate_journal::Slot;

use super::metric::count;
use super::{Handle, abi, headers, log, now, persist, shared};
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
    lost: Watched,
    failures: Watched,
}

/// A number of the journal's that only grows, and how much of it was counted.
#[derive(Debug, Default)]
struct Watched(AtomicU64);

/// Records that were lost: the usage log could not be written for so long that there was no more room.
pub(crate) const LOST: Family = Family::counters("tollgate_usage_lost", &[]);
/// How often the usage log could not be written.
pub(crate) const FAILURES: Family = Family::counters("tollgate_usage_write_failures", &[]);
/// Requests of which the journal can't hold all: they have no id that it takes, it is full, or their record is too long. It
/// is not whole if this process is killed.
pub(crate) const UNJOURNALED: Family = Family::counters("tollgate_usage_unjournaled", &[]);

static OPEN: Mutex<Weak<Open>> = Mutex::new(Weak::new());

std::thread_local! {
    /// Requests that a filter has begun, by their ids.
    static REQUESTS: RefCell<BTreeMap<Vec<u8>, Rc<Request>>> = const { RefCell::new(BTreeMap::new()) };
    /// The request that a callback is about.
    static CURRENT: RefCell<Option<Rc<Request>>> = const { RefCell::new(None) };
    /// The one that was over last: the next that access loggers are told of.
    static OVER: RefCell<Option<Rc<Request>>> = const { RefCell::new(None) };
    /// The id of the one that was written last.
    static WRITTEN: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A request under way.
pub(crate) struct Request {
    files: Arc<files::Journal>,
    /// `x-request-id`, where it came with one.
    header: Vec<u8>,
    /// The id of its record.
    id: String,
    /// Until its line is written.
    slot: RefCell<Option<Slot>>,
    /// Its members, where they are not in the slot.
    members: RefCell<Option<String>>,
    /// The filters that it has met.
    filters: RefCell<Vec<&'static str>>,
}

impl Journal {
    /// The journal with these settings; it begins here, with what dead processes left, unless it has begun already. `Err`
    /// says what is wrong.
    pub fn open(settings: Settings) -> Result<Self, String> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = open.upgrade() {
            return match open.settings == settings {
                true => Ok(Self(open)),
                false => Err(format!(
                    "this process has a journal in {} for {} already: to change that, restart Envoy",
                    open.settings.folder.display(),
                    open.settings.log.display()
                )),
            };
        }
        recover(&settings);
        let begun = files::Journal::begin(&settings.folder, &settings.log, settings.levels, report);
        let files = Arc::new(begun.map_err(|error| error.to_string())?);
        persist::begin(&files);
        if settings.levels {
            restore(&settings);
        }
        let journal = Arc::new(Open {
            settings,
            files,
            lost: Watched::default(),
            failures: Watched::default(),
        });
        *open = Arc::downgrade(&journal);
        Ok(Self(journal))
    }

    /// Writes the record of a request that is over, by its id and the members of its record that filters know.
    pub fn finish(&self, host: &LogContext, line: impl FnOnce(&str, &str) -> String) {
        let Open {
            files,
            lost,
            failures,
            ..
        } = &*self.0;
        match OVER.take().filter(|over| over.is_of(host)) {
            Some(request) => {
                WRITTEN.with_borrow_mut(|written| written.clone_from(&request.id));
                let line = request.with_members(|members| line(&request.id, members));
                files.finish(request.slot.take(), line);
            }
            // Envoy answered it before any filter of ours.
            None => {
                // A client's own may be in `x-request-id`.
                let told = host.response.text("request-id");
                let told = told.filter(|id| is_id(id.as_bytes()));
                if told.is_some() && WRITTEN.with_borrow(|written| told.as_ref() == Some(written)) {
                    // There are two loggers on its listener.
                    return;
                }
                let id = told.unwrap_or_else(files::new_id);
                files.finish(None, line(&id, ""));
            }
        }
        lost.count(files.lost(), &LOST);
        failures.count(files.failures(), &FAILURES);
    }
}

impl Watched {
    fn count(&self, now: u64, family: &'static Family) {
        let new = now.saturating_sub(self.0.fetch_max(now, Ordering::Relaxed));
        if new > 0 {
            count(family, new);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        persist::end(&self.files);
        self.files.close();
    }
}

/// Brings records to the usage log that were left. What can't be is no reason not to serve.
fn recover(settings: &Settings) {
    if !settings.folder.exists() {
        return;
    }
    match files::recover(&settings.folder, &settings.log) {
        Ok(recovered) if recovered.journals == 0 => {}
        Ok(recovered) => {
            let unsure = match recovered.unsure {
                0 => String::new(),
                unsure => format!(
                    "; the log that they were written to last is gone, and {unsure} of them may be there already"
                ),
            };
            let unreadable = match recovered.unreadable {
                0 => String::new(),
                unreadable => format!("; {unreadable} could not be read, and are in *.journal.bad"),
            };
            report_as(
                Level::Warn,
                &format!(
                    "an earlier process was killed: {} of its records are in the usage log now, {} of them of requests \
                     that were under way{unsure}{unreadable}",
                    recovered.finished + recovered.crashed,
                    recovered.crashed
                ),
            );
        }
        Err(error) => report(&format!(
            "records of an earlier process could not be recovered: {error}; `tollgate usage recover` tries again"
        )),
    }
}

/// Begins with the levels of limits that the last process had.
fn restore(settings: &Settings) {
    let levels = match files::Levels::read(&settings.folder) {
        Ok(levels) => levels,
        Err(error) => return report(&format!("levels of limits could not be restored: {error}")),
    };
    let now = now().unwrap_or(0);
    for (key, value) in &levels.values {
        // Another version's may be written in another way.
        if key.starts_with(Keyspace::LIMITS.prefix()) && still_counts(value, now) {
            shared::restore(key, value.clone());
        }
    }
    levels.delete();
}

fn report(line: &str) {
    report_as(Level::Error, line);
}

fn report_as(level: Level, line: &str) {
    log(level as u32, &format!("usage: {line}"));
}

/// A stream comes to a filter.
pub(crate) fn begin(filter: abi::Filter, name: &'static str) -> Option<Rc<Request>> {
    persist::with(|files, _| {
        let header = headers::get(Handle::Stream(filter), 0, "x-request-id")
            .ok()
            .flatten();
        let header = header.unwrap_or_default();
        REQUESTS.with_borrow_mut(|requests| {
            let found = requests.get(&header).filter(|_| !header.is_empty());
            // The same stream comes to a filter once. Of another with the same id, a client's own, the record has a new one.
            let is_taken = found.is_some_and(|found| found.filters.borrow().contains(&name));
            if let Some(found) = found.filter(|_| !is_taken) {
                found.filters.borrow_mut().push(name);
                return Some(Rc::clone(found));
            }
            let request = Rc::new(Request::begin(files, header, is_taken, name));
            if !is_taken && !request.header.is_empty() {
                requests.insert(request.header.clone(), Rc::clone(&request));
            }
            Some(request)
        })
    })
}

/// What follows is about this request; `None` ends it.
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
pub(crate) fn end(request: &Rc<Request>) {
    REQUESTS.with_borrow_mut(|requests| {
        let is_it = |found: &Rc<Request>| Rc::ptr_eq(found, request);
        if requests.get(&request.header).is_some_and(is_it) {
            requests.remove(&request.header);
        }
    });
    // No logger was told of it, and none will be.
    OVER.with_borrow_mut(|over| {
        over.take_if(|over| Rc::ptr_eq(over, request));
    });
}

impl Request {
    fn begin(files: &Arc<files::Journal>, header: Vec<u8>, is_taken: bool, filter: &'static str) -> Self {
        let id = Some(&header).filter(|id| is_id(id) && !is_taken);
        let id = id.and_then(|id| String::from_utf8(id.clone()).ok());
        let id = id.unwrap_or_else(files::new_id);
        let slot = files.take(id.as_bytes(), now().unwrap_or(0) / 1_000_000);
        if slot.is_none() {
            count(&UNJOURNALED, 1);
        }
        Self {
            files: Arc::clone(files),
            header,
            id,
            slot: RefCell::new(slot),
            members: RefCell::new(None),
            filters: RefCell::new(vec![filter]),
        }
    }

    /// Whether an access logger is told of this one. Its id may have been removed on its way to the model server, and is on
    /// its answer then.
    fn is_of(&self, host: &LogContext) -> bool {
        static WARNED: AtomicBool = AtomicBool::new(false);
        let is_it = |id: Option<String>| id.is_some_and(|id| id.as_bytes() == self.header);
        let is_it = self.header.is_empty()
            || is_it(host.request.text("x-request-id"))
            || is_it(host.response.text("x-request-id"));
        if !is_it && !WARNED.swap(true, Ordering::Relaxed) {
            report(
                "`x-request-id` of a request was changed on its way, and its record says nothing of what it used",
            );
        }
        is_it
    }

    fn keep(&self, known: Known) {
        let said = files::Known {
            at_ms: now().unwrap_or(0) / 1_000_000,
            status: known.status,
            members: &known.members,
        };
        let mut slot = self.slot.borrow_mut();
        let is_kept = slot.as_mut().is_some_and(|slot| self.files.keep(slot, said));
        if slot.is_some() && !is_kept {
            count(&UNJOURNALED, 1);
        }
        *self.members.borrow_mut() = (!is_kept).then_some(known.members);
    }

    fn with_members<T>(&self, then: impl FnOnce(&str) -> T) -> T {
        match (&*self.members.borrow(), &*self.slot.borrow()) {
            (Some(members), _) => then(members),
            (None, Some(slot)) => then(self.files.members(slot)),
            (None, None) => then(""),
        }
    }
}

impl Drop for Request {
    /// Nobody logged it: there is no logger of usage on its listener.
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.files.forget(slot);
        }
    }
}
