//! What one VM's host knows: its contexts, which of them is calling, and what is to be done after the call.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use wasmtime::{Memory, TypedFunc};

use crate::calls::{HttpAnswer, Pending};
use crate::exchange::{Dir, StreamContext};
use crate::faults::Befalls;
use crate::hostcall::Hostcall;
use crate::metrics::Ids;
use crate::status::Halt;
use crate::world::World;

/// How often each host call was made.
pub type Counts = BTreeMap<Hostcall, u64>;

/// The state behind one VM's host calls.
pub(crate) struct Host {
    pub(crate) world: World,
    pub(crate) number: usize,
    pub(crate) vm_id: String,
    pub(crate) vm_configuration: Vec<u8>,
    pub(crate) contexts: BTreeMap<u32, Context>,
    last_context: u32,
    current: u32,
    effective: u32,
    /// What Envoy does once the module's call has returned, with the context that asked for it.
    pub(crate) after: Vec<(u32, After)>,
    pub(crate) counts: Counts,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    pub(crate) memory: Option<Memory>,
    pub(crate) calls: Pending,
    pub(crate) metrics: Ids,
    pub(crate) ticks: BTreeMap<u32, Tick>,
}

/// A root context's timer.
#[derive(Clone, Copy)]
pub(crate) struct Tick {
    pub(crate) period: Duration,
    pub(crate) due: SystemTime,
}

/// One context of the module.
pub(crate) enum Context {
    Root(RootContext),
    Stream(StreamContext),
}

/// A plugin: one filter's or service's configuration.
#[derive(Default)]
pub(crate) struct RootContext {
    pub(crate) root_id: String,
    pub(crate) name: String,
    /// There only during `on_configure`.
    pub(crate) configuration: Option<Vec<u8>>,
    /// There only during a callout's callback.
    pub(crate) http_answer: Option<HttpAnswer>,
    pub(crate) grpc_answer: Option<Vec<u8>>,
    pub(crate) status: (u32, String),
    /// `on_done` said "not yet"; `proxy_done` ends it.
    pub(crate) lingering: bool,
}

/// Something Envoy does when the call into the module is over.
#[derive(Debug)]
pub(crate) enum After {
    Continue(Dir),
    Close,
    Reply(LocalReply),
    Done,
}

/// An answer a filter made by itself.
#[derive(Clone, Debug)]
pub(crate) struct LocalReply {
    pub(crate) status: u32,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) details: String,
    pub(crate) grpc_status: Option<u32>,
}

impl Host {
    pub(crate) fn new(world: World, number: usize, vm_id: &str) -> Self {
        Self {
            world,
            number,
            vm_id: vm_id.to_owned(),
            vm_configuration: Vec::new(),
            contexts: BTreeMap::new(),
            last_context: 0,
            current: 0,
            effective: 0,
            after: Vec::new(),
            counts: Counts::new(),
            allocate: None,
            memory: None,
            calls: Pending::default(),
            metrics: Ids::default(),
            ticks: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, context: Context) -> u32 {
        self.last_context += 1;
        self.contexts.insert(self.last_context, context);
        self.last_context
    }

    /// The call into the module that begins now is for `context`.
    pub(crate) fn enter(&mut self, context: u32) {
        (self.current, self.effective) = (context, 0);
    }

    /// The context host calls are about: the one set as effective while it exists, else the one called.
    pub(crate) fn context(&self) -> u32 {
        if self.contexts.contains_key(&self.effective) {
            self.effective
        } else {
            self.current
        }
    }

    pub(crate) fn set_effective(&mut self, context: u32) -> bool {
        let exists = self.contexts.contains_key(&context);
        if exists {
            self.effective = context;
        }
        exists
    }

    pub(crate) fn stream(&self) -> Option<&StreamContext> {
        match self.contexts.get(&self.context()) {
            Some(Context::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn stream_of(&mut self, context: u32) -> Option<&mut StreamContext> {
        match self.contexts.get_mut(&context) {
            Some(Context::Stream(stream)) => Some(stream),
            _ => None,
        }
    }

    pub(crate) fn root_of(&mut self, context: u32) -> Option<&mut RootContext> {
        match self.contexts.get_mut(&context) {
            Some(Context::Root(root)) => Some(root),
            _ => None,
        }
    }

    /// The root of the context that host calls are about. 0 while the module is being started.
    pub(crate) fn root_id(&self) -> u32 {
        self.stream().map_or(self.context(), |stream| stream.root)
    }

    pub(crate) fn root(&self) -> Option<&RootContext> {
        match self.contexts.get(&self.root_id()) {
            Some(Context::Root(root)) => Some(root),
            _ => None,
        }
    }

    pub(crate) fn later(&mut self, action: After) {
        self.after.push((self.context(), action));
    }

    /// Counts a host call, and lets a fault or a hook have its turn.
    pub(crate) fn begin(&mut self, call: Hostcall, subject: &str) -> Result<(), Halt> {
        *self.counts.entry(call).or_default() += 1;
        let befalls = self.world.process_mut().faults.befalls(call, subject);
        match befalls {
            Befalls::Nothing => {}
            Befalls::Answer(status) => return Err(Halt::Status(status)),
            Befalls::Run(hook) => hook(),
        }
        Ok(())
    }
}
