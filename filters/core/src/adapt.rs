//! How a provider wants to be asked: its name for a model, its path, its credential, and what it must not see.
//!
//! Envoy has one set of request headers for all attempts of a request: what an attempt changes there is still there
//! in the next one, which may go to another provider, and in the access log. So an attempt is planned from the
//! headers as they were before any attempt ([`Attempt`]), and what it changes is kept ([`SavedHeaders`]) until it is given
//! back. Secrets and what a client used as its credential are never saved: they go at once, and for good.

mod allowed;
mod answer;
mod attempt;
mod document;
mod names;
mod provider;
mod reason;
mod refusal;
mod rename;
mod saved;
mod screen;
mod secret;

pub use answer::Renamer;
pub use attempt::Attempt;
pub use names::ModelNames;
pub use provider::{Credential, Provider, Providers};
pub use reason::Reason;
pub use refusal::Refusal;
pub use rename::Rename;
pub use saved::{Change, PROPERTY, SavedHeaders};
pub use screen::{Screen, Screened};
pub use secret::Secret;

#[cfg(test)]
mod tests;
