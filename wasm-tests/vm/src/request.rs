//! A request as a test tells it, through one filter or several.

use std::collections::VecDeque;

use serde_json::Value;

use crate::exchange::{Exchange, Message};
use crate::flow::Flow;
use crate::headers::Headers;
use crate::outcome::Outcome;
use crate::plugin::Plugin;
use crate::properties::Properties;
use crate::response::{Response, cut};
use crate::stream::Stream;
use crate::world::World;

/// Filters one after another.
#[derive(Clone)]
pub struct Chain(Vec<Plugin>);

/// A request being described. It begins with what Envoy itself sees to: `:method`, `:path`, `:authority`,
/// `:scheme`, `x-forwarded-proto` and an `x-request-id`.
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    chain: Vec<Plugin>,
    headers: Headers,
    chunks: Vec<Vec<u8>>,
    trailers: Option<Headers>,
    properties: Properties,
    upstream: Response,
}

impl Chain {
    /// A request through all of them.
    ///
    /// # Panics
    /// When the chain is empty.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str) -> Request {
        let world = self.0.first().expect("a chain has a filter").vm().world().clone();
        let mut process = world.process_mut();
        process.requests += 1;
        let id = format!("00000000-0000-4000-8000-{:012x}", process.requests);
        let headers = [
            (":method", method),
            (":path", path),
            (":authority", "gateway.test"),
            (":scheme", "http"),
            ("x-forwarded-proto", "http"),
            ("x-request-id", &id),
        ];
        let request = Request {
            chain: self.0.clone(),
            headers: headers.into_iter().collect(),
            chunks: Vec::new(),
            trailers: None,
            properties: Properties::default(),
            upstream: Response::new(200),
        };
        request.from("127.0.0.1")
    }

    /// A GET through all of them.
    #[track_caller]
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// A POST through all of them.
    #[track_caller]
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }
}

impl World {
    /// Filters one after another, as in a listener's `http_filters`.
    #[must_use]
    pub fn chain(&self, plugins: &[&Plugin]) -> Chain {
        Chain(plugins.iter().map(|plugin| (*plugin).clone()).collect())
    }
}

impl Plugin {
    /// A request through this filter alone.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Chain(vec![self.clone()]).request(method, path)
    }

    /// A GET through this filter alone.
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// A POST through this filter alone.
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path)
    }
}

impl Request {
    /// Adds a header. A name given twice is there twice, or its values joined with a comma where Envoy does
    /// that (`authorization`); a pseudo-header or `x-request-id` is replaced.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if name.starts_with(':') || name.eq_ignore_ascii_case("x-request-id") {
            self.headers.set(name, value.as_ref());
        } else {
            self.headers.add(name, value.as_ref());
        }
        self
    }

    /// Takes a header away, also one that Envoy sees to.
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// `authorization: Bearer {key}`.
    pub fn bearer(self, key: &str) -> Self {
        self.header("authorization", format!("Bearer {key}"))
    }

    /// The client's address as Envoy determined it; with a port, or 40000 is taken. An IPv6 address with a
    /// port has brackets.
    pub fn from(self, address: &str) -> Self {
        let v6_without_port = address.contains("::") && !address.starts_with('[');
        let full = match address.rsplit_once(':') {
            _ if v6_without_port => format!("[{address}]:40000"),
            Some(_) => address.to_owned(),
            None => format!("{address}:40000"),
        };
        let port: i64 = full
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(0);
        self.property(&["source", "address"], &full)
            .property(&["source", "port"], port.to_le_bytes())
    }

    /// A property of this stream, as `["connection", "mtls"]`. Numbers are eight bytes, little-endian.
    pub fn property(mut self, path: &[&str], value: impl AsRef<[u8]>) -> Self {
        self.properties.set_bytes(path, value.as_ref());
        self
    }

    /// Dynamic metadata that a filter in front has set, as `jwt_authn` does with a token's claims. It is read
    /// under `["metadata", "filter_metadata", filter, …]`.
    pub fn metadata(self, filter: &str, value: Value) -> Self {
        self.property_tree(&["metadata", "filter_metadata", filter], value)
    }

    /// A property that paths go on into, as metadata of the route or the endpoint is: every longer path finds
    /// what is inside. Text is its bytes, a number a little-endian double, `null` cannot be serialised.
    pub fn property_tree(mut self, path: &[&str], value: Value) -> Self {
        self.properties.set_tree(path, value);
        self
    }

    /// A body in one chunk, with its `content-length`.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        self.headers
            .set("content-length", body.len().to_string().as_bytes());
        self.chunks = vec![body];
        self
    }

    /// A JSON body in one chunk, with its `content-type` and `content-length`.
    pub fn json(mut self, body: &Value) -> Self {
        self.headers.set("content-type", b"application/json");
        self.body(body.to_string())
    }

    /// Cuts the body into chunks of `size` bytes.
    pub fn in_chunks(mut self, size: usize) -> Self {
        self.chunks = cut(&self.chunks, size);
        self
    }

    /// A body in just these chunks and no `content-length`. Envoy often ends a stream with an empty chunk:
    /// put one last to have that.
    pub fn chunks<C: AsRef<[u8]>>(mut self, chunks: impl IntoIterator<Item = C>) -> Self {
        self.headers.remove("content-length");
        self.chunks = chunks.into_iter().map(|chunk| chunk.as_ref().to_vec()).collect();
        self
    }

    /// Adds a trailer.
    pub fn trailer(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.trailers.get_or_insert_default().add(name, value.as_ref());
        self
    }

    /// What the upstream answers if the request gets there; an empty 200 unless said.
    pub fn upstream(mut self, response: Response) -> Self {
        self.upstream = response;
        self
    }

    /// Sends the whole request, lets the upstream answer, and sees the stream to its end. A request that a
    /// filter still holds then is given up by its client; for one that waits for a callout or a tick use
    /// [`Request::start`].
    #[track_caller]
    pub fn send(self) -> Outcome {
        self.start().finish()
    }

    /// Sends the whole request, and no answer yet.
    #[track_caller]
    pub fn start(self) -> Stream {
        let mut stream = self.open();
        stream.send_rest();
        stream
    }

    /// Has the plugin, as an access logger, log an attempt with this request and the upstream's answer.
    #[track_caller]
    pub fn log_attempt(self) {
        let plugin = &self.chain[0];
        let request = Message {
            headers: self.headers,
            trailers: self.trailers,
        };
        let mut exchange = Exchange::begun(request, self.properties, plugin.vm().world().now());
        exchange.response.headers = self.upstream.headers;
        plugin.log(exchange);
    }

    /// Sends the headers alone.
    #[track_caller]
    pub fn open(self) -> Stream {
        let world = self.chain[0].vm().world().clone();
        let request = Message {
            headers: self.headers,
            trailers: self.trailers.clone(),
        };
        let exchange = Exchange::begun(request, self.properties, world.now());
        let flow = Flow::new(&world, &self.chain, exchange);
        let stream = Stream::new(
            world,
            flow,
            VecDeque::from(self.chunks),
            self.trailers.is_some(),
            self.upstream,
        );
        stream.send_headers();
        stream
    }
}
