//! The library `libtollgate.so`: every filter, the access loggers of attempts and of usage, the fetcher of the directory and
//! the member of the fleet, by their names, as one dynamic module of Envoy's.

tollgate_host::export_native! {
    filters: {
        Gateway = tollgate_gateway::Gateway,
        KeyAuth = tollgate_key_auth::KeyAuth,
        Router = tollgate_tenant_router::Router,
        RateLimit = tollgate_rate_limit::RateLimit,
        Adapter = tollgate_upstream_adapter::Adapter,
    }
    loggers: {
        Attempts = tollgate_tenant_router::Attempts,
        Usage = tollgate_usage_log::UsageLog,
    }
    singletons: {
        Fetcher = tollgate_key_auth::Fetcher,
        Fleet = tollgate_rate_limit::Fleet,
    }
}
