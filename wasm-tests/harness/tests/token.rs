//! An identity from a token that Envoy's own `jwt_authn` verified, beside keys. The filter stands before key-auth in
//! the chain, and hands over what it verified as metadata, which no client can write.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test says what it expects by failing, in its helpers too"
)]

mod support;

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use support::{ANTHROPIC, OPENAI, assert_no_vm_broke, chat};
use tollgate_core::key::ApiKey;
use tollgate_harness::client::Request;
use tollgate_harness::config::repository;
use tollgate_harness::models::ModelServer;
use tollgate_harness::{Directory, Gateway, Options, is_native};

const ISSUER: &str = "https://id.example";

/// Who issues tokens.
struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self { key, random }
    }

    /// Its public key, as `local_jwks` takes it.
    fn jwks(&self) -> String {
        // An uncompressed point: 4, then x and y of 32 bytes each.
        let point = self.key.public_key().as_ref();
        let (x, y) = (BASE64.encode(&point[1..33]), BASE64.encode(&point[33..]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1", "x": x, "y": y}]}).to_string()
    }

    /// A token with these claims over the usual ones.
    fn token(&self, claims: Value) -> String {
        self.token_with(json!({"alg": "ES256", "typ": "JWT", "kid": "k1"}), claims)
    }

    fn token_with(&self, header: Value, claims: Value) -> String {
        let mut all =
            json!({"iss": ISSUER, "aud": "tollgate", "exp": seconds_from_now(600), "sub": "ada@example.com"});
        all.as_object_mut()
            .unwrap()
            .extend(claims.as_object().unwrap().clone());
        let signed = format!(
            "{}.{}",
            BASE64.encode(header.to_string()),
            BASE64.encode(all.to_string())
        );
        let signature = self.key.sign(&self.random, signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64.encode(signature))
    }
}

fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(now.as_secs()).unwrap() + seconds
}

struct Stack {
    gateway: Gateway,
    models: ModelServer,
    issuer: Issuer,
    key: ApiKey,
}

/// What a rule of `jwt_authn` says of requests without a good token. `allow_missing` would not do: to it a key behind
/// `Bearer` is a token that is not good.
#[derive(Clone, Copy)]
enum Rule {
    /// A token that is not good is no token: what is wrong with it is key-auth's to say.
    Lenient,
    /// What looks like a token must be a good one.
    Strict,
}

/// A dynamic module can't read what `jwt_authn` leaves: `gateway-native.yaml` has the filter that says it.
fn claims() -> String {
    if !is_native() {
        return String::new();
    }
    let file = repository().join("envoy/filters/gateway-native.yaml");
    let file = std::fs::read_to_string(file).unwrap();
    let (_, block) = file.split_once("that key_auth reads ---\n").unwrap();
    let block = block.lines().map_while(|line| line.strip_prefix("# "));
    block.map(|line| format!("        {line}\n")).collect()
}

impl Stack {
    async fn start(rule: Rule, forward: bool) -> Self {
        let issuer = Issuer::new();
        let models = ModelServer::start().await.unwrap();
        let mut directory = Directory::new();
        let key = directory.project_key("acme", "search");
        directory.project("acme", "archive", json!({"status": "suspended"}));
        let mut key_auth = directory.inline();
        key_auth["failed_auth"] = json!({"rate": "600000/minute", "burst": 600000});
        key_auth["jwt"] = json!({"metadata_key": "tollgate"});
        let rule = match rule {
            Rule::Lenient => json!({
                "match": {"prefix": "/"},
                "requires": {"requires_any": {"requirements": [{"provider_name": "staff"}, {"allow_missing_or_failed": {}}]}},
            }),
            Rule::Strict => json!({
                "match": {"prefix": "/", "headers": [{"name": "authorization", "string_match": {"prefix": "Bearer eyJ"}}]},
                "requires": {"provider_name": "staff"},
            }),
        };
        let filter = json!({
            "name": "envoy.filters.http.jwt_authn",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                "providers": {"staff": {
                    "issuer": ISSUER,
                    "audiences": ["tollgate"],
                    "local_jwks": {"inline_string": issuer.jwks()},
                    "payload_in_metadata": "tollgate",
                    "forward": forward,
                }},
                "rules": [rule],
            },
        });
        let place = "        - name: tollgate.key-auth\n          config_discovery:";
        let gateway = Options::new()
            .llama(models.addr())
            .key_auth(key_auth)
            .edit(
                "listener.yaml",
                place,
                &format!("        - {filter}\n{}{place}", claims()),
            )
            .start()
            .await;
        Self {
            gateway,
            models,
            issuer,
            key,
        }
    }

    fn ask(&self, path: &str, token: &str) -> Request {
        self.gateway.post(path).key(token).json(chat())
    }

    /// Each token that is not good, and why.
    fn bad_tokens(&self) -> Vec<(&'static str, String)> {
        let good = self.issuer.token(json!({"org": "acme"}));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let claims = BASE64.encode(json!({"iss": ISSUER, "aud": "tollgate", "exp": seconds_from_now(600), "sub": "x", "org": "globex"}).to_string());
        let (header, _) = signed.split_once('.').unwrap();
        let none = BASE64.encode(json!({"alg": "none", "typ": "JWT"}).to_string());
        vec![
            ("another signature", Issuer::new().token(json!({"org": "acme"}))),
            ("another's claims", format!("{header}.{claims}.{signature}")),
            ("no signature", format!("{signed}.")),
            ("alg none", format!("{none}.{claims}.")),
            (
                "expired",
                self.issuer
                    .token(json!({"org": "acme", "exp": seconds_from_now(-3600)})),
            ),
            (
                "not yet valid",
                self.issuer
                    .token(json!({"org": "acme", "nbf": seconds_from_now(3600)})),
            ),
            (
                "another issuer",
                self.issuer
                    .token(json!({"org": "acme", "iss": "https://evil.example"})),
            ),
            (
                "another audience",
                self.issuer.token(json!({"org": "acme", "aud": "somebody"})),
            ),
        ]
    }
}

