//! Headers that do not pass between customers and model servers: what only the gateway, or the proxies in front of it,
//! may say. (What may pass where a credential of ours is at stake is [`crate::adapt`]'s.)
//!
//! Of requests there are two lists. What a proxy would say goes nowhere, whatever stands behind ([`ends_here`]): a list of
//! what is known. To model servers goes only what they are known to need ([`ToModels`]), since nobody can list the names by
//! which some server takes a caller for somebody else, or an order from a proxy of its own.
//!
//! Names are exact or begin with a prefix, in lower case; `_` counts as `-`, as servers of the CGI family read it.

mod names;

use crate::config::ConfigError;
use crate::exchange::Exchange;
use crate::retry_after;
use crate::state::Clock;

pub(crate) use names::{Name, Names, begins};

/// Headers of a request or an answer, as they were read.
pub trait Headers {
    /// Each name, in lower case, and its value, in order.
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])>;

    /// The first value of a header, by its name in lower case.
    fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let mut named = self.iter().filter(|(found, _)| *found == name);
        named.next().map(|(_, value)| value)
    }
}

#[cfg(test)]
impl Headers for Vec<(&str, &str)> {
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let headers: &[(&str, &str)] = self;
        headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
}

/// Headers of an answer that its customer does not get: what no model server may say, and when to come back where one says
/// it in a way that nobody can follow. What the gateway itself says of that is not bounded.
pub fn withheld<'h>(headers: &'h impl Headers, host: &(impl Clock + Exchange)) -> Vec<&'h [u8]> {
    let mut is_a_models = None;
    let withheld = headers.iter().filter(|(name, value)| {
        is_not_a_models(name)
            || (!retry_after::passes(name, value, || host.seconds())
                && *is_a_models.get_or_insert_with(|| host.is_answered()))
    });
    withheld.map(|(name, _)| name).collect()
}

/// Of requests. A server, or a proxy in front of it, may take these for the word of a proxy it trusts: where the client
/// is, who, and what it really asked for. And credentials that are not for model servers.
pub(crate) static REQUEST: Names<34> = Names::new([
    "base-url",
    "client-ip",
    "cookie",
    "cookie2",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "incap-client-ip",
    // CGI programs read it as HTTP_PROXY, and send their own requests there.
    "proxy",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-client-ip",
    "proxy-connection",
    "request-uri",
    "true-client-ip",
    "via",
    "x-access-token",
    "x-anonymous-consumer",
    "x-cluster-client-ip",
    "x-custom-ip-authorization",
    "x-email",
    "x-forwarded",
    "x-groups",
    "x-host",
    "x-id-token",
    "x-method-override",
    "x-originating-ip",
    "x-override-url",
    "x-proxy-url",
    "x-proxyuser-ip",
    "x-rewrite-url",
    "x-role",
    "x-roles",
    "x-sucuri-clientip",
]);

/// The same, of the kinds of proxies: of CDNs and clouds, of those that check certificates, and of those that let people
/// log in. None of them begins with another.
pub(crate) static REQUEST_PREFIXES: Names<44> = Names::new([
    "cf-",
    "fastly-",
    "fly-",
    "iv-",
    "oidc-",
    "remote-",
    "shib-",
    "sm-",
    "ssl-",
    "tailscale-",
    "wl-proxy-",
    "x-amz-",
    "x-amzn-",
    "x-appengine-",
    "x-arr-",
    "x-auth-",
    "x-authenticated-",
    "x-authentik-",
    "x-azure-",
    "x-client-",
    "x-consumer-",
    "x-credential-",
    "x-forwarded-",
    "x-goog-",
    "x-http-",
    "x-jwt-",
    "x-litellm-",
    "x-ms-",
    "x-oauth-",
    "x-oidc-",
    "x-original-",
    "x-pomerium-",
    "x-real-",
    "x-remote-",
    "x-saml-",
    "x-scope-",
    "x-shib-",
    "x-ssl-",
    "x-tenant-",
    "x-tls-",
    "x-user",
    "x-vercel-",
    "x-vouch-",
    "x-webauth-",
]);

/// Of those the ones that Envoy writes, or takes away where they are not to be trusted; and a client's name for its request.
static NO_PROXYS: Names<4> = Names::new([
    "x-client-request-id",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-proto",
]);

/// Of requests to models: what their servers, or loggers there, are known to need.
static TO_MODELS: Names<23> = Names::new([
    "accept",
    // Envoy's routes take it away.
    "accept-encoding",
    "accept-language",
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    // What was taken away already, if it was a client's.
    "api-key",
    "authorization",
    "content-encoding",
    "content-language",
    "content-length",
    "content-type",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "user-agent",
    "x-api-key",
    "x-client-request-id",
    "x-request-id",
]);

