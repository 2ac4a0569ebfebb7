//! What follows a callback.

use tollgate_core::reply::Reply;

use crate::http::HttpCall;

/// What becomes of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    Continue,
    /// What is there is held back until more of it comes.
    Hold,
    /// It is answered, and goes no further.
    Answer(Box<Reply>),
    /// The request is held back, and what follows of it, until [`HttpFilter::resume`](crate::HttpFilter::resume) says
    /// otherwise: when this call is answered, and with each tick.
    Wait(Option<HttpCall>),
    /// Its answer is broken off, so that its client sees that it is not whole.
    Break,
}

impl From<Reply> for Step {
    fn from(reply: Reply) -> Self {
        Self::Answer(Box::new(reply))
    }
}
