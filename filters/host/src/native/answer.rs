//! An answer of this module's own, before it is sent. Envoy does not show a module what it answers itself; the filter
//! sees it all the same, as it does in the other form, and may add to it.

use tollgate_core::reply::Reply;

use super::map::HeaderMap;

/// What is to be sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) details: String,
}

/// An answer's status, among its headers.
const STATUS: &str = ":status";

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        let status = (STATUS.to_owned(), reply.status.to_string());
        let others = reply.headers.into_iter();
        let others = others.map(|(name, value)| (name.to_owned(), value.into_owned()));
        Self {
            headers: core::iter::once(status).chain(others).collect(),
            body: reply.body,
            details: reply.details,
        }
    }
}

impl Answer {
    pub(crate) fn read(&self) -> HeaderMap {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(one, _)| one == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn add(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        self.headers.retain(|(one, _)| one.as_bytes() != name);
    }

    pub(crate) fn status(&self) -> Option<u32> {
        self.get(STATUS)?.parse().ok()
    }

    /// The headers without the status, which is said apart.
    pub(crate) fn others(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, _)| *name != STATUS)
    }
}