/// The SDKs' word of themselves, what Node's `fetch` sends, and what the gateway says; of Envoy's and of forwarded ones a
/// client's own are gone by then.
static TO_MODELS_PREFIXES: Names<5> = Names::new([
    "sec-fetch-",
    "x-envoy-",
    "x-forwarded-",
    "x-stainless-",
    "x-tollgate-",
]);

/// What becomes of a header of a client's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage<'a> {
    /// It goes on.
    Passes,
    /// It is removed.
    Ends,
    /// In its place goes the address that the proxy trusts.
    TrustedAddress,
    /// The request is refused for this value of it, as it costs more than the catalogue says.
    Dear(&'a str),
}

/// Which headers of a client's request reach model servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToModels {
    /// Further ones, by their names or, with a `*` at the end, by how they begin.
    allowed: Vec<String>,
}

impl ToModels {
    /// Those that are known to be needed, and what an operator allows besides (`allow_headers`).
    pub fn and(allowed: Vec<String>) -> Result<Self, Vec<ConfigError>> {
        let allowed: Vec<String> = allowed.iter().map(|name| name.to_ascii_lowercase()).collect();
        let errors: Vec<ConfigError> = allowed
            .iter()
            .enumerate()
            .filter_map(|(at, name)| {
                Some(ConfigError::expected(
                    format!("allow_headers[{at}]"),
                    name,
                    wrong(name)?,
                ))
            })
            .collect();
        if errors.is_empty() {
            Ok(Self { allowed })
        } else {
            Err(errors)
        }
    }

    /// What becomes of a header on its way to a model server. Names in lower case.
    pub fn judge<'a>(&self, name: &[u8], value: &'a [u8]) -> Passage<'a> {
        if !self.pass(name) {
            Passage::Ends
        } else if let Some(beta) = self.dear(name, value) {
            Passage::Dear(beta)
        } else if name == b"x-forwarded-for" && value.contains(&b',') {
            // What stands before the address that Envoy trusts is the client's word.
            Passage::TrustedAddress
        } else {
            Passage::Passes
        }
    }

    /// The beta in an `anthropic-beta` by which a provider takes another price than the catalogue says, unless an operator
    /// allows the header by its name. Names in lower case.
    fn dear<'a>(&self, name: &[u8], value: &'a [u8]) -> Option<&'a str> {
        /// Twice the price of long prompts; a faster answer for more.
        const DEAR: [&str; 2] = ["context-1m-", "fast-mode-"];
        if name != b"anthropic-beta" || self.allowed.iter().any(|allowed| allowed == "anthropic-beta") {
            return None;
        }
        let mut betas = core::str::from_utf8(value).ok()?.split(',').map(str::trim);
        betas.find(|beta| DEAR.iter().any(|dear| beta.starts_with(dear)))
    }

    /// Whether a header goes on. Names in lower case.
    fn pass(&self, name: &[u8]) -> bool {
        let known = || {
            let name = Name::of(name);
            TO_MODELS.has(name) || TO_MODELS_PREFIXES.has_beginning_of(name)
        };
        let allowed = |allowed: &String| match allowed.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix.as_bytes()),
            None => name == allowed.as_bytes(),
        };
        // A name with `_` is another one than that with `-` here, and the same to some servers.
        name.starts_with(b":") || (!name.contains(&b'_') && known()) || self.allowed.iter().any(allowed)
    }
}

/// What an entry of `allow_headers` should have been.
fn wrong(entry: &str) -> Option<&'static str> {
    let name = entry.strip_suffix('*').unwrap_or(entry);
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_' || c == b'.';
    if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
        Some("the name of a header, or how it begins and a `*`")
    } else if ends_here(name.as_bytes()) {
        Some("a header that key-auth lets pass")
    } else {
        None
    }
}

/// Of answers. Browsers, clients and proxies keep these for the gateway's name, or obey them: cookies, policies, places
/// to go to. And what tells of the model server's own surroundings.
static ANSWER: Names<48> = Names::new([
    "accept-ch",
    "age",
    "alt-svc",
    "alt-used",
    "anthropic-organization-id",
    "authentication-info",
    "clear-site-data",
    "content-location",
    "content-security-policy",
    "content-security-policy-report-only",
    "critical-ch",
    // The catalogue says until when a model is there.
    "deprecation",
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
    "sunset",
    "surrogate-control",
    "surrogate-key",
    "timing-allow-origin",
    "via",
    "warning",
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
]);

