//! What an attempt changes in the headers, as it was before.

use serde::{Deserialize, Serialize};

/// The name of the filter state that carries an encoded [`SavedHeaders`] from an attempt to the next. It holds no secret.
pub const PROPERTY: &str = "tollgate.attempt";

/// A change of the request's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// Every value of a header goes.
    Remove(&'a str),
    /// A header gets this value, in place of any.
    Set(&'a str, &'a str),
    /// A header gets this value too.
    Add(&'a str, &'a str),
}

/// Headers as they were: each name, with its values in order.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHeaders(Vec<(String, Vec<String>)>);

impl SavedHeaders {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a header, once.
    pub(super) fn keep(&mut self, name: &str, values: Vec<String>) {
        if !self.0.iter().any(|(saved, _)| saved == name) {
            self.0.push((name.to_owned(), values));
        }
    }

    /// The changes that bring all of it back.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.0.iter().flat_map(|(name, values)| {
            // A request can't be without its path, not even for a moment.
            let pseudo = name.starts_with(':');
            let remove = (!pseudo).then_some(Change::Remove(name));
            let values = values.iter().map(move |value| match pseudo {
                true => Change::Set(name, value),
                false => Change::Add(name, value),
            });
            remove.into_iter().chain(values)
        })
    }

    /// The bytes of the filter state.
    pub fn encode(&self) -> Vec<u8> {
        // Strings always encode; empty bytes decode as nothing, and the next attempt is refused.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads the filter state; `None` for anything else.
    pub fn decode(state: &[u8]) -> Option<Self> {
        let (saved, rest) = postcard::take_from_bytes(state).ok()?;
        rest.is_empty().then_some(saved)
    }
}
