//! One request: read it, enter it in the ledger, answer as its fault and its API say.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Request, Response};
use tokio::sync::watch;

use super::answer::{Answer, Plan};
use super::api;
use super::connection::Line;
use super::fault::Fault;
use super::ledger::{Ending, Entry, Ledger, Seen};
use super::request::{Api, Ask};
use super::wire::Paced;
use super::{FAULT_HEADER, SERVER_HEADER};

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) name: String,
    pub(super) models: Vec<String>,
    pub(super) ledger: Ledger,
    pub(super) number: AtomicU64,
    pub(super) healthy: AtomicBool,
    pub(super) faults: Mutex<Faults>,
    /// What every answer of a model says besides.
    pub(super) headers: Mutex<Vec<(HeaderName, HeaderValue)>>,
    /// Sends when what is held shall go on.
    pub(super) release: watch::Sender<()>,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) next: VecDeque<Fault>,
    pub(super) always: Fault,
}

impl State {
    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to answer a request that does not say it itself.
    fn fault(&self) -> Fault {
        let mut faults = self.faults();
        faults.next.pop_front().unwrap_or_else(|| faults.always.clone())
    }
}

/// The status of `/health`, which no fault touches.
fn health(state: &State) -> Answer {
    let healthy = state.healthy.load(Ordering::Relaxed);
    let answer = Answer::whole("text/plain", if healthy { "ok\n" } else { "unhealthy\n" }, 0);
    Answer {
        status: if healthy { 200 } else { 503 },
        ..answer
    }
}

/// `/seen`: the ledger as JSON, for programs that are not in this process. `?request_id=ID` asks for one request.
fn ledger(state: &State, query: Option<&str>) -> Answer {
    let wanted = query.and_then(|query| query.strip_prefix("request_id="));
    let rows = state.ledger.with(|rows| {
        let asked = |row: &&Seen| wanted.is_none_or(|id| row.request_id.as_deref() == Some(id));
        rows.iter().filter(asked).map(Seen::json).collect::<Vec<_>>()
    });
    Answer::json(&rows.into(), 0)
}

pub(super) async fn serve(
    state: Arc<State>,
    line: Line,
    request: Request<Incoming>,
) -> Result<Response<Paced>, Box<dyn std::error::Error + Send + Sync>> {
    // What is asked of the server itself, not of a model.
    let own = match request.uri().path() {
        "/health" => Some(health(&state)),
        "/seen" => Some(ledger(&state, request.uri().query())),
        _ => None,
    };
    if let Some(own) = own {
        let nowhere = Ledger::new(0).open(Seen::default());
        return Ok(respond(&state, own, None, &Fault::default(), nowhere, line));
    }
    let (head, body) = request.into_parts();
    let api = Api::find(head.method.as_str(), head.uri.path());
    let prefix = api.as_ref().map_or("req_", Api::id_prefix);
    let id = format!(
        "{prefix}{}-{}",
        state.name,
        state.number.fetch_add(1, Ordering::Relaxed)
    );
    let mut entry = state.ledger.open(if state.ledger.keeps() {
        seen(&head, &id)
    } else {
        Seen::default()
    });

    let bytes = body.collect().await?.to_bytes();
    entry.body(&bytes);
    let asked = head
        .headers
        .get(FAULT_HEADER)
        .map(|v| v.to_str().unwrap_or("not text"));
    let fault = match asked.map(Fault::parse) {
        None => state.fault(),
        Some(Ok(fault)) => fault,
        Some(Err(error)) => {
            let answer = Answer::error(api.as_ref(), 400, Some("bad_fault"), &error.to_string());
            return Ok(respond(
                &state,
                answer,
                Some((&id, false)),
                &Fault::default(),
                entry,
                line,
            ));
        }
    };
    if let Some(delay) = fault.first_byte {
        tokio::time::sleep(delay).await;
    }
    if fault.close || fault.reset {
        entry.close(Ending::Cut);
        if fault.reset {
            line.reset();
        }
        return Err(Box::new(io::Error::from(io::ErrorKind::ConnectionAborted)));
    }
    let answer = answer(&state, api.as_ref(), &head, bytes, &id, &fault, &entry).await;
    let anthropic = api.is_some_and(|api| api.is_anthropic());
    Ok(respond(
        &state,
        answer,
        Some((&id, anthropic)),
        &fault,
        entry,
        line,
    ))
}

