//! The upstream adapter's stories, on the real module.

mod attempts;
mod bad_config;
mod faults;
mod stage;
