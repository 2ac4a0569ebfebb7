//! The host itself, on modules small enough to be read here.

mod bodies;
mod callouts;
mod chains;
mod endings;
mod faults;
mod maps;
mod process;
mod shared;
mod wat;
