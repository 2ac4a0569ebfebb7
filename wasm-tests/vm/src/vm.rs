//! One worker's VM: an instance of a module, and the way into it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::SystemTime;

use wasmtime::{Instance, Store, Val, ValType};

use crate::calls::HttpAnswer;
use crate::exchange::Dir;
use crate::host::{After, Counts, Host, RootContext};
use crate::hostcalls;
use crate::module::Module;
use crate::world::{LogLine, Worker, World};

/// One worker's VM. Cheap to clone: clones are the same VM.
#[derive(Clone)]
pub struct Vm(Rc<VmInner>);

pub(crate) struct VmInner {
    world: World,
    module: Module,
    store: RefCell<Store<Host>>,
    instance: Instance,
    /// Streams in flight, by their context.
    flows: RefCell<HashMap<u32, Weak<RefCell<dyn Acts>>>>,
    trap: RefCell<Option<Trap>>,
    traps_allowed: Cell<bool>,
}

/// A stream in flight: it does what its filters asked for.
pub(crate) trait Acts {
    fn act(&mut self, vm: &Vm, context: u32, action: After);
}

/// The end of a VM: a panic, an `unreachable`, memory out of bounds. Envoy throws such a VM away, with every
/// stream in it.
#[derive(Clone, Debug)]
pub struct Trap {
    /// The callback it happened in, as `proxy_on_tick`.
    pub callback: String,
    /// What the engine says: the kind of trap and the wasm functions that led to it.
    pub message: String,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the module trapped in {}: {}", self.callback, self.message)
    }
}

/// What came of one call into the module.
pub(crate) struct Entered {
    /// `None` where the module does not export the callback, or it returns nothing.
    pub(crate) value: Option<u32>,
    pub(crate) after: Vec<(u32, After)>,
    pub(crate) counts: Counts,
}

impl World {
    /// One worker's VM of `module`. VMs with one `vm_id` share data, as Envoy's workers do.
    ///
    /// # Panics
    /// When the module cannot be instantiated: it imports what proxy-wasm does not have, or its start traps.
    #[must_use]
    #[track_caller]
    pub fn vm(&self, module: &Module, vm_id: &str) -> Vm {
        let number = self.process().workers.len();
        let vm = Vm::start(self.clone(), number, module, vm_id);
        let inner: Rc<dyn Worker> = vm.0.clone();
        self.process_mut().workers.push(Rc::downgrade(&inner));
        vm
    }
}

impl Vm {
    #[track_caller]
    fn start(world: World, number: usize, module: &Module, vm_id: &str) -> Self {
        let mut store = Store::new(
            module.compiled().engine(),
            Host::new(world.clone(), number, vm_id),
        );
        // Refused where the module is not metered.
        let _ = store.set_fuel(u64::MAX);
        let linker = hostcalls::linker(module.compiled().engine()).expect("each host call is defined once");
        let instance = linker.instantiate(&mut store, module.compiled());
        let instance = instance.unwrap_or_else(|error| panic!("{module:?} does not start: {error:?}"));
        let allocate = ["proxy_on_memory_allocate", "malloc"]
            .into_iter()
            .find_map(|name| instance.get_typed_func::<u32, u32>(&mut store, name).ok());
        let memory = instance.get_memory(&mut store, "memory");
        let host = store.data_mut();
        (host.allocate, host.memory) = (allocate, memory);
        let vm = Self(Rc::new(VmInner {
            world,
            module: module.clone(),
            store: RefCell::new(store),
            instance,
            flows: RefCell::default(),
            trap: RefCell::default(),
            traps_allowed: Cell::new(false),
        }));
        let initialize = if vm.exports("_initialize") {
            "_initialize"
        } else {
            "_start"
        };
        vm.run(0, initialize, &[]);
        vm.raise();
        vm
    }

    pub(crate) fn module_name(&self) -> &str {
        self.0.module.name()
    }

    /// The process this VM is part of.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// Sets `vm_config.configuration`, which modules see in `on_vm_start` and after.
    #[must_use]
    pub fn vm_configuration(self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.store.borrow_mut().data_mut().vm_configuration = bytes.as_ref().to_vec();
        self
    }

    /// Hands its configuration to a root context; whether it took it.
    pub(crate) fn load(&self, id: u32, configuration: &[u8]) -> bool {
        self.run(id, "proxy_on_context_create", &[id, 0]);
        let size = self.host(|host| host.vm_configuration.len());
        let started = self.run(id, "proxy_on_vm_start", &[id, length(size)]);
        if started == Some(0) {
            return false;
        }
        self.root(id, |root| root.configuration = Some(configuration.to_vec()));
        let configured = self.run(id, "proxy_on_configure", &[id, length(configuration.len())]);
        self.root(id, |root| root.configuration = None);
        configured != Some(0)
    }

