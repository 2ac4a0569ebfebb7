//! Where a request goes: which model serves it, at which targets, and what Envoy and the filters behind are told.

use std::borrow::Cow;

use super::{Config, Head, Refusal, Routed};
use crate::body::{Body, Edit, Unmetered, ask_usage, read_json, read_multipart, rename};
use crate::catalogue::{Model, Route};
use crate::config::Span;
use crate::endpoint::Endpoint;
use crate::exchange::Host;
use crate::fault::ANOTHER_TARGET;
use crate::identity::Identity;
use crate::targets::Order;
use crate::trace::{Found, Note};

/// The longest that a client is told to wait for a target; milliseconds.
const MAX_WAIT: u64 = 3_600_000;

/// A request that may go to a target. Nothing is written yet, but that a probe is claimed.
#[derive(Debug)]
pub struct Plan<'c, 'b> {
    /// The model that serves.
    pub model: &'c Model,
    /// Where its attempts go, the first of them to a target that may be asked.
    pub order: Order,
    /// Why.
    pub route: Route,
    /// What its body says.
    pub body: Body<'b>,
    /// The model's own name, where the body says an alias or the model that it stands in for.
    pub rename: Option<Edit<'static>>,
    endpoint: Endpoint,
    /// All of its body.
    whole: &'b [u8],
}

/// A header for Envoy's router, the adapter and the filters behind: `None` where it must not be there.
pub type Header<'p> = (&'static str, Option<Cow<'p, str>>);

impl Config {
    /// Decides where a request goes, by its body, decoded. `draw` is a random number.
    pub fn plan<'c, 'b>(
        &'c self,
        host: &mut impl Host,
        head: &Head,
        who: &Identity,
        whole: &'b [u8],
        draw: u64,
    ) -> Result<Plan<'c, 'b>, Refusal> {
        let endpoint = head.endpoint;
        let body = match &head.boundary {
            Some(boundary) => read_multipart(endpoint, whole, boundary)?,
            None => read_json(endpoint, whole)?,
        };
        let name = body.model.as_deref().filter(|name| !name.is_empty());
        let name = name.ok_or(Refusal::MissingModel)?;
        host.note(|| Note::Model {
            asked: name.to_owned(),
            found: self.catalogue.get(name).map(|model| Found {
                name: model.name.clone(),
                granted: model.granted(who),
            }),
        });
        let model = self.catalogue.find(name, endpoint, who)?;
        model.accepts(endpoint, &body)?;
        let (model, order, route) = self.choose(host, model, (who, endpoint), &body, draw)?;
        Ok(Plan {
            rename: rename(&body, &model.name, head.boundary.is_some()),
            model,
            order,
            route,
            body,
            endpoint,
            whole,
        })
    }