static ANSWER_PREFIXES: Names<10> = Names::new([
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
]);

static LIMIT_PREFIXES: Names<5> = Names::new([
    "anthropic-fast-",
    "anthropic-ratelimit-",
    "ratelimit-",
    "x-rate-limit-",
    "x-ratelimit-",
]);

/// Whether a request's header goes to nobody behind the gateway.
pub fn ends_here(name: &[u8]) -> bool {
    let name = Name::of(name);
    (REQUEST_PREFIXES.has_beginning_of(name) && !NO_PROXYS.has(name)) || REQUEST.has(name)
}

/// Whether an answer's header comes to no customer from a model server. (Nor do [those of its limits](tells_limits).)
pub fn is_not_a_models(name: &[u8]) -> bool {
    let name = Name::of(name);
    ANSWER.has(name) || ANSWER_PREFIXES.has_beginning_of(name)
}

/// Whether an answer's header tells how the limits stand: the gateway's own, not those that it has at a provider.
pub fn tells_limits(name: &[u8]) -> bool {
    name == b"ratelimit" || LIMIT_PREFIXES.has_beginning_of(Name::of(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_say_nothing_twice() {
        fn sorted<const N: usize>(list: &Names<N>) -> Vec<&'static str> {
            let names: Vec<_> = list.iter().collect();
            assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
            names
        }
        fn beginnings<const N: usize>(list: &Names<N>) {
            let names = sorted(list);
            assert!(
                names.windows(2).all(|two| !two[1].starts_with(two[0])),
                "{names:?}"
            );
        }
        beginnings(&REQUEST_PREFIXES);
        beginnings(&TO_MODELS_PREFIXES);
        beginnings(&ANSWER_PREFIXES);
        beginnings(&LIMIT_PREFIXES);
        sorted(&NO_PROXYS);
        sorted(&TO_MODELS);
        for name in sorted(&REQUEST) {
            assert!(
                !REQUEST_PREFIXES.has_beginning_of(Name::of(name.as_bytes())),
                "{name}"
            );
        }
        for name in sorted(&ANSWER) {
            assert!(
                !ANSWER_PREFIXES.has_beginning_of(Name::of(name.as_bytes())),
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
            "x-auth-request-user",
            "x-goog-iap-jwt-assertion",
            "x-ms-client-principal-name",
            "ssl-client-verify",
            "x-ssl-client-s-dn",
            "x-client-cert",
            "x-remote-user",
            "remote_user",
            "x-webauth-user",
            "x-amzn-oidc-identity",
            "tailscale-user-login",
            "x-litellm-tags",
            "x-user-id",
            "wl-proxy-ssl",
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
            "traceparent",
            "viaduct",
            "x-client-request-id",
            "x-use",
        ] {
            assert!(!ends_here(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn to_models_goes_what_they_need_and_what_is_allowed() {
        let none = ToModels::default();
        for name in [
            ":path",
            "content-type",
            "x-stainless-retry-count",
            "x-tollgate-org",
            "x-forwarded-for",
            "x-request-id",
            "traceparent",
        ] {
            assert!(none.pass(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "x-data-parallel-rank",
            "baggage",
            "origin",
            "content_type",
            "x-stainless",
            "idempotency-key",
        ] {
            assert!(!none.pass(name.as_bytes()), "{name}");
        }
        let allowed = |names: &[&str]| ToModels::and(names.iter().map(|name| (*name).to_owned()).collect());
        let some = allowed(&["X-Session", "baggage-*"]).unwrap();
        for (name, passes) in [
            ("x-session", true),
            ("x-session-2", false),
            ("baggage-a", true),
            ("baggage", false),
        ] {
            assert_eq!(some.pass(name.as_bytes()), passes, "{name}");
        }
        let dear = |of: &ToModels, value: &'static str| of.dear(b"anthropic-beta", value.as_bytes());
        let betas = "files-api-2025-04-14, context-1m-2025-08-07";
        assert_eq!(dear(&none, betas), Some("context-1m-2025-08-07"));
        assert_eq!(dear(&none, "files-api-2025-04-14"), None);
        assert_eq!(dear(&allowed(&["anthropic-beta"]).unwrap(), betas), None);
        assert_eq!(none.dear(b"x-beta", betas.as_bytes()), None);
        let errors = allowed(&["*", "a b", "", "x-user-id", "x-remote-*", "x-fine"]).unwrap_err();
        assert_eq!(errors.len(), 5, "{errors:?}");
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
            "deprecation",
            "sunset",
            "age",
            "warning",
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
