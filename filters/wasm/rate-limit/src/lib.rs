//! The module `tollgate-rate-limit.wasm`.

tollgate_host::export!(
    tollgate_host::Module<tollgate_rate_limit::RateLimit>:
    request_headers, request_body, request_trailers, response_headers, response_body, response_trailers, log, tick
);
