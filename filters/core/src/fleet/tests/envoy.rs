//! One Envoy: its store, its workers, and its member, or several by mistake.

use std::rc::Rc;

use super::super::{Exchanged, Membership, Outside};
use super::network::Request;
use crate::bound::Overrides;
use crate::endpoint::Endpoint;
use crate::limits::{Amounts, Ask, Reservation, Subject, Table};
use crate::state::{Clock, Memory, Store, StoreError};
use crate::workers::Workers;

pub(super) struct Envoy {
    host: Host,
    table: Rc<Table>,
    workers: Vec<Workers>,
    members: Vec<Membership<u64>>,
    post: Post,
    /// Its clock is ahead by so much.
    offset: u64,
    turn: usize,
}

#[derive(Default)]
struct Host {
    memory: Memory,
    now: u64,
}

/// Messages that were sent.
#[derive(Default)]
struct Post {
    sent: Vec<(u64, Vec<u8>)>,
    calls: u64,
    stops: u64,
}

impl Envoy {
    pub(super) fn new(table: &Rc<Table>, number: u64, offset: u64) -> Self {
        Self {
            host: Host::default(),
            table: Rc::clone(table),
            workers: [1, 2, 3].map(Workers::who_sees_all).into(),
            members: vec![Membership::new(number << 32)],
            post: Post::default(),
            offset,
            turn: 0,
        }
    }

    fn ask<T>(&mut self, request: &Request, then: impl FnOnce(&Table, &mut Host, &Ask<'_>) -> T) -> T {
        let subject = Subject {
            key: "k",
            org: "acme",
            project: None,
            tier: "pro",
            model: "m",
            endpoint: Endpoint::Chat,
            address: None,
            overrides: &Overrides::NONE,
        };
        self.turn = (self.turn + 1) % self.workers.len();
        let amounts = amounts(request.reserved);
        let ask = Ask {
            subject: &subject,
            now: self.host.now,
            amounts,
            certain: amounts,
            workers: &self.workers[self.turn],
        };
        then(&self.table, &mut self.host, &ask)
    }

    /// A request at one of its workers: what it holds if it passes.
    pub(super) fn admit(&mut self, request: &Request, time: u64) -> Option<Reservation> {
        self.host.now = self.offset + time;
        self.ask(request, |table, host, ask| table.reserve(host, ask))
            .map(|admitted| admitted.reservation)
            .ok()
    }

    pub(super) fn settle(&mut self, reservation: Reservation, used: u64, time: u64) {
        self.host.now = self.offset + time;
        let now = self.host.now;
        reservation.settle(&mut self.host, now, &amounts(used)).unwrap();
    }

    /// Messages of its member that it sends now.
    pub(super) fn tick(&mut self, time: u64) -> Vec<(u64, Vec<u8>)> {
        self.host.now = self.offset + time;
        for member in &mut self.members {
            member.tick(&mut self.host, &mut self.post);
        }
        core::mem::take(&mut self.post.sent)
    }

    pub(super) fn answered(&mut self, call: u64, answer: Option<Vec<u8>>, time: u64) {
        self.host.now = self.offset + time;
        let status = if answer.is_some() { "200" } else { "204" };
        for member in &mut self.members {
            let body = || Ok(answer.clone().unwrap_or_default());
            member.answered(call, Some(status), body, &mut self.host, &mut self.post);
        }
    }

    /// One more member, as each thread has one where the configuration does not say that there is one for all.
    pub(super) fn add_member(&mut self, number: u64) {
        self.members.push(Membership::new(number << 32));
    }

    /// How often members stopped for others.
    pub(super) const fn stops(&self) -> u64 {
        self.post.stops
    }
}

fn amounts(tokens: u64) -> Amounts {
    Amounts {
        input: tokens,
        ..Amounts::default()
    }
}

impl Store for Host {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        self.memory.get(key)
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        self.memory.swap(key, value, version)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.memory.put(key, value)
    }
}

impl Clock for Host {
    fn now(&self) -> Option<u64> {
        Some(self.now)
    }
}

impl Outside<Host> for Post {
    type Call = u64;

    fn send(&mut self, _host: &mut Host, message: &[u8], _timeout_millis: u32) -> Result<u64, String> {
        self.calls += 1;
        self.sent.push((self.calls, message.to_vec()));
        Ok(self.calls)
    }

    fn count(&mut self, _exchanged: Exchanged) {}

    fn stop(&mut self) {
        self.stops += 1;
    }

    fn stand(&mut self, _lease_millis: u64, _limits: u64) {}

    fn complain(&mut self, complaint: &str) {
        assert!(complaint.contains("singleton"), "{complaint}");
    }
}
