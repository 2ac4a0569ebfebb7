//! What the server says of itself.

use std::io::Write as _;

/// Tells whoever looks at standard error, if anybody does: `eprintln!` panics where nobody can.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "tollgate: {what}");
}
