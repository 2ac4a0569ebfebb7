//! What is made of an answer, step by step: decompressed, read, checked, shared with the workers.

use super::unpack::Unpacking;
use crate::config::ConfigError;
use crate::directory::census::Census;
use crate::directory::delta::{self, Delta, DeltaLoader};
use crate::directory::patch::Patch;
use crate::directory::publication::{Publication, Published};
use crate::directory::table::Compiled;
use crate::directory::{Loader, Progress};
use crate::state::{Store, StoreError};

/// Keys read between looks at the clock: about a millisecond.
const KEYS_A_STEP: usize = 1_000;
/// What a compressed document may grow to, in bytes.
const MAX_DOCUMENT: usize = 1 << 30;

/// Work on an answer.
pub(super) struct Job {
    /// What changes are made to; `None` for a whole document.
    basis: Option<Basis>,
    allow_empty: bool,
    stage: Stage,
}

/// What is in force, and can be changed.
#[derive(Debug)]
pub(super) struct Basis {
    /// By what the server knows it.
    pub(super) version: String,
    /// By what the workers know it.
    pub(super) generation: u64,
    pub(super) census: Census,
}

enum Stage {
    Unpacking(Unpacking),
    Text(Vec<u8>),
    Loading(Loader),
    Loaded(Compiled),
    Publishing(Publication),
    Reading(DeltaLoader),
    Read(Delta),
    Patching(Patch),
}

/// How work ends.
pub(super) enum Ending {
    /// It is in force, in this generation.
    Done(u64, Census),
    /// The answer is wrong; what is in force stays.
    Refused(Vec<ConfigError>),
    /// What is shared may be of two versions.
    Failed(String),
}

impl Job {
    /// Work on this body: a document, or changes where there is something that they are made to.
    pub(super) fn new(body: Vec<u8>, is_gzip: bool, basis: Option<Basis>, allow_empty: bool) -> Self {
        let most = basis.as_ref().map_or(MAX_DOCUMENT, |_| delta::MAX_TEXT);
        let stage = if is_gzip {
            Stage::Unpacking(Unpacking::new(body, most))
        } else {
            Stage::Text(body)
        };
        Self {
            basis,
            allow_empty,
            stage,
        }
    }

    /// Does a part of the work, about a millisecond of it; what is done is in force as of `asked_at`. `Err` where that was all.
    pub(super) fn step(self, asked_at: u64, store: &mut impl Store) -> Result<Self, Ending> {
        let Self {
            mut basis,
            allow_empty,
            stage,
        } = self;
        let next = match stage {
            Stage::Unpacking(unpacking) => next(unpacking.step(), Stage::Unpacking, Stage::Text),
            Stage::Text(text) => begin(text, basis.is_some()),
            Stage::Loading(loader) => next(loader.step(KEYS_A_STEP), Stage::Loading, Stage::Loaded),
            Stage::Loaded(directory) => publish(directory, allow_empty, store),
            Stage::Publishing(mut publication) => match publication.step(store) {
                Ok(true) => Err(announced(publication.announce(asked_at, store))),
                Ok(false) => Ok(Stage::Publishing(publication)),
                Err(error) => Err(not_shared(error)),
            },
            Stage::Reading(loader) => next(loader.step(KEYS_A_STEP), Stage::Reading, Stage::Read),
            Stage::Read(delta) => patch(delta, basis.take(), allow_empty, store),
            Stage::Patching(patch) => match patch.step(store) {
                Ok(Progress::Done(patch)) => Err(announced(patch.announce(asked_at, store))),
                Ok(progress) => next(progress, Stage::Patching, Stage::Patching),
                Err(error) => Err(not_shared(error)),
            },
        };
        next.map(|stage| Self {
            basis,
            allow_empty,
            stage,
        })
    }
}

/// What comes after a step of a piece of work; `Err` where it is over.
fn next<Work, Done>(
    progress: Progress<Work, Done>,
    more: fn(Work) -> Stage,
    done: fn(Done) -> Stage,
) -> Result<Stage, Ending> {
    match progress {
        Progress::More(work) => Ok(more(work)),
        Progress::Done(result) => Ok(done(result)),
        Progress::Refused(errors) => Err(Ending::Refused(errors)),
    }
}

fn begin(text: Vec<u8>, is_changes: bool) -> Result<Stage, Ending> {
    if !is_changes {
        return Ok(Stage::Loading(Loader::new(text)));
    }
    if text.len() > delta::MAX_TEXT {
        let why = format!("has more than {} bytes", delta::MAX_TEXT);
        return Err(refused(ConfigError::new("", why)));
    }
    Ok(Stage::Reading(DeltaLoader::new(text)))
}

/// A document without keys is more likely a broken export than meant.
fn publish(directory: Compiled, allow_empty: bool, store: &mut impl Store) -> Result<Stage, Ending> {
    let before = Published::read(store).filter(|_| !allow_empty);
    match before.and_then(|before| before.emptied_by(directory.keys() as u64)) {
        None => Ok(Stage::Publishing(Publication::new(directory))),
        Some(error) => Err(refused(error)),
    }
}

/// Changes are made to the version that they were made for, and to no other.
fn patch(
    delta: Delta,
    basis: Option<Basis>,
    allow_empty: bool,
    store: &mut impl Store,
) -> Result<Stage, Ending> {
    let basis = match basis {
        Some(basis) if basis.version == delta.after() => basis,
        basis => {
            let version = basis.map(|basis| basis.version).unwrap_or_default();
            let expected = format!("`{version}`, the version in force");
            let found = crate::key::shown(delta.after(), 64);
            return Err(refused(ConfigError::expected("after", found, &expected)));
        }
    };
    let in_force = Published::read(store).map(|published| published.generation);
    if in_force != Some(basis.generation) {
        let problem =
            "the directory that the workers have is not the one that was put there for this version";
        return Err(refused(ConfigError::new("after", problem)));
    }
    let patch = Patch::new(delta, basis.census, allow_empty);
    Ok(Stage::Patching(patch))
}

fn refused(error: ConfigError) -> Ending {
    Ending::Refused(vec![error])
}

fn announced(in_force: Result<(u64, Census), StoreError>) -> Ending {
    match in_force {
        Ok((generation, census)) => Ending::Done(generation, census),
        Err(error) => Ending::Failed(format!(
            "the directory could not be announced to the workers ({error:?})"
        )),
    }
}

fn not_shared(error: StoreError) -> Ending {
    Ending::Failed(format!(
        "the directory could not be shared with the workers ({error:?})"
    ))
}
