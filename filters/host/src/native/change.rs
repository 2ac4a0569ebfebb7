//! Changes of headers that are out of reach.

/// A change of one header.
#[derive(Debug)]
pub(crate) enum Change {
    Set(String, String),
    Add(String, String),
    Remove(Vec<u8>),
}
