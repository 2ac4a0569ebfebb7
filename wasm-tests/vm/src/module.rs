//! A compiled wasm module, compiled once a process.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use wasmtime::{Config, Engine};

use crate::hostcall::Hostcall;

/// A compiled module. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    name: String,
    compiled: wasmtime::Module,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Module({})", self.name)
    }
}

/// The filter `dist/tollgate-{name}.wasm` of this repository, compiled at its first use in this process.
///
/// # Panics
/// When the file is not there (`make wasm` makes it) or is no wasm module.
#[must_use]
#[track_caller]
pub fn module(name: &str) -> Module {
    compiled(&filter(name), engine())
}

/// The same, compiled so that what its VMs do is counted: [`Vm::fuel`](crate::Vm::fuel).
///
/// # Panics
/// As [`module`].
#[must_use]
#[track_caller]
pub fn metered(name: &str) -> Module {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let mut config = Config::new();
        config.consume_fuel(true);
        Engine::new(&config).expect("wasmtime can count what a module does")
    });
    compiled(&filter(name), engine)
}

#[track_caller]
fn filter(name: &str) -> PathBuf {
    let path = dist().join(format!("tollgate-{name}.wasm"));
    assert!(
        path.is_file(),
        "{} does not exist: run `make wasm` first",
        path.display()
    );
    path
}

/// Every module in `dist/`.
///
/// # Panics
/// When there is none: `make wasm` makes them.
#[must_use]
#[track_caller]
pub fn modules() -> Vec<Module> {
    let entries = std::fs::read_dir(dist())
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let paths = entries.map(|entry| entry.path());
    let mut wasm: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|ext| ext == "wasm"))
        .collect();
    wasm.sort();
    assert!(
        !wasm.is_empty(),
        "there is no module in {}: run `make wasm` first",
        dist().display()
    );
    wasm.iter().map(|path| compiled(path, engine())).collect()
}

impl Module {
    /// A module from wasm bytes or from WAT text.
    ///
    /// # Panics
    /// When it is neither.
    #[must_use]
    #[track_caller]
    pub fn new(name: &str, source: impl AsRef<[u8]>) -> Self {
        Self::on(engine(), name, source)
    }

    #[track_caller]
    fn on(engine: &Engine, name: &str, source: impl AsRef<[u8]>) -> Self {
        let compiled = wasmtime::Module::new(engine, source);
        let compiled = compiled.unwrap_or_else(|error| panic!("{name} does not compile: {error:?}"));
        Self {
            name: name.to_owned(),
            compiled,
        }
    }

    /// The file's name without its extension, or the name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it asks of its host, as `(module, name)`.
    #[must_use]
    pub fn imports(&self) -> Vec<(String, String)> {
        let imports = self.compiled.imports();
        imports
            .map(|import| (import.module().to_owned(), import.name().to_owned()))
            .collect()
    }

    /// The host calls it imports: all that it can ever make.
    #[must_use]
    pub fn hostcalls(&self) -> Vec<Hostcall> {
        let imports = self.imports();
        let is_imported = |call: &Hostcall| imports.iter().any(|(_, name)| name == call.import());
        Hostcall::ALL.iter().copied().filter(is_imported).collect()
    }

    /// What it offers to its host.
    #[must_use]
    pub fn exports(&self) -> Vec<String> {
        self.compiled
            .exports()
            .map(|export| export.name().to_owned())
            .collect()
    }

    pub(crate) fn compiled(&self) -> &wasmtime::Module {
        &self.compiled
    }
}

pub(crate) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(Engine::default)
}

fn dist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist")
}

#[track_caller]
fn compiled(path: &Path, engine: &Engine) -> Module {
    static COMPILED: Mutex<BTreeMap<(PathBuf, bool), Module>> = Mutex::new(BTreeMap::new());
    // Held while compiling: two tests that want one module should not both compile it.
    let mut known = COMPILED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let compile = || {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        kept(&name, &bytes, engine).unwrap_or_else(|| Module::on(engine, &name, bytes))
    };
    let key = (path.to_owned(), is_metered(engine));
    known.entry(key).or_insert_with(compile).clone()
}

fn is_metered(engine: &Engine) -> bool {
    !Engine::same(engine, self::engine())
}

/// The module from its compiled form in the build directory, which is made where it is missing. Compiling takes
/// seconds, and some test runners give each test a process of its own. `None` where nothing can be kept.
fn kept(name: &str, bytes: &[u8], engine: &Engine) -> Option<Module> {
    let mut hasher = std::hash::DefaultHasher::new();
    bytes.hash(&mut hasher);
    let folder = std::env::current_exe().ok()?.parent()?.join("tollgate-vm");
    let metered = if is_metered(engine) { "-metered" } else { "" };
    let file = folder.join(format!("{name}-{:016x}{metered}.cwasm", hasher.finish()));
    let load = || {
        // SAFETY: only this function writes into this folder, and whole files at once; what another version of
        // wasmtime wrote is refused.
        let compiled = unsafe { wasmtime::Module::deserialize_file(engine, &file) };
        let name = name.to_owned();
        compiled.ok().map(|compiled| Module { name, compiled })
    };
    if let Some(module) = load() {
        return Some(module);
    }
    let compiled = Module::on(engine, name, bytes).compiled.serialize().ok()?;
    std::fs::create_dir_all(&folder).ok()?;
    let new = file.with_extension(std::process::id().to_string());
    std::fs::write(&new, compiled).ok()?;
    std::fs::rename(&new, &file).ok()?;
    load()
}
