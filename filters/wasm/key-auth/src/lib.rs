//! The module `tollgate-key-auth.wasm`: the filter and the fetcher of the directory.

tollgate_host::export!(
    tollgate_host::Module<tollgate_key_auth::KeyAuth, tollgate_key_auth::Fetcher>:
    request_headers, tick, http_call_response
);
