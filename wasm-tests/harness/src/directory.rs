//! A directory document for a test, with keys minted for it.
