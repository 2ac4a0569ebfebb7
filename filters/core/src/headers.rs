//! Headers that do not pass between customers and model servers: what only the gateway, or the proxies in front of it,
//! may say. (What may pass where a credential of ours is at stake is [`crate::adapt`]'s.)
//!
//! Names are exact or begin with a prefix, in lower case; `_` counts as `-`, as servers of the CGI family read it.

/// Of requests. A server, or a proxy in front of it, may take these for the word of a proxy it trusts: where the client
/// is, who, and what it really asked for. And credentials that are not for model servers.
pub(crate) const REQUEST: [&str; 49] = [
    "base-url",
    "client-ip",
    "cookie",
    "cookie2",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    // CGI programs read it as HTTP_PROXY, and send their own requests there.
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-client-ip",
    "proxy-connection",
    "remote-addr",
    "remote-user",
    "request-uri",
    "true-client-ip",
    "via",
    "wl-proxy-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-custom-ip-authorization",
    "x-forwarded",
    "x-goog-api-key",
    "x-host",
    "x-http-destinationurl",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-remote-addr",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-override-url",
    "x-proxy-url",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-remote-user",
    "x-rewrite-url",
];

/// Of the forwarded headers those that Envoy writes, or takes away where they are not to be trusted.
const FORWARDED_BY_ENVOY: [&str; 3] = ["x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-proto"];

/// Of answers. Browsers, clients and proxies keep these for the gateway's name, or obey them: cookies, policies, places
/// to go to. And what tells of the model server's own surroundings.
const ANSWER: [&str; 44] = [
    "accept-ch",
    "alt-svc",
    "alt-used",
    "anthropic-organization-id",
    "authentication-info",
    "clear-site-data",
    "content-location",
    "content-security-policy",
    "content-security-policy-report-only",
    "critical-ch",
    "expect-ct",
    "link",
    // The Python SDKs follow, and take the body and `x-api-key` along.
    "location",
    "nel",
    "openai-model",
    "openai-project",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "proxy-status",
    "public-key-pins",
    "public-key-pins-report-only",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "set-cookie",
    "set-cookie2",
    "sourcemap",
    "strict-transport-security",
    "surrogate-control",
    "surrogate-key",
    "timing-allow-origin",
    "via",
    "www-authenticate",
    // Orders to an nginx or lighttpd in front of Envoy.
    "x-accel-charset",
    "x-accel-expires",
    "x-accel-limit-rate",
    "x-accel-redirect",
    "x-lighttpd-send-file",
    "x-powered-by",
    "x-reproxy-url",
    "x-sendfile",
    "x-served-by",
];

const ANSWER_PREFIXES: [&str; 10] = [
    "access-control-",
    "anthropic-priority-",
    "cf-",
    "cross-origin-",
    "llm-provider-",
    "x-amz-",
    "x-amzn-",
    "x-envoy-",
    "x-litellm-",
    "x-tollgate-",
];

const LIMIT_PREFIXES: [&str; 5] = [
    "anthropic-fast-",
    "anthropic-ratelimit-",
    "ratelimit-",
    "x-rate-limit-",
    "x-ratelimit-",
];

/// Whether a request's header goes to nobody behind the gateway.
pub fn ends_here(name: &[u8]) -> bool {
    let forwarded = begins(name, "x-forwarded-") && !listed(&FORWARDED_BY_ENVOY, name);
    forwarded || begins(name, "cf-") || listed(&REQUEST, name)
}

/// Whether an answer's header comes to no customer from a model server. (Nor do [those of its limits](tells_limits).)
pub fn is_not_a_models(name: &[u8]) -> bool {
    listed(&ANSWER, name) || ANSWER_PREFIXES.iter().any(|prefix| begins(name, prefix))
}

/// Whether an answer's header tells how the limits stand: the gateway's own, not those that it has at a provider.
pub fn tells_limits(name: &[u8]) -> bool {
    name == b"ratelimit" || LIMIT_PREFIXES.iter().any(|prefix| begins(name, prefix))
}

/// Whether a sorted list has a name.
pub(crate) fn listed(list: &[&str], name: &[u8]) -> bool {
    list.binary_search_by(|known| known.bytes().cmp(spelled(name)))
        .is_ok()
}

/// Whether a name begins so.
pub(crate) fn begins(name: &[u8], prefix: &str) -> bool {
    name.len() >= prefix.len() && prefix.bytes().eq(spelled(name).take(prefix.len()))
}

fn spelled(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_say_nothing_twice() {
        for list in [
            &REQUEST[..],
            &FORWARDED_BY_ENVOY,
            &ANSWER,
            &ANSWER_PREFIXES,
            &LIMIT_PREFIXES,
        ] {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
        }
        for name in ANSWER {
            assert!(
                !ANSWER_PREFIXES.iter().any(|prefix| name.starts_with(prefix)),
                "{name}"
            );
        }
    }

    #[test]
    fn what_a_proxy_would_say_ends_here() {
        for name in [
            "true-client-ip",
            "cf-connecting-ip",
            "x-client-ip",
            "x-real-ip",
            "x_real_ip",
            "fastly-client-ip",
            "forwarded",
            "via",
            "x-forwarded-host",
            "x-forwarded_user",
            "x-http-method-override",
            "x-original-url",
            "x-rewrite-url",
            "proxy-authorization",
            "cookie",
            "proxy",
        ] {
            assert!(ends_here(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "accept",
            "content-type",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-client-cert",
            "x-request-id",
            "x-stainless-lang",
            "x-tollgate-org",
            "x-real-ip-",
            "traceparent",
            "viaduct",
        ] {
            assert!(!ends_here(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_model_server_speaks_of_its_answer_alone() {
        for name in [
            "set-cookie",
            "alt-svc",
            "strict-transport-security",
            "via",
            "openai-project",
            "anthropic-organization-id",
            "access-control-allow-origin",
            "x-tollgate-route",
            "x-envoy-decorator-operation",
            "cf-ray",
            "llm_provider-set-cookie",
            "location",
        ] {
            assert!(is_not_a_models(name.as_bytes()), "{name}");
        }
        // Behind a model server's answer Envoy's router has put the gateway's own of these in their place.
        for name in [
            "openai-organization",
            "openai-version",
            "openai-processing-ms",
            "x-request-id",
            "request-id",
            "content-type",
            "content-length",
            "content-encoding",
            "content-disposition",
            "retry-after",
            "retry-after-ms",
            "x-should-retry",
            "x-accel-buffering",
            "x-ratelimit-limit-requests",
            ":status",
        ] {
            assert!(!is_not_a_models(name.as_bytes()), "{name}");
        }
        for name in [
            "x-ratelimit-limit-requests",
            "anthropic-ratelimit-input-tokens-limit",
            "ratelimit",
            "ratelimit-policy",
        ] {
            assert!(tells_limits(name.as_bytes()), "{name}");
        }
        assert!(!tells_limits(b"retry-after") && !tells_limits(b"x-should-retry"));
    }
}
