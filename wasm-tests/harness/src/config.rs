//! The repository's `envoy/` files, copied with ports and paths replaced.
