//! The model's name in a body, in the provider's words. Nothing else in the body is touched.

use core::ops::Range;

use super::attempt::Attempt;
use super::provider::Providers;
use crate::body::{Malformed, read_json, read_multipart};
use crate::endpoint::Endpoint;

/// A change of a body: what stands at `span` becomes `text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Where the name stands; within the body.
    pub span: Range<usize>,
    /// What takes its place.
    pub text: Vec<u8>,
}

impl Rename {
    /// What stands before the name, and behind it.
    pub fn around<'a>(&self, body: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let before = body.get(..self.span.start).unwrap_or_default();
        let behind = body.get(self.span.end..).unwrap_or_default();
        (before, behind)
    }
}

impl Providers {
    /// The name that answers shall have, where the provider has another one for the model; the router's.
    pub fn answers_as<'a>(&self, attempt: &'a Attempt) -> Option<&'a str> {
        let provider = self.all.get(attempt.provider)?;
        let model = attempt.model.as_deref()?;
        (provider.names.of(model) != model).then_some(model)
    }

    /// How the body of an attempt has to change; `None` where it may stay as it is: it names the model as the
    /// provider does, or names none.
    ///
    /// The name is that of the router, if there is one in front, since the client may have used an alias of it.
    pub fn rename(&self, attempt: &Attempt, body: &[u8]) -> Result<Option<Rename>, Malformed> {
        let Some(provider) = self.all.get(attempt.provider).filter(|_| attempt.looks_at_body()) else {
            return Ok(None);
        };
        // Only the name matters here, and it stands in the same place at every endpoint.
        let endpoint = Endpoint::Chat;
        let read = match &attempt.boundary {
            Some(boundary) => read_multipart(endpoint, body, boundary)?,
            None => read_json(endpoint, body)?,
        };
        let (Some(given), Some(span)) = (read.model, read.model_span) else {
            return Ok(None);
        };
        let wanted = provider.names.of(attempt.model.as_deref().unwrap_or(&given));
        if wanted == given {
            return Ok(None);
        }
        let text = match attempt.boundary {
            Some(_) => wanted.into_owned().into_bytes(),
            // Strings always encode.
            None => serde_json::to_vec(&wanted).unwrap_or_default(),
        };
        Ok(Some(Rename { span, text }))
    }
}
