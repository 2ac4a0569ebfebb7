//! What the upstream answers.

use serde_json::Value;

use crate::headers::Headers;

/// What the upstream answers.
#[derive(Clone, Debug)]
pub struct Response {
    pub(crate) headers: Headers,
    pub(crate) chunks: Vec<Vec<u8>>,
    pub(crate) trailers: Option<Headers>,
}

impl Response {
    /// A response without a body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let headers = [(":status", status.to_string())].into_iter().collect();
        Self {
            headers,
            chunks: Vec::new(),
            trailers: None,
        }
    }

    /// A 200 with a JSON body.
    #[must_use]
    pub fn json(body: &Value) -> Self {
        Self::new(200)
            .header("content-type", "application/json")
            .body(body.to_string())
    }

    /// A 200 of server-sent events, a chunk each; each text is one event without its blank line.
    #[must_use]
    pub fn events<E: AsRef<str>>(events: impl IntoIterator<Item = E>) -> Self {
        let chunk = |event: E| format!("{}\n\n", event.as_ref());
        Self::new(200)
            .header("content-type", "text/event-stream")
            .chunks(events.into_iter().map(chunk))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.add(name, value.as_ref());
        self
    }

    /// A body in one chunk, with its `content-length`.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref().to_vec();
        self.headers
            .set("content-length", body.len().to_string().as_bytes());
        self.chunks = vec![body];
        self
    }

    /// Cuts the body into chunks of `size` bytes.
    #[must_use]
    pub fn in_chunks(mut self, size: usize) -> Self {
        self.chunks = cut(&self.chunks, size);
        self
    }

    /// A body in just these chunks and no `content-length`.
    #[must_use]
    pub fn chunks<C: AsRef<[u8]>>(mut self, chunks: impl IntoIterator<Item = C>) -> Self {
        self.headers.remove("content-length");
        self.chunks = chunks.into_iter().map(|chunk| chunk.as_ref().to_vec()).collect();
        self
    }

    /// Adds a trailer.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.trailers.get_or_insert_default().add(name, value.as_ref());
        self
    }
}

/// The same bytes in chunks of `size`.
pub(crate) fn cut(chunks: &[Vec<u8>], size: usize) -> Vec<Vec<u8>> {
    chunks.concat().chunks(size).map(<[u8]>::to_vec).collect()
}
