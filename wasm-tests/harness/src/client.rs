//! A client that behaves: one request, one answer, and what a customer's program would look at.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tollgate_core::key::ApiKey;

/// A request that takes longer than this fails its test instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client of servers on this machine, without TLS. It doesn't read the system's certificates, which would take it longer than
/// most requests.
pub fn plain_http() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().tls_certs_only([])
}

/// Something to put behind `Bearer`.
pub trait Credential {
    /// It in clear.
    fn credential(&self) -> &str;
}

impl Credential for ApiKey {
    fn credential(&self) -> &str {
        self.reveal()
    }
}

impl Credential for str {
    fn credential(&self) -> &str {
        self
    }
}

impl Credential for String {
    fn credential(&self) -> &str {
        self
    }
}

/// Sends requests to one gateway and keeps its connections. Not to be shared by tests: the connections end with
/// the runtime that made them.
#[derive(Debug, Clone)]
pub struct Client {
    addr: SocketAddr,
    http1: reqwest::Client,
    http2: reqwest::Client,
}

impl Client {
    /// A client of the gateway, or of anything, at `addr`.
    ///
    /// # Panics
    /// The system can't give it what it needs.
    pub fn new(addr: SocketAddr) -> Self {
        let builder = || plain_http().timeout(PATIENCE);
        Self {
            addr,
            http1: builder().http1_only().build().expect("an HTTP/1.1 client"),
            http2: builder()
                .http2_prior_knowledge()
                .build()
                .expect("an HTTP/2 client"),
        }
    }

    /// Begins a `POST`.
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }

    /// Begins a `GET`.
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// Begins a request of any method.
    ///
    /// # Panics
    /// `method` is none.
    pub fn request(&self, method: &str, path: &str) -> Request {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let url = format!("http://{}{path}", self.addr);
        Request {
            client: self.clone(),
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            http2: false,
        }
    }
}

/// A request in the making.
#[derive(Debug)]
#[must_use = "a request is sent by `send` or `open`"]
pub struct Request {
    client: Client,
    method: reqwest::Method,
    url: String,
    headers: HeaderMap,
    body: Option<reqwest::Body>,
    http2: bool,
}

impl Request {
    /// `Authorization: Bearer KEY`.
    pub fn key(self, key: &(impl Credential + ?Sized)) -> Self {
        let bearer = format!("Bearer {}", key.credential());
        self.header("authorization", &bearer)
    }

    /// Adds a header; the same name may come several times.
    ///
    /// # Panics
    /// No HTTP library would send it; `raw` sends anything.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = reqwest::header::HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        self.headers
            .append(name, value.parse().expect("a header's value"));
        self
    }

    /// A JSON body.
    pub fn json(self, body: Value) -> Self {
        self.header("content-type", "application/json")
            .body(body.to_string())
    }

    /// Any body.
    pub fn body(mut self, body: impl Into<reqwest::Body>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Over HTTP/2 with prior knowledge.
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Panics
    /// There is no answer, or not all of it.
    pub async fn send(self) -> Reply {
        self.try_send()
            .await
            .unwrap_or_else(|e| panic!("no whole answer: {e:?}"))
    }

    /// As [`Self::send`].
    ///
    /// # Errors
    /// There is no answer, or not all of it.
    pub async fn try_send(self) -> reqwest::Result<Reply> {
        let response = self.try_open().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply {
            status,
            headers,
            body: response.bytes().await?,
        })
    }

    /// Sends it and returns once the answer's headers are there; its body is then read chunk by chunk.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn open(self) -> reqwest::Response {
        self.try_open()
            .await
            .unwrap_or_else(|e| panic!("no answer: {e:?}"))
    }

    /// As [`Self::open`].
    ///
    /// # Errors
    /// There is no answer.
    pub async fn try_open(self) -> reqwest::Result<reqwest::Response> {
        let client = if self.http2 {
            &self.client.http2
        } else {
            &self.client.http1
        };
        let mut request = client.request(self.method, self.url).headers(self.headers);
        if let Some(body) = self.body {
            request = request.body(body);
        }
        request.send().await
    }
}

