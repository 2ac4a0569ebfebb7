//! A stream's way through the filters, as Envoy's filter manager goes it: the request from first to last, the
//! response from last to first, held where a filter pauses.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use crate::exchange::{Dir, Exchange, StreamContext, View};
use crate::headers::Headers;
use crate::host::{After, Context, Counts, LocalReply};
use crate::plugin::Plugin;
use crate::vm::{Acts, Vm, length};
use crate::world::World;

/// Envoy's flag for a client that went away (`DC`).
const DOWNSTREAM_GONE: i64 = 0x4000;
/// Envoy's flag for an upstream whose connection broke (`UC`).
const UPSTREAM_GONE: i64 = 0x40;

/// One stream.
pub(crate) struct Flow {
    me: Weak<RefCell<Flow>>,
    world: World,
    pub(crate) exchange: Rc<RefCell<Exchange>>,
    slots: Vec<Slot>,
    /// What came out: the request at the upstream's end, the response at the client's.
    pub(crate) out: [Arrived; 2],
    /// A direction that was cut short: nothing more of it goes to any filter.
    cut: [bool; 2],
    pub(crate) local: Option<LocalReply>,
    pub(crate) reset: bool,
    pub(crate) over: bool,
    pub(crate) counts: Counts,
}

/// A message as it arrived at one end.
#[derive(Clone, Default)]
pub(crate) struct Arrived {
    pub(crate) headers: Option<Headers>,
    pub(crate) chunks: Vec<Vec<u8>>,
    pub(crate) trailers: Option<Headers>,
    pub(crate) ended: bool,
}

/// One filter of the chain.
struct Slot {
    plugin: Plugin,
    /// Its context; `None` until the request reaches it.
    context: Option<u32>,
    lanes: [Lane; 2],
    /// Envoy answered 503 for it, since its VM is gone.
    failed: bool,
}

/// Where one filter stands in one direction.
#[derive(Default)]
struct Lane {
    state: State,
    /// The headers have gone on past it.
    passed: bool,
    /// Held body that the filter's own view does not have.
    buffer: Option<Vec<u8>>,
    /// The held body is in the filter's view, and it will see all of it with the next chunk.
    visible: bool,
    /// The end of the stream has been seen.
    ended: bool,
    trailers: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Going,
    /// Held; what follows is still shown to the filter.
    Held,
    /// Held; what follows waits in front of the filter.
    HeldWhole,
}

impl Flow {
    pub(crate) fn new(world: &World, plugins: &[Plugin], exchange: Exchange) -> Rc<RefCell<Self>> {
        let slot = |plugin: &Plugin| Slot {
            plugin: plugin.clone(),
            context: None,
            lanes: Default::default(),
            failed: false,
        };
        Rc::new_cyclic(|me| {
            RefCell::new(Self {
                me: me.clone(),
                world: world.clone(),
                exchange: Rc::new(RefCell::new(exchange)),
                slots: plugins.iter().map(slot).collect(),
                out: Default::default(),
                cut: [false; 2],
                local: None,
                reset: false,
                over: false,
                counts: Counts::new(),
            })
        })
    }

    /// Whether something holds this direction.
    pub(crate) fn held(&self, dir: Dir) -> bool {
        let held = |slot: &Slot| slot.lanes[dir as usize].state != State::Going;
        !self.over && !self.cut[dir as usize] && self.slots.iter().any(held)
    }

    pub(crate) fn request_ended(&self) -> bool {
        self.slots
            .first()
            .is_none_or(|slot| slot.lanes[Dir::Request as usize].ended)
    }

    pub(crate) fn vms(&self) -> Vec<Vm> {
        self.slots.iter().map(|slot| slot.plugin.vm().clone()).collect()
    }

    /// Headers enter the chain at its `from`th filter (counted in this direction's order).
    pub(crate) fn headers(&mut self, dir: Dir, from: usize, end: bool) {
        for place in from..self.slots.len() {
            if self.stopped(dir) {
                return;
            }
            let slot = self.slot_at(dir, place);
            self.lane(dir, slot).ended |= end;
            let state = self.show_headers(dir, slot, end);
            if self.stopped(dir) {
                return;
            }
            if state != State::Going {
                self.lane(dir, slot).state = state;
                return;
            }
            self.lane(dir, slot).passed = true;
        }
        if self.stopped(dir) {
            return;
        }
        let headers = self.exchange.borrow_mut().message(dir).headers.clone();
        self.out[dir as usize].headers = Some(headers);
        if dir == Dir::Request {
            self.exchange.borrow_mut().attempts = 1;
        }
        self.arrived(dir, end);
    }