fn over(request: Request, http2: bool) -> Request {
    if http2 { request.http2() } else { request }
}

#[tokio::test]
async fn a_verified_token_is_an_identity() {
    for (rule, forward) in [
        (Rule::Lenient, false),
        (Rule::Lenient, true),
        (Rule::Strict, false),
    ] {
        let stack = Stack::start(rule, forward).await;
        for http2 in [false, true] {
            for (claims, project, tier) in [
                (json!({"org": "acme", "project": "search"}), Some("search"), "pro"),
                // The same caller, with a token of the whole organization.
                (json!({"org": "acme"}), None, "pro"),
                (json!({"org": "globex", "sub": "bob"}), None, "free"),
            ] {
                stack.models.ledger().clear();
                let token = stack.issuer.token(claims.clone());
                let request = over(stack.ask(OPENAI, &token), http2).header("x-tollgate-org", "evil");
                let org = claims["org"].as_str().unwrap();
                let reply = request.send().await.expect(200).has("openai-organization", org);
                let seen = stack.models.seen().remove(0);
                let said = ["org", "project", "tier"].map(|name| seen.header(&format!("x-tollgate-{name}")));
                assert_eq!(said, [Some(org), project, Some(tier)], "{seen:#?}");
                // Who it was, and not by a name that may be a mail address.
                let id = seen.header("x-tollgate-key-id").unwrap();
                assert!(
                    id.starts_with("jwt-") && id.len() == 20 && !id.contains("ada"),
                    "{id}"
                );
                assert!(!format!("{seen:?}").contains(&token), "{seen:#?}");
                let record = stack.gateway.access_log().of(reply.request_id().unwrap()).await;
                assert_eq!(
                    (record.org.as_deref(), record.key_id.as_deref()),
                    (Some(org), Some(id))
                );
                assert!(
                    !stack.gateway.access_log().text().contains(&token)
                        && !stack.gateway.log().contains(&token)
                );
            }
            // Keys are as good as ever.
            over(stack.ask(OPENAI, stack.key.reveal()), http2)
                .send()
                .await
                .expect(200);
            over(stack.gateway.post(OPENAI).json(chat()), http2)
                .send()
                .await
                .expect(401)
                .code("missing_api_key");
        }
        let stats = stack.gateway.stats().await;
        let allowed = "wasmcustom.tollgate_key_auth_requests.decision.allow.reason";
        assert_eq!(
            (
                stats.counter(&format!("{allowed}.token")),
                stats.counter(&format!("{allowed}.api_key"))
            ),
            (6, 2)
        );
        assert_no_vm_broke(&stack.gateway).await;
    }
}

