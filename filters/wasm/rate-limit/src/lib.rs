//! The module `tollgate-rate-limit.wasm`: the filter, and the member of the fleet.

tollgate_host::export!(
    tollgate_host::Module<tollgate_rate_limit::RateLimit, tollgate_rate_limit::Fleet>:
    request_headers, request_body, request_trailers, response_headers, response_body, response_trailers, log, tick, http_call_response
);
