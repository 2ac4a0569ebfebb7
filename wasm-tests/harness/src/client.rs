//! HTTP clients: one that behaves, one for hostile bytes.
