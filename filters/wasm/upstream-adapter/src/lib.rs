//! The module `tollgate-upstream-adapter.wasm`.

tollgate_host::export!(
    tollgate_host::Module<tollgate_upstream_adapter::Adapter>:
    request_headers, request_body, request_trailers, response_headers, response_body, response_trailers
);
