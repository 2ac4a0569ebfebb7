//! The module `tollgate-tenant-router.wasm`: the filter and the access logger of attempts.

tollgate_host::export!(
    tollgate_host::Module<tollgate_tenant_router::Router, tollgate_host::Absent, tollgate_tenant_router::Attempts>:
    request_headers, request_body, request_trailers, response_headers, response_body, response_trailers, log, tick
);
