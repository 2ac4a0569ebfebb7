//! Envoy's JSON access log, as records.
