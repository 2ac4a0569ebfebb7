//! The module `tollgate-gateway.wasm`: the three filters as one, the fetcher of the directory and the access logger of
//! attempts.

tollgate_host::export!(
    tollgate_host::Module<tollgate_gateway::Gateway, tollgate_key_auth::Fetcher, tollgate_tenant_router::Attempts>:
    request_headers, request_body, request_trailers, response_headers, response_body, response_trailers, log, tick, http_call_response
);
