//! The files that operators edit, as the filters and Envoy will read them.
//!
//! Files are read ([`source`]) into trees that know the place of each value ([`mod@build`], [`tree`]). What stands in them
//! is found ([`document`], [`survey`]), each configuration is read by its filter's own reader ([`settings`], [`parse`]),
//! and what belongs to one Envoy is put together ([`envoy_files`]).

pub(crate) mod build;
pub(crate) mod document;
pub(crate) mod envoy_files;
pub(crate) mod finding;
pub(crate) mod kind;
pub(crate) mod locate;
pub(crate) mod near;
pub(crate) mod parse;
pub(crate) mod scalar;
mod secrets;
pub(crate) mod settings;
pub(crate) mod source;
pub(crate) mod survey;
pub(crate) mod tree;