/// A whole answer. Its assertions return the answer, so that they chain; each panics with all of it.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// An error in either of the contract's shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// OpenAI's shape.
    OpenAi {
        /// For people.
        message: String,
        /// `type`.
        kind: String,
        /// The parameter at fault.
        param: Option<String>,
        /// For programs.
        code: Option<String>,
    },
    /// Anthropic's shape.
    Anthropic {
        /// For people.
        message: String,
        /// `error.type`.
        kind: String,
        /// The answer's request id.
        request_id: Option<String>,
    },
}

impl Reply {
    /// Asserts the status.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// Asserts an error in OpenAI's shape with this `code`, in JSON and with all four fields.
    pub fn code(self, wanted: &str) -> Self {
        match self.error() {
            ApiError::OpenAi { code, .. } => assert_eq!(code.as_deref(), Some(wanted), "{self:#?}"),
            ApiError::Anthropic { .. } => panic!("not OpenAI's shape: {self:#?}"),
        }
        self
    }

    /// Asserts the error's `type`, of either shape.
    pub fn kind(self, wanted: &str) -> Self {
        let (ApiError::OpenAi { kind, .. } | ApiError::Anthropic { kind, .. }) = self.error();
        assert_eq!(kind, wanted, "{self:#?}");
        self
    }

    /// Asserts an error in Anthropic's shape with this `error.type` and the answer's own request id.
    pub fn anthropic(self, wanted: &str) -> Self {
        match self.error() {
            ApiError::Anthropic { kind, request_id, .. } => {
                assert_eq!(kind, wanted, "{self:#?}");
                assert!(
                    request_id.is_some() && request_id.as_deref() == self.request_id(),
                    "{self:#?}"
                );
            }
            ApiError::OpenAi { .. } => panic!("not Anthropic's shape: {self:#?}"),
        }
        self
    }

    /// Asserts that the error's message holds this text.
    pub fn says(self, text: &str) -> Self {
        let (ApiError::OpenAi { message, .. } | ApiError::Anthropic { message, .. }) = self.error();
        assert!(
            message.contains(text),
            "the message does not say {text:?}: {self:#?}"
        );
        self
    }

    /// Asserts a header's value.
    pub fn has(self, name: &str, value: &str) -> Self {
        assert_eq!(self.header(name), Some(value), "{self:#?}");
        self
    }

    /// Asserts that there is no such header.
    pub fn lacks(self, name: &str) -> Self {
        assert!(!self.headers.contains_key(name), "{name} is there: {self:#?}");
        self
    }

    /// A header's value, the first where there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The answer's `x-request-id`.
    pub fn request_id(&self) -> Option<&str> {
        self.header("x-request-id")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("the body is no JSON: {e}: {self:#?}"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The error, which must be JSON in exactly one of the contract's shapes and say so in its content type.
    pub fn error(&self) -> ApiError {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:#?}");
        let body = self.json();
        shape(&body).unwrap_or_else(|| panic!("not an error of the contract's shapes: {self:#?}"))
    }
}

fn shape(body: &Value) -> Option<ApiError> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    // `code` and `param` are there always, as strings or null.
    let nullable = |value: Option<&Value>| match value? {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text.clone())),
        _ => None,
    };
    let error = body.get("error")?.as_object()?;
    let (message, kind) = (text(error.get("message")?)?, text(error.get("type")?)?);
    match (body.as_object()?.len(), error.len()) {
        (1, 4) => {
            let (param, code) = (nullable(error.get("param"))?, nullable(error.get("code"))?);
            Some(ApiError::OpenAi {
                message,
                kind,
                param,
                code,
            })
        }
        (3, 2) if body["type"] == "error" => Some(ApiError::Anthropic {
            message,
            kind,
            request_id: nullable(body.get("request_id"))?,
        }),
        _ => None,
    }
}
