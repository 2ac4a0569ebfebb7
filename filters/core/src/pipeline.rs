//! A request through every decision, in the order in which the gateway's filters take them: who is calling, where it goes,
//! whether it may. Tools and tests run it over a host of their own; with a [`Trace`] that notes, it
//! says why.

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use crate::auth::{self, Authenticator};
use crate::exchange::Host;
use crate::headers::Headers;
use crate::identity::Identity;
use crate::limiter::{self, Limiter};
use crate::limits::{Holds, Refusal};
use crate::reply::{Reader, Reply};
use crate::request::Request;
use crate::route::{self, Begun};
use crate::spent::Spent;
use crate::state::{Clock, Store, StoreError};
use crate::trace::{Note, Room, Trace};
use crate::uploads::Uploads;
use crate::workers::Workers;

/// What one worker decides by.
pub struct Pipeline {
    callers: Authenticator,
    route: Arc<route::Config>,
    uploads: Uploads,
    limiter: Limiter,
    holds: Holds,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision {
    /// It is answered with this, or refused.
    Answered(Reply),
    /// It goes to a model.
    Passes(Box<Accepted>),
}

/// A request that passes.
#[must_use = "what it holds must be given back"]
#[derive(Debug)]
pub struct Accepted {
    /// Whose it is.
    pub who: Rc<Identity>,
    /// Where it goes.
    pub request: route::InFlight,
    /// What it may use.
    pub admitted: Box<limiter::InFlight>,
}

impl Pipeline {
    /// One worker of these configurations. `Err` where it can't be told from others.
    pub fn start(
        callers: Arc<auth::Config>,
        route: Arc<route::Config>,
        limits: Arc<limiter::Config>,
        host: &mut (impl Store + Clock),
    ) -> Result<Self, StoreError> {
        Ok(Self {
            callers: Authenticator::new(callers, host),
            uploads: Uploads::join(host, route.uploads)?,
            route,
            limiter: Limiter::new(limits, Workers::join(host, None)?),
            holds: Holds::new(),
        })
    }

    /// Decides about a request with these headers and this body, all of which is there. `draw` is a random number.
    pub fn decide(
        &mut self,
        host: &mut impl Host,
        headers: &impl Headers,
        body: &[u8],
        draw: u64,
    ) -> Decision {
        let request = Request::read(headers.iter());
        let reader = Reader::of(headers.get(b":path"), request.request_id);
        self.judge(host, headers, &request, body, draw, &reader)
            .unwrap_or_else(Decision::Answered)
    }

    fn judge(
        &mut self,
        host: &mut impl Host,
        headers: &impl Headers,
        request: &Request<'_>,
        body: &[u8],
        draw: u64,
        reader: &Reader,
    ) -> Result<Decision, Reply> {
        let caller = self.callers.judge(host, request).map_err(|refusal| {
            refused(host, Room::Auth, refusal.reason().name(), None);
            refusal.reply(reader)
        })?;
        let who = caller.credential.identity();
        let who = who.ok_or_else(|| misrouted(host, &route::Refusal::Misconfigured, reader))?;
        let head = match self
            .route
            .begin(host, headers, &who, body.is_empty())
            .map_err(|refusal| misrouted(host, &refusal, reader))?
        {
            Begun::Answered(document) => return Ok(Decision::Answered(Reply::document("models", document))),
            Begun::Held(head) => head,
        };
        let max_body = self.uploads.max_body();
        if body.len() as u64 > max_body {
            return Err(misrouted(host, &route::Refusal::TooLarge(Some(max_body)), reader));
        }
        let decoded = match head.coding {
            Some(coding) => Some(
                coding
                    .decode(body, max_body)
                    .map_err(|error| misrouted(host, &error.into(), reader))?,
            ),
            None => None,
        };
        let body = decoded.as_deref().unwrap_or(body);
        let now = host.now();
        let now = now.ok_or_else(|| misrouted(host, &route::Refusal::Misconfigured, reader))?;
        let plan = self
            .route
            .plan(host, &head, &who, body, draw)
            .map_err(|refusal| misrouted(host, &refusal, reader))?;
        let by_address = self.limiter.config().by_address;
        let routed = plan.routed(now);
        let asked = limiter::Request {
            who: Rc::clone(&who),
            routed: &routed,
            address: by_address.then(|| host.client()).flatten(),
            now,
        };
        let admitted = self.limiter.admit(host, asked);
        let mut request = route::InFlight::new(plan.model, (plan.order, plan.route), Rc::clone(&who), now);
        match admitted {
            Ok(admitted) => Ok(Decision::Passes(Box::new(Accepted {
                who,
                request,
                admitted,
            }))),
            Err(rejection) => {
                request.withdraw(host);
                let limit = match rejection.refusal() {
                    Refusal::Limit(row) => Some(row),
                    Refusal::Capacity | Refusal::Unavailable | Refusal::Budget => None,
                };
                refused(host, Room::Limits, rejection.code(), limit);
                Err(rejection.reply(reader.request_id.clone()))
            }
        }
    }

    /// Takes back a request that passes and is not sent: all that it held is given back.
    pub fn withdraw(&mut self, host: &mut impl Host, accepted: Accepted) {
        let Accepted {
            mut request,
            admitted,
            ..
        } = accepted;
        request.withdraw(host);
        let _ = self
            .limiter
            .finish(host, &mut self.holds, admitted, Spent::default());
    }
}

fn misrouted(host: &mut impl Trace, refusal: &route::Refusal, reader: &Reader) -> Reply {
    refused(host, Room::Route, refusal.reason().name(), None);
    refusal.reply(reader)
}

fn refused(host: &mut impl Trace, room: Room, reason: &'static str, limit: Option<usize>) {
    host.note(|| Note::Refused { room, reason, limit });
}