#[tokio::test]
async fn one_that_is_not_good_is_refused_in_the_contracts_words() {
    for rule in [Rule::Lenient, Rule::Strict] {
        let stack = Stack::start(rule, false).await;
        for (what, token) in stack.bad_tokens() {
            for http2 in [false, true] {
                let reply = over(stack.ask(OPENAI, &token), http2).send().await;
                assert_eq!(reply.status, 401, "{what}: {reply:#?}");
                assert!(!reply.text().contains(&token));
                let record = stack.gateway.access_log().of(reply.request_id().unwrap()).await;
                let why = match rule {
                    Rule::Lenient => "tollgate_unknown_key",
                    Rule::Strict => "jwt_authn_access_denied{",
                };
                assert!(
                    record.details.as_deref().unwrap().starts_with(why),
                    "{what}: {record:?}"
                );
                let reply = reply.lacks("openai-organization");
                reply.code("invalid_api_key").kind("invalid_request_error");
                over(stack.ask(ANTHROPIC, &token), http2)
                    .send()
                    .await
                    .expect(401)
                    .anthropic("authentication_error");
            }
        }
        assert_eq!(stack.models.seen().len(), 0);
        assert_no_vm_broke(&stack.gateway).await;
    }
}

#[tokio::test]
async fn a_good_token_is_judged_as_a_key_is() {
    let stack = Stack::start(Rule::Lenient, false).await;
    for (claims, status, code) in [
        (json!({"org": "umbrella"}), 401, "invalid_api_key"),
        (
            json!({"org": "acme", "project": "nowhere"}),
            401,
            "invalid_api_key",
        ),
        (json!({"org": "initech"}), 403, "organization_suspended"),
        (
            json!({"org": "acme", "project": "archive"}),
            403,
            "project_suspended",
        ),
        // Claims that do not say for whom.
        (json!({}), 401, "invalid_api_key"),
        (json!({"org": ""}), 401, "invalid_api_key"),
        (json!({"org": ["acme"]}), 401, "invalid_api_key"),
        (json!({"org": {"name": "acme"}}), 401, "invalid_api_key"),
        (json!({"org": 42}), 401, "invalid_api_key"),
        (json!({"org": true}), 401, "invalid_api_key"),
        (
            json!({"org": "acme", "project": ["search"]}),
            401,
            "invalid_api_key",
        ),
        (json!({"org": "acme", "sub": 42}), 401, "invalid_api_key"),
        (json!({"org": "acme\u{0}search"}), 401, "invalid_api_key"),
    ] {
        let token = stack.issuer.token(claims.clone());
        let reply = stack.ask(OPENAI, &token).send().await;
        assert_eq!(reply.status, status, "{claims}: {reply:#?}");
        reply.code(code).lacks("openai-organization");
    }
    let token = stack.issuer.token(json!({"org": "acme", "project": "search"}));
    for (name, code) in [
        ("openai-organization", "mismatched_organization"),
        ("openai-project", "mismatched_project"),
    ] {
        stack
            .ask(OPENAI, &token)
            .header(name, "other")
            .send()
            .await
            .expect(401)
            .code(code);
    }
    assert_eq!(stack.models.seen().len(), 0);
    assert_no_vm_broke(&stack.gateway).await;
}

#[tokio::test]
async fn a_token_is_worth_nothing_where_it_was_not_verified() {
    for rule in [Rule::Lenient, Rule::Strict] {
        let stack = Stack::start(rule, false).await;
        let token = stack.issuer.token(json!({"org": "globex"}));
        // With a key beside it, nobody can say who asks.
        for name in ["x-api-key", "api-key"] {
            let request = stack.ask(OPENAI, &token).header(name, stack.key.reveal());
            request.send().await.expect(400).code("ambiguous_credentials");
            // In place of a key it is a key that nobody knows.
            let request = stack.gateway.post(OPENAI).json(chat()).header(name, &token);
            request.send().await.expect(401).code("invalid_api_key");
        }
        // What jwt_authn would write is not taken from a client.
        let payload = BASE64.encode(json!({"org": "globex", "sub": "x"}).to_string());
        for name in [
            "tollgate",
            "x-jwt-payload",
            "x-tollgate-identity",
            "metadata",
            "envoy.filters.http.jwt_authn",
        ] {
            let request = stack.gateway.post(OPENAI).json(chat()).header(name, &payload);
            request.send().await.expect(401).code("missing_api_key");
        }
        assert_eq!(stack.models.seen().len(), 0);
        // In a query it is not looked for by a gateway that does not say so; the key decides.
        stack
            .ask(&format!("{OPENAI}?access_token={token}"), stack.key.reveal())
            .send()
            .await;
        for seen in stack.models.seen() {
            assert_eq!(seen.header("x-tollgate-org"), Some("acme"), "{seen:#?}");
        }
        assert_no_vm_broke(&stack.gateway).await;
    }
}
