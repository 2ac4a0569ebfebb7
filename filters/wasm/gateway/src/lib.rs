//! The module `tollgate-gateway.wasm`: the three filters as one, the fetcher of the directory, the access logger of
//! attempts and the member of the fleet.

tollgate_host::export!(
    tollgate_host::Module<tollgate_gateway::Gateway, tollgate_key_auth::Fetcher, tollgate_tenant_router::Attempts, tollgate_rate_limit::Fleet>:
    request_headers, request_body, request_trailers, response_headers, response_body, response_trailers, log, tick, http_call_response
);
