//! Envoy's counters and gauges.
