//! A request from the choice of its target to its end: what its target's breakers learn of it, and what its customer.

use core::time::Duration;
use std::borrow::Cow;
use std::rc::Rc;

use crate::catalogue::{Model, Route};
use crate::config::http_date;
use crate::exchange::{Exchange, Host};
use crate::fault::Fault;
use crate::identity::Identity;
use crate::targets::{Ending, Order, Policy, Wanted, tag};

/// What the filter that reads answers knows of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Unknown,
    /// It came to its end.
    Whole,
    /// It began with success, and then said that something went wrong.
    Errored,
}

/// A request that has a target.
#[derive(Debug)]
pub struct InFlight {
    order: Order,
    route: Route,
    /// The model that serves, by its own name.
    pub model: String,
    who: Rc<Identity>,
    /// For the answer's headers: seconds since 1970.
    deprecated_at: Option<i64>,
    sunset_at: Option<i64>,
    /// When all of it was there; nanoseconds since 1970.
    since: u64,
    /// How often Envoy's router had tried when that was first asked.
    tried: Option<u64>,
    /// Whether it went out as a probe of which nothing was heard yet.
    probe: bool,
    /// For how long its target is to be left alone, should this not be for its organization's sake alone.
    busy: Option<Duration>,
    /// Whether a good answer has begun, whose ending is to be noted.
    begun: bool,
}

impl InFlight {
    /// A request that goes to the first of these targets.
    pub fn new(model: &Model, (order, route): (Order, Route), who: Rc<Identity>, since: u64) -> Self {
        Self {
            probe: order.is_probe(),
            order,
            route,
            model: model.name.clone(),
            who,
            deprecated_at: model.deprecated_at,
            sunset_at: model.sunset_at,
            since,
            tried: None,
            busy: None,
            begun: false,
        }
    }

    /// Whose it is.
    pub fn who(&self) -> &Identity {
        &self.who
    }

    /// Where its attempts go.
    pub const fn order(&self) -> &Order {
        &self.order
    }

    /// The target of its last attempt.
    pub fn target(&mut self, host: &impl Exchange) -> &str {
        let attempts = self.attempts(host);
        self.order.at(attempts)
    }

    /// It was not sent after all: a probe is given back.
    pub fn withdraw(&mut self, host: &mut impl Host) {
        if core::mem::take(&mut self.probe) {
            self.order.release(host, self.wanted());
        }
    }

    /// The headers that tell the customer who served, and why; `None` where there is nothing to tell.
    pub fn introduction(&mut self, host: &impl Exchange) -> [(&'static str, Option<Cow<'_, str>>); 4] {
        let attempts = self.attempts(host);
        let route = match self.route {
            Route::Fallback => Route::Fallback,
            _ if self.order.last(attempts) > 0 => Route::BreakerOpen,
            route => route,
        };
        // RFC 9745: a date as a structured field.
        let deprecated = self.deprecated_at.map(|since| format!("@{since}").into());
        [
            ("x-tollgate-model", Some(Cow::Borrowed(&self.model))),
            ("x-tollgate-route", Some(Cow::Borrowed(route.name()))),
            ("deprecation", deprecated),
            ("sunset", self.sunset_at.and_then(http_date).map(Cow::Owned)),
        ]
    }

    /// The head of its answer is there, and says this of its target.
    pub fn answered(&mut self, host: &mut impl Host, policy: &Policy, ending: Ending) {
        if let Ending::Busy(pause, _) = ending {
            self.busy = Some(pause);
        }
        // Where there is one target that never failed of late, its answer tells nothing new.
        if ending == Ending::Success && self.order.is_plain() {
            self.begun = true;
        } else if self.is_asked(host) {
            let attempts = self.attempts(host);
            self.order
                .answered(host, policy, self.wanted(), attempts, ending, self.since);
            self.probe = false;
            self.begun = ending == Ending::Success;
        }
    }

    /// Its answer tells of a fault. What its customer wrote may have made the target say so.
    pub fn faulty(&mut self, host: &mut impl Host, policy: &Policy, fault: Fault) {
        // A quota that is spent is spent for everybody.
        let spent = self.busy.take().filter(|_| fault == Fault::Quota);
        if let Some(pause) = spent {
            self.note(host, policy, Ending::BackOff(pause));
        } else if core::mem::take(&mut self.begun) && fault.is_the_targets() {
            self.note(host, policy, Ending::Suspect(tag(&self.who.org)));
        }
    }

    /// Its answer does not begin, or says nothing for too long.
    pub fn fell_silent(&mut self, host: &mut impl Host, policy: &Policy) {
        self.begun = false;
        self.note(host, policy, Ending::Suspect(tag(&self.who.org)));
    }

    /// It is over. An answer that broke off is a failure too, as is one that said that something went wrong, and one that
    /// is whole a success.
    pub fn ended<H: Host>(mut self, host: &mut H, policy: &Policy, heard: impl FnOnce(&H) -> Heard) {
        if self.probe && !self.is_asked(host) {
            self.withdraw(host);
        }
        if !self.begun {
            return;
        }
        let heard = heard(host);
        if heard == Heard::Whole && self.order.is_plain() {
            return;
        }
        if let Some(ending) = Ending::of_end(heard == Heard::Errored, host.flags(), &self.who.org) {
            self.note(host, policy, ending);
        }
    }

    /// Notes how the answer of the last attempt ended.
    fn note(&mut self, host: &mut impl Host, policy: &Policy, ending: Ending) {
        let attempts = self.attempts(host);
        self.order.ended(host, policy, self.wanted(), attempts, ending);
    }

    /// The number of the last attempt; the first where there was none. With one target there is nothing to tell apart.
    fn attempts(&mut self, host: &impl Exchange) -> usize {
        if self.order.is_single() {
            return 1;
        }
        usize::try_from(self.tried(host)).unwrap_or(1).max(1)
    }

    /// Whether a target was asked. Where nobody was (the limits, or a body that is too large), or one of Envoy's circuit
    /// breakers is full, nothing is said of the target.
    fn is_asked(&mut self, host: &impl Exchange) -> bool {
        let flags = host.flags();
        !flags.overflow() && (self.tried(host) > 0 || flags.no_cluster())
    }

    /// Once there is an answer, or none any more, the router tries no more.
    fn tried(&mut self, host: &impl Exchange) -> u64 {
        *self.tried.get_or_insert_with(|| host.attempts())
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            model: &self.model,
            org: &self.who.org,
        }
    }
}