    /// Body enters the chain at its `from`th filter.
    pub(crate) fn data(&mut self, dir: Dir, from: usize, mut data: Vec<u8>, end: bool) {
        for place in from..self.slots.len() {
            if self.stopped(dir) {
                return;
            }
            let slot = self.slot_at(dir, place);
            let lane = self.lane(dir, slot);
            lane.ended |= end;
            if lane.state == State::HeldWhole {
                lane.buffer.get_or_insert_default().extend(data);
                return;
            }
            let (answer, body) = self.show_body(dir, slot, data, end);
            if self.stopped(dir) {
                return;
            }
            let lane = self.lane(dir, slot);
            match answer {
                0 if lane.state == State::Going => data = body,
                0 => {
                    lane.visible = false;
                    lane.buffer.get_or_insert_default().extend(body);
                    return self.go_on(dir, place);
                }
                1 => {
                    (lane.state, lane.visible) = (State::Held, true);
                    return self.keep_body(dir, slot, body);
                }
                2 => {
                    lane.state = State::Held;
                    return lane.buffer.get_or_insert_default().extend(body);
                }
                // "No buffer": the filter has taken the bytes.
                _ => return lane.state = State::Held,
            }
        }
        if self.stopped(dir) {
            return;
        }
        self.out[dir as usize].chunks.push(data);
        self.arrived(dir, end);
    }

    /// Trailers enter the chain at its `from`th filter. They end the message.
    pub(crate) fn trailers(&mut self, dir: Dir, from: usize) {
        for place in from..self.slots.len() {
            if self.stopped(dir) {
                return;
            }
            let slot = self.slot_at(dir, place);
            let lane = self.lane(dir, slot);
            lane.ended = true;
            if lane.state == State::HeldWhole {
                lane.trailers = true;
                return;
            }
            let goes = self.show_trailers(dir, slot);
            if self.stopped(dir) {
                return;
            }
            let lane = self.lane(dir, slot);
            if !goes {
                (lane.state, lane.trailers) = (State::Held, true);
                return;
            }
            if lane.state == State::Held {
                lane.trailers = true;
                return self.go_on(dir, place);
            }
        }
        if self.stopped(dir) {
            return;
        }
        let trailers = self.exchange.borrow_mut().message(dir).trailers.clone();
        self.out[dir as usize].trailers = trailers;
        self.arrived(dir, true);
    }

    /// A held filter lets go: what it held goes to the next one, what waited in front of it is shown to it.
    fn go_on(&mut self, dir: Dir, place: usize) {
        let slot = self.slot_at(dir, place);
        let vm_body = self.take_body(dir, slot);
        let lane = self.lane(dir, slot);
        let unseen = lane.state == State::HeldWhole;
        lane.state = State::Going;
        let body = match (std::mem::take(&mut lane.visible), lane.buffer.take()) {
            (true, _) => vm_body,
            (false, buffer) => buffer,
        };
        let (ended, trailers, passed) = (lane.ended, lane.trailers, lane.passed);
        lane.passed = true;
        let next = if unseen { place } else { place + 1 };
        if !passed {
            self.headers(dir, place + 1, ended && body.is_none() && !trailers);
        }
        if let Some(body) = body {
            self.data(dir, next, body, ended && !trailers);
        }
        if trailers {
            self.trailers(dir, next);
        }
    }

    /// Envoy's own or a filter's answer. Before there is a response it goes through the filters; while one is
    /// on its way to the client it takes its place; after that it can only break the stream.
    pub(crate) fn reply(&mut self, reply: LocalReply) {
        self.cut[Dir::Request as usize] = true;
        let started = !self.exchange.borrow().response.headers.is_empty();
        if started && self.out[Dir::Response as usize].headers.is_some() {
            return self.end_by_reset();
        }
        let (headers, body) = (reply_headers(&reply), reply.body.clone());
        let mut exchange = self.exchange.borrow_mut();
        exchange.details = Some(reply.details.clone());
        exchange.response.headers = headers.clone();
        exchange.response.trailers = None;
        drop(exchange);
        self.local = Some(reply);
        if started {
            self.cut[Dir::Response as usize] = true;
            let chunks = if body.is_empty() { Vec::new() } else { vec![body] };
            self.out[Dir::Response as usize] = Arrived {
                headers: Some(headers),
                chunks,
                trailers: None,
                ended: true,
            };
            return self.finish();
        }
        self.headers(Dir::Response, 0, body.is_empty());
        if !body.is_empty() {
            self.data(Dir::Response, 0, body, true);
        }
    }

