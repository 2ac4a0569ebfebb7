//! One Envoy process.
