//! Free ports and waiting.
