//! The catalogue: which models there are, who may use them, and which target a request goes to.
//!
//! [`Catalogue::find`] answers whether this caller may use that model; [`Model::candidates`] in which order targets
//! are tried. Both are pure: what targets are healthy, and a random draw, come in as arguments.

mod choose;
mod document;
pub mod listing;
mod model;

pub use choose::{Choice, Pool, Route};
pub use document::{RawCatalogue, RawWhen};
pub use model::{Cap, Catalogue, Granted, Level, Model, Refusal, Target, When};

#[cfg(test)]
mod tests;