    /// The client went away.
    pub(crate) fn client_gone(&mut self) {
        if !self.over {
            self.exchange.borrow_mut().flags |= DOWNSTREAM_GONE;
            self.end_by_reset();
        }
    }

    /// The upstream's connection broke, and Envoy answers with `reply` where it still can.
    pub(crate) fn upstream_gone(&mut self, reply: LocalReply) {
        if !self.over {
            self.exchange.borrow_mut().flags |= UPSTREAM_GONE;
            self.reply(reply);
        }
    }

    fn end_by_reset(&mut self) {
        self.reset = true;
        self.cut = [true; 2];
        self.finish();
    }

    /// The stream is over: each filter logs, then each is done and deleted.
    fn finish(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.exchange.borrow_mut().ended = Some(self.world.now());
        for slot in 0..self.slots.len() {
            // A filter the request never reached is logged all the same.
            let context = self.create(slot);
            self.logging(slot, true);
            self.enter(slot, "proxy_on_log", &[context]);
            self.logging(slot, false);
        }
        for slot in 0..self.slots.len() {
            let context = self.create(slot);
            self.enter(slot, "proxy_on_done", &[context]);
            self.enter(slot, "proxy_on_delete", &[context]);
            self.slots[slot].plugin.vm().untrack(context);
        }
    }

    fn arrived(&mut self, dir: Dir, end: bool) {
        self.out[dir as usize].ended |= end;
        if end && dir == Dir::Response {
            self.finish();
        }
    }

    fn show_headers(&mut self, dir: Dir, slot: usize, end: bool) -> State {
        let Some(context) = self.reached(dir, slot) else {
            return State::Going;
        };
        let count = length(self.exchange.borrow_mut().message(dir).headers.len());
        self.view(dir, slot, |view| view.headers = true);
        let callback = match dir {
            Dir::Request => "proxy_on_request_headers",
            Dir::Response => "proxy_on_response_headers",
        };
        let answer = self
            .enter(slot, callback, &[context, count, u32::from(end)])
            .unwrap_or(0);
        if answer == 0 {
            self.view(dir, slot, |view| view.headers = false);
        }
        match answer {
            0 => State::Going,
            1 if self.slots[slot].plugin.stops_headers_only() => State::Held,
            _ => State::HeldWhole,
        }
    }

    /// The filter's answer, and the body as it left it.
    fn show_body(&mut self, dir: Dir, slot: usize, data: Vec<u8>, end: bool) -> (u32, Vec<u8>) {
        let Some(context) = self.reached(dir, slot) else {
            return (0, data);
        };
        let mut body = match self.lane(dir, slot).visible {
            true => self.take_body(dir, slot).unwrap_or_default(),
            false => Vec::new(),
        };
        body.extend(data);
        let size = length(body.len());
        self.keep_body(dir, slot, body);
        let callback = match dir {
            Dir::Request => "proxy_on_request_body",
            Dir::Response => "proxy_on_response_body",
        };
        let answer = self
            .enter(slot, callback, &[context, size, u32::from(end)])
            .unwrap_or(0);
        (answer, self.take_body(dir, slot).unwrap_or_default())
    }

    fn show_trailers(&mut self, dir: Dir, slot: usize) -> bool {
        let Some(context) = self.reached(dir, slot) else {
            return true;
        };
        let trailers = self
            .exchange
            .borrow_mut()
            .message(dir)
            .trailers
            .clone()
            .unwrap_or_default();
        self.view(dir, slot, |view| view.trailers = true);
        let callback = match dir {
            Dir::Request => "proxy_on_request_trailers",
            Dir::Response => "proxy_on_response_trailers",
        };
        let goes = self
            .enter(slot, callback, &[context, length(trailers.len())])
            .unwrap_or(0)
            == 0;
        if goes {
            self.view(dir, slot, |view| view.trailers = false);
        }
        goes
    }

    /// The context to show something to. A response is not shown to a filter its request did not reach, nor
    /// to one that Envoy has answered for.
    fn reached(&mut self, dir: Dir, slot: usize) -> Option<u32> {
        match dir {
            Dir::Request => Some(self.create(slot)),
            Dir::Response => self.slots[slot].context.filter(|_| !self.slots[slot].failed),
        }
    }