    /// From now on a trap is an outcome to look at, not the test's failure.
    #[must_use]
    pub fn allow_traps(self) -> Self {
        self.0.traps_allowed.set(true);
        self
    }

    /// Ends it as a panic in another stream would: its streams get Envoy's 503, and nothing of it is called again.
    pub fn crash(&self) {
        self.0.traps_allowed.set(true);
        *self.0.trap.borrow_mut() = Some(Trap {
            callback: "a test".to_owned(),
            message: "it was to crash".to_owned(),
        });
    }

    /// How this VM ended, if it did.
    #[must_use]
    pub fn trap(&self) -> Option<Trap> {
        self.0.trap.borrow().clone()
    }

    /// The module's linear memory in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let store = self.0.store.borrow();
        store.data().memory.map_or(0, |memory| memory.data_size(&*store))
    }

    /// How much the module did since the VM began, in wasm's instructions; nothing unless it is
    /// [metered](crate::metered).
    #[must_use]
    pub fn fuel(&self) -> u64 {
        self.0.store.borrow().get_fuel().map_or(0, |left| u64::MAX - left)
    }

    /// How often each host call was made since the VM began.
    #[must_use]
    pub fn hostcalls(&self) -> Counts {
        self.host(|host| host.counts.clone())
    }

    /// Fails the test when the module trapped and that was not expected.
    #[track_caller]
    pub(crate) fn raise(&self) {
        if self.0.traps_allowed.get() {
            return;
        }
        if let Some(trap) = self.trap() {
            let log = self.0.world.log();
            let tail: Vec<String> = log.iter().rev().take(20).rev().map(LogLine::to_string).collect();
            panic!("{trap}\nits log:\n{}", tail.join("\n"));
        }
    }

    /// Looks at or changes the host's state. Not from inside a call into the module.
    pub(crate) fn host<T>(&self, with: impl FnOnce(&mut Host) -> T) -> T {
        let store = self.0.store.try_borrow_mut();
        let mut store = store.expect("a hook uses other VMs than the one whose host call it waits on");
        with(store.data_mut())
    }

    pub(crate) fn root<T>(&self, id: u32, with: impl FnOnce(&mut RootContext) -> T) -> Option<T> {
        self.host(|host| host.root_of(id).map(with))
    }

    fn exports(&self, name: &str) -> bool {
        self.0
            .instance
            .get_func(&mut *self.0.store.borrow_mut(), name)
            .is_some()
    }

    /// Calls `export` for `context`. What the module wants done afterwards is the caller's to do.
    pub(crate) fn enter(&self, context: u32, export: &str, args: &[u32]) -> Result<Entered, Trap> {
        if let Some(trap) = self.trap() {
            return Err(trap);
        }
        let store = self.0.store.try_borrow_mut();
        let mut store = store.expect("a hook uses other VMs than the one whose host call it waits on");
        let before = store.data().counts.clone();
        let value = match self.0.instance.get_func(&mut *store, export) {
            None => Ok(None),
            Some(function) => {
                store.data_mut().enter(context);
                let args: Vec<Val> = args.iter().map(|arg| Val::I32(arg.cast_signed())).collect();
                let returns = function
                    .ty(&*store)
                    .results()
                    .any(|ty| matches!(ty, ValType::I32));
                let mut results = if returns { vec![Val::I32(0)] } else { Vec::new() };
                function
                    .call(&mut *store, &args, &mut results)
                    .map(|()| results.first().and_then(Val::i32).map(i32::cast_unsigned))
            }
        };
        store.data_mut().enter(0);
        let after = std::mem::take(&mut store.data_mut().after);
        match value {
            Ok(value) => Ok(Entered {
                value,
                after,
                counts: more(&before, &store.data().counts),
            }),
            Err(error) => {
                let trap = Trap {
                    callback: export.to_owned(),
                    message: format!("{error:?}"),
                };
                *self.0.trap.borrow_mut() = Some(trap.clone());
                Err(trap)
            }
        }
    }

    /// Calls `export` for a root context, and does what the module wants done.
    pub(crate) fn run(&self, context: u32, export: &str, args: &[u32]) -> Option<u32> {
        let entered = self.enter(context, export, args).ok()?;
        for (context, action) in entered.after {
            self.act(context, action);
        }
        entered.value
    }

    /// Does what `context` asked for. The stream must not be in the middle of a step of its own.
    pub(crate) fn act(&self, context: u32, action: After) {
        if matches!(action, After::Done) {
            return self.delete_root(context);
        }
        let flow = self.0.flows.borrow().get(&context).and_then(Weak::upgrade);
        if let Some(flow) = flow {
            flow.borrow_mut().act(self, context, action);
        }
    }

    pub(crate) fn track(&self, context: u32, flow: Weak<RefCell<dyn Acts>>) {
        self.0.flows.borrow_mut().insert(context, flow);
    }

    pub(crate) fn untrack(&self, context: u32) {
        self.0.flows.borrow_mut().remove(&context);
        self.host(|host| host.contexts.remove(&context));
    }

    /// The root context whose tick is next, and when.
    fn next_tick(&self) -> Option<(SystemTime, u32)> {
        self.host(|host| {
            let next = host.ticks.iter().min_by_key(|(_, tick)| tick.due);
            next.map(|(root, tick)| (tick.due, *root))
        })
    }

    /// Calls `on_tick` of a root context that asked for ticks.
    #[track_caller]
    pub(crate) fn tick(&self, root: u32) {
        let now = self.world().now();
        let ticking = self.host(|host| {
            let tick = host.ticks.get_mut(&root);
            tick.map(|tick| tick.due = now + tick.period)
        });
        assert!(ticking.is_some(), "this plugin has set no tick period");
        self.run(root, "proxy_on_tick", &[root]);
        self.raise();
    }

    #[track_caller]
    pub(crate) fn http_answered(&self, token: u32, answer: Result<HttpAnswer, (u32, String)>) {
        let call = self.host(|host| host.calls.take_http(token));
        let (root, _) = call.expect("a callout is answered once, and not after its plugin is gone");
        let mut args = vec![root, token, 0, 0, 0];
        self.root(root, |context| match answer {
            Ok(answer) => {
                args[2] = length(answer.headers.len());
                args[3] = length(answer.body.len());
                args[4] = length(answer.trailers.as_ref().map_or(0, crate::headers::Headers::len));
                context.http_answer = Some(answer);
            }
            Err(status) => context.status = status,
        });
        self.run(root, "proxy_on_http_call_response", &args);
        self.root(root, |context| {
            context.http_answer = None;
            context.status.1.clear();
        });
        self.raise();
    }

    #[track_caller]
    pub(crate) fn grpc_answered(&self, token: u32, answer: Result<Vec<u8>, (u32, String)>) {
        let call = self.host(|host| host.calls.take_grpc(token));
        let (root, _) = call.expect("a callout is answered once, and not after its plugin is gone");
        match answer {
            Ok(message) => {
                let size = length(message.len());
                self.root(root, |context| context.grpc_answer = Some(message));
                self.run(root, "proxy_on_grpc_receive", &[root, token, size]);
            }
            Err(status) => {
                let code = status.0;
                self.root(root, |context| context.status = status);
                self.run(root, "proxy_on_grpc_close", &[root, token, code]);
            }
        }
        self.root(root, |context| {
            context.grpc_answer = None;
            context.status.1.clear();
        });
        self.raise();
    }

    /// Ends a plugin: at once, or when the module says `proxy_done` if `on_done` asks for time.
    pub(crate) fn retire(&self, root: u32) {
        if self.run(root, "proxy_on_done", &[root]) == Some(0) {
            self.root(root, |context| context.lingering = true);
        } else {
            self.delete_root(root);
        }
    }

    fn delete_root(&self, root: u32) {
        self.run(root, "proxy_on_delete", &[root]);
        self.drop_root(root);
    }

    pub(crate) fn drop_root(&self, root: u32) {
        self.host(|host| {
            host.contexts.remove(&root);
            host.ticks.remove(&root);
            host.calls.cancel(root);
        });
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Gives one direction's body of a stream to the module, or takes it back.
    pub(crate) fn swap_body(&self, context: u32, dir: Dir, body: Option<Vec<u8>>) -> Option<Vec<u8>> {
        self.host(|host| {
            let stream = host.stream_of(context)?;
            std::mem::replace(&mut stream.views[dir as usize].body, body)
        })
    }
}

impl Worker for VmInner {
    fn next_tick(self: Rc<Self>) -> Option<SystemTime> {
        Vm(self).next_tick().map(|(due, _)| due)
    }

    #[track_caller]
    fn tick(self: Rc<Self>) {
        let vm = Vm(self);
        if let Some((_, root)) = vm.next_tick() {
            vm.tick(root);
        }
    }

    #[track_caller]
    fn queue_ready(self: Rc<Self>, root: u32, token: u32) {
        let vm = Vm(self);
        vm.run(root, "proxy_on_queue_ready", &[root, token]);
        vm.raise();
    }
}

pub(crate) fn length(size: usize) -> u32 {
    u32::try_from(size).expect("less than 4 GiB")
}

fn more(before: &Counts, now: &Counts) -> Counts {
    let grown = now
        .iter()
        .map(|(call, count)| (*call, count - before.get(call).copied().unwrap_or(0)));
    grown.filter(|(_, count)| *count > 0).collect()
}