    /// The first model with a target that works: the one asked for, or one that may stand in for it.
    fn choose<'c>(
        &'c self,
        host: &mut impl Host,
        model: &'c Model,
        (who, endpoint): (&Identity, Endpoint),
        body: &Body<'_>,
        draw: u64,
    ) -> Result<(&'c Model, Order, Route), Refusal> {
        let others = self.stand_ins(model, endpoint, who, body);
        host.note(|| self.fallback(model, endpoint, who, body));
        let mut soonest = None;
        for (model, stands_in) in core::iter::once((model, false)).chain(others.map(|other| (other, true))) {
            if stands_in {
                host.note(|| Note::StandIn(model.name.clone()));
            }
            if who.withheld.has_model(&model.name) {
                host.note(|| Note::Shed(model.name.clone()));
                continue;
            }
            match Order::choose(host, &self.breaker, model, (who, endpoint), draw) {
                Ok((order, _)) if stands_in => return Ok((model, order, Route::Fallback)),
                Ok((order, route)) => return Ok((model, order, route)),
                Err(Some(millis)) => soonest = Some(millis.min(soonest.unwrap_or(MAX_WAIT))),
                Err(None) => {}
            }
        }
        Err(match soonest {
            Some(millis) => Refusal::Unavailable(millis),
            None if who.withheld.has_model(&model.name) => Refusal::Shed,
            None if !model.pool(who, endpoint).drained.is_empty() => Refusal::Drained,
            None => Refusal::Unavailable(MAX_WAIT),
        })
    }

    /// Models that may serve in the place of another. One that the caller has no grant for, that is not served here or can't
    /// give as much can't.
    fn stand_ins<'c>(
        &'c self,
        model: &'c Model,
        endpoint: Endpoint,
        who: &Identity,
        body: &Body<'_>,
    ) -> impl Iterator<Item = &'c Model> {
        let allowed = self.allows_fallback(endpoint, who);
        let others = model.fallback.iter().filter(move |_| allowed);
        others.filter_map(move |name| self.stand_in(name, endpoint, who, body).ok())
    }

    fn allows_fallback(&self, endpoint: Endpoint, who: &Identity) -> bool {
        let when = self.allow_fallback.as_ref();
        when.is_some_and(|when| when.holds(who, endpoint))
    }

    /// One that may stand in, or why it can't.
    fn stand_in<'c>(
        &'c self,
        name: &str,
        endpoint: Endpoint,
        who: &Identity,
        body: &Body<'_>,
    ) -> Result<&'c Model, Refusal> {
        let model = self.catalogue.find(name, endpoint, who)?;
        model.accepts(endpoint, body)?;
        Ok(model)
    }

    fn fallback(&self, model: &Model, endpoint: Endpoint, who: &Identity, body: &Body<'_>) -> Note {
        let why_not = |name: &String| {
            let refusal = self.stand_in(name, endpoint, who, body).err();
            (name.clone(), refusal.map(|refusal| refusal.reason().name()))
        };
        Note::Fallback {
            allowed: self.allows_fallback(endpoint, who),
            models: model.fallback.iter().map(why_not).collect(),
        }
    }
}

impl Plan<'_, '_> {
    /// What the filters behind learn. `whole_at` is when all of the request was there; nanoseconds since 1970.
    pub fn routed(&self, whole_at: u64) -> Routed<'_> {
        let Self { model, body, .. } = self;
        Routed {
            endpoint: self.endpoint,
            model: Cow::Borrowed(&model.name),
            target: Cow::Borrowed(self.order.first()),
            stream: body.stream,
            input: body.input,
            max_output: body
                .caps
                .at(self.endpoint, model.max_output, model.context_window),
            answers: body.answers,
            background: body.unmetered.contains(&Unmetered::Background),
            price: model.price,
            // A retry sends the same body, so all its targets have to take it.
            ask_usage: ask_usage(self.endpoint, self.whole, body)
                .filter(|_| model.tell_usage(self.order.clusters()))
                .and_then(|edit| edit.behind(self.rename.as_ref())),
            whole_at,
            repeats: model.first_byte.is_some(),
            context_window: model.context_window,
            plain: body.plain,
        }
    }

    /// What Envoy's router, the adapter and later filters go by.
    pub fn headers(&self, config: &Config, who: &Identity) -> [Header<'_>; 9] {
        let Self { model, order, .. } = self;
        let targets = order.header();
        let high = config.high_priority.contains(&who.tier);
        // The first byte of an answer that is not streamed is its last one.
        let first_byte = model.first_byte.filter(|_| self.body.stream);
        let millis = |span: Option<Span>| span.map(|span| span.millis().to_string().into());
        [
            ("x-tollgate-model", Some(Cow::Borrowed(&model.name))),
            ("x-tollgate-target", Some(Cow::Borrowed(order.first()))),
            (
                "x-tollgate-priority",
                Some(Cow::Borrowed(if high { "high" } else { "default" })),
            ),
            // That one target has had enough, or does not take our credential, is a reason to ask another, and none to ask
            // it again.
            (
                "x-envoy-retriable-status-codes",
                targets.is_some().then_some(Cow::Borrowed(ANOTHER_TARGET)),
            ),
            ("x-tollgate-targets", targets.map(Cow::Owned)),
            ("x-envoy-upstream-rq-timeout-ms", millis(model.whole)),
            ("x-envoy-upstream-rq-per-try-timeout-ms", millis(first_byte)),
            (
                "x-envoy-max-retries",
                model.retries.map(|retries| retries.to_string().into()),
            ),
            // To Envoy an attempt that took too long was reset: it is tried again only where resets are.
            (
                "x-envoy-retry-on",
                model.first_byte.map(|_| Cow::Borrowed("reset")),
            ),
        ]
    }
}