    fn create(&mut self, slot: usize) -> u32 {
        if let Some(context) = self.slots[slot].context {
            return context;
        }
        let (vm, root) = (
            self.slots[slot].plugin.vm().clone(),
            self.slots[slot].plugin.root(),
        );
        let exchange = self.exchange.clone();
        let stream = StreamContext {
            root,
            exchange,
            views: Default::default(),
            logging: false,
        };
        let context = vm.host(|host| host.add(Context::Stream(stream)));
        vm.track(context, self.me.clone());
        self.slots[slot].context = Some(context);
        self.enter(slot, "proxy_on_context_create", &[context, root]);
        context
    }

    /// Calls into a filter, then does what it asked for. `None` also where its VM is gone: Envoy then answers
    /// 503 for it.
    fn enter(&mut self, slot: usize, export: &str, args: &[u32]) -> Option<u32> {
        let vm = self.slots[slot].plugin.vm().clone();
        let context = self.slots[slot].context?;
        let Ok(entered) = vm.enter(context, export, args) else {
            self.fail(slot);
            return None;
        };
        for (call, count) in entered.counts {
            *self.counts.entry(call).or_default() += count;
        }
        for (context, action) in entered.after {
            self.act(&vm, context, action);
        }
        entered.value
    }

    fn fail(&mut self, slot: usize) {
        if self.over || std::mem::replace(&mut self.slots[slot].failed, true) {
            return;
        }
        self.reply(LocalReply {
            status: 503,
            headers: Vec::new(),
            body: Vec::new(),
            details: "wasm_fail_stream".to_owned(),
            grpc_status: Some(14),
        });
    }

    fn view(&mut self, dir: Dir, slot: usize, with: impl FnOnce(&mut View)) {
        let Some(context) = self.slots[slot].context else {
            return;
        };
        self.slots[slot].plugin.vm().host(|host| {
            if let Some(stream) = host.stream_of(context) {
                with(&mut stream.views[dir as usize]);
            }
        });
    }

    fn logging(&mut self, slot: usize, logging: bool) {
        let Some(context) = self.slots[slot].context else {
            return;
        };
        self.slots[slot].plugin.vm().host(|host| {
            if let Some(stream) = host.stream_of(context) {
                stream.logging = logging;
            }
        });
    }

    fn keep_body(&mut self, dir: Dir, slot: usize, body: Vec<u8>) {
        let slot = &self.slots[slot];
        if let Some(context) = slot.context {
            slot.plugin.vm().swap_body(context, dir, Some(body));
        }
    }

    fn take_body(&mut self, dir: Dir, slot: usize) -> Option<Vec<u8>> {
        let slot = &self.slots[slot];
        slot.plugin.vm().swap_body(slot.context?, dir, None)
    }

    fn stopped(&self, dir: Dir) -> bool {
        self.over || self.cut[dir as usize]
    }

    fn lane(&mut self, dir: Dir, slot: usize) -> &mut Lane {
        &mut self.slots[slot].lanes[dir as usize]
    }

    /// The slot that is `place`th in this direction; it is its own inverse.
    fn slot_at(&self, dir: Dir, place: usize) -> usize {
        match dir {
            Dir::Request => place,
            Dir::Response => self.slots.len() - 1 - place,
        }
    }

    fn place_of(&self, dir: Dir, slot: usize) -> usize {
        self.slot_at(dir, slot)
    }
}

impl Acts for Flow {
    /// Does what a filter asked for in a host call.
    fn act(&mut self, vm: &Vm, context: u32, action: After) {
        let Some(slot) = self.slots.iter().position(|slot| slot.is(vm, context)) else {
            // The module spoke for another stream of its VM.
            return vm.act(context, action);
        };
        if self.over {
            return;
        }
        match action {
            // Going on with what is not held does nothing. In the callback that pauses it comes too early:
            // the pause is what stays.
            After::Continue(dir) if self.lane(dir, slot).state == State::Going => {}
            After::Continue(dir) => {
                let place = self.place_of(dir, slot);
                self.go_on(dir, place);
            }
            After::Close => self.end_by_reset(),
            After::Reply(reply) => self.reply(reply),
            After::Done => {}
        }
    }
}

impl Slot {
    fn is(&self, vm: &Vm, context: u32) -> bool {
        self.context == Some(context) && self.plugin.vm().same(vm)
    }
}

/// Envoy adds the length, and a type where the filter gave none.
fn reply_headers(reply: &LocalReply) -> Headers {
    let mut headers: Headers = [(":status", reply.status.to_string())].into_iter().collect();
    for (name, value) in &reply.headers {
        headers.add(name, value);
    }
    if !reply.body.is_empty() {
        headers.set("content-length", reply.body.len().to_string().as_bytes());
        if headers.get("content-type").is_none() {
            headers.add("content-type", b"text/plain");
        }
    }
    headers
}
