//! Standard output and standard error. What can't be written is an error, and never a panic.

use core::fmt;
use std::io::{self, Write as _};

use tollgate_control::text::is_unprintable;

/// Standard output took no more.
#[derive(Debug)]
pub(crate) struct StdoutError(io::Error);

impl StdoutError {
    /// Whether its reader has gone, as `head` does; there is nobody to tell.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

impl fmt::Display for StdoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

impl core::error::Error for StdoutError {}

/// Writes all of it to standard output.
pub(crate) fn write(text: fmt::Arguments<'_>) -> Result<(), StdoutError> {
    let mut out = io::stdout().lock();
    out.write_fmt(text)
        .and_then(|()| out.flush())
        .map_err(StdoutError)
}

/// A line for people. Work goes on where nobody can read it.
pub(crate) fn write_stderr(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A text in one line, without what a terminal obeys.
pub(crate) fn sanitized(text: &str) -> String {
    text.chars()
        .map(|c| if is_unprintable(c) { '\u{fffd}' } else { c })
        .collect()
}

/// The same of a text in lines.
pub(crate) fn sanitized_lines(text: &str) -> String {
    text.split('\n').map(sanitized).collect::<Vec<_>>().join("\n")
}

/// How many of something: `1 key`, `2 keys`.
pub(crate) fn pluralized<N: fmt::Display + PartialEq + From<u8>>(count: N, what: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// A line on standard output.
macro_rules! outln {
    ($($text:tt)*) => { $crate::out::write(format_args!("{}\n", format_args!($($text)*))) };
}

/// A line on standard error.
macro_rules! errln {
    ($($text:tt)*) => { $crate::out::write_stderr(format_args!($($text)*)) };
}

pub(crate) use {errln, outln};