/// The answer before it is paced: a fault's status and body, or what the API says.
async fn answer(
    state: &State,
    api: Option<&Api>,
    head: &hyper::http::request::Parts,
    bytes: Bytes,
    id: &str,
    fault: &Fault,
    entry: &Entry,
) -> Answer {
    let answer = match (fault.status, api) {
        (Some(status @ 400..), _) => Answer::error(api, status, None, "The model server was told to fail."),
        (_, None) => {
            let message = format!("Invalid URL ({} {})", head.method, head.uri.path());
            Answer::error(None, 404, None, &message)
        }
        (_, Some(api)) => match read(head, bytes).await {
            Err(message) => Answer::error(Some(api), 400, None, &message),
            Ok(ask) => {
                entry.ask(&ask);
                let given = head.method == hyper::Method::GET || *api == Api::Moderations;
                if ask.model.is_empty() && !given {
                    Answer::error(Some(api), 400, None, "you must provide a model parameter")
                } else {
                    api::answer(api, Plan::new(id.to_owned(), ask, fault), &state.models)
                }
            }
        },
    };
    let status = fault.status.unwrap_or(answer.status);
    let body = fault.raw.clone().or_else(|| fault.body.clone().map(Bytes::from));
    match body {
        Some(body) => Answer {
            status,
            ..Answer::whole(answer.content_type, body, 0)
        },
        None => Answer { status, ..answer },
    }
}

async fn read(head: &hyper::http::request::Parts, bytes: Bytes) -> Result<Ask, String> {
    if head.method == hyper::Method::GET {
        return Ok(Ask::default());
    }
    let content_type = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    match multer::parse_boundary(content_type) {
        Ok(boundary) => Ask::form(bytes, boundary).await,
        Err(_) => Ask::json(&bytes),
    }
}

fn respond(
    state: &State,
    answer: Answer,
    id: Option<(&str, bool)>,
    fault: &Fault,
    entry: Entry,
    line: Line,
) -> Response<Paced> {
    entry.status(answer.status);
    let length = answer.length;
    let mut response = Response::new(Paced::new(
        answer.pieces,
        length,
        fault,
        entry,
        line,
        state.release.subscribe(),
    ));
    *response.status_mut() = answer.status.try_into().unwrap_or_default();
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        // A value that is no header value came from a test's own name or fault: it shows by its absence.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(SERVER_HEADER, &state.name);
    if let Some((id, anthropic)) = id {
        // The APIs name the request in these; a gateway is to put its own in their place.
        set(
            if anthropic { "request-id" } else { "x-request-id" },
            &format!("upstream-{id}"),
        );
    }
    if let Some(retry_after) = &fault.retry_after {
        set("retry-after", retry_after);
    }
    if let Some(coding) = &fault.content_encoding {
        set("content-encoding", coding);
    }
    match &fault.content_type {
        None => set("content-type", answer.content_type),
        Some(kind) if kind.is_empty() => {}
        Some(kind) => set("content-type", kind),
    }
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if id.is_some() {
        let more = state.headers.lock().unwrap_or_else(PoisonError::into_inner);
        headers.extend(
            more.iter()
                .map(|(name, value)| (Some(name.clone()), value.clone())),
        );
    }
    response
}

fn seen(head: &hyper::http::request::Parts, id: &str) -> Seen {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Seen {
        id: id.to_owned(),
        request_id: head.headers.get("x-request-id").map(text),
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head
            .headers
            .iter()
            .map(|(n, v)| (n.to_string(), text(v)))
            .collect(),
        ..Seen::default()
    }
}
