//! Attempts as plans: what goes, what is set, what is saved, and what becomes of bodies.

use super::*;
use crate::body::{boundary, read_json, read_multipart};
use crate::endpoint::Endpoint;
use proptest::prelude::*;
use serde_json::{Value, json};

fn providers(providers: Value) -> Providers {
    let json = json!({ "providers": providers }).to_string();
    Providers::parse(json.as_bytes()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn errors(providers: Value) -> Vec<String> {
    let json = json!({ "providers": providers }).to_string();
    let errors = Providers::parse(json.as_bytes()).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

/// Envoy's set of headers.
#[derive(Clone, PartialEq, Debug)]
struct Headers(Vec<(String, String)>);

impl Headers {
    fn of(headers: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(headers.iter().map(own).collect())
    }

    fn plan(&self, providers: &Providers, name: &str) -> Result<Attempt, Refusal> {
        let headers: Vec<(&[u8], &[u8])> = self
            .0
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let provider = providers.find(name).ok_or(Refusal::UnknownProvider)?;
        providers.attempt(provider, &headers)
    }

    fn change(&mut self, change: Change<'_>) {
        match change {
            Change::Remove(name) => self.0.retain(|(found, _)| found != name),
            Change::Set(name, value) => {
                self.change(Change::Remove(name));
                self.change(Change::Add(name, value));
            }
            Change::Add(name, value) => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// What an upstream gets, after `attempt` has changed them.
    fn go(&mut self, attempt: &Attempt) {
        for name in attempt.stripped() {
            self.change(Change::Remove(core::str::from_utf8(name).unwrap()));
        }
        for change in attempt.changes() {
            self.change(change);
        }
    }

    fn give_back(&mut self, saved: &SavedHeaders) {
        for change in saved.changes() {
            self.change(change);
        }
    }

    fn get(&self, name: &str) -> Vec<&str> {
        let values = self.0.iter().filter(|(found, _)| found == name);
        values.map(|(_, value)| value.as_str()).collect()
    }

    fn sorted(&self) -> Vec<(String, String)> {
        let mut all = self.0.clone();
        all.sort();
        all
    }
}

fn two() -> Providers {
    providers(json!({
        "local": {},
        "a": {
            "path_prefix": "/api", "authority": "a.example",
            "credential": {"secret": "A_KEY"},
            "headers": {"x-title": "Tollgate"}, "remove_headers": ["x-stainless-*"],
            "allow_headers": ["X-Routing"], "allow_response_headers": ["x-served-model"],
        },
        "b": {"credential": {"secret": "B_KEY", "header": "x-goog-key"}, "share_identity": true},
    }))
}

fn request() -> Headers {
    Headers::of(&[
        (":method", "POST"),
        (":path", "/v1/chat/completions?x=1"),
        (":authority", "gateway.example"),
        ("authorization", "Bearer sk-of-the-client"),
        ("x_api-key", "saved, since no server reads it so"),
        ("x-goog-key", "of-the-client"),
        ("x-title", "Mine"),
        ("x-stainless-lang", "python"),
        ("x-routing", "near"),
        ("x-unheard-of", "1"),
        ("idempotency-key", "1"),
        ("true-client-ip", "192.0.2.1"),
        ("cookie", "a=b"),
        ("x-http-method-override", "DELETE"),
        ("openai-organization", "acme"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-tollgate-org", "acme"),
        ("x-tollgate-model", "llama-70b"),
        ("x-tollgate-secret-a_key", "secret-of-a"),
        ("x-tollgate-secret-b_key", " secret-of-b\n"),
        ("content-length", "10"),
        ("accept", "a"),
        ("accept", "b"),
    ])
}

#[test]
fn a_provider_gets_its_own_and_no_more() {
    let providers = two();
    let mut headers = request();
    headers.go(&headers.plan(&providers, "a").unwrap());
    for (name, values) in [
        (":path", &["/api/v1/chat/completions?x=1"][..]),
        (":authority", &["a.example"]),
        ("authorization", &["Bearer secret-of-a"]),
        ("x-title", &["Tollgate"]),
        ("accept", &["a", "b"]),
        ("x-stainless-lang", &[]),
        ("x-routing", &["near"]),
        ("x-unheard-of", &[]),
        ("idempotency-key", &[]),
        ("true-client-ip", &[]),
        ("cookie", &[]),
        ("x-http-method-override", &[]),
        ("openai-organization", &[]),
        ("x-forwarded-for", &[]),
        ("x-tollgate-org", &[]),
        ("x-goog-key", &[]),
    ] {
        assert_eq!(headers.get(name), values, "{name}");
    }
    assert!(
        !headers
            .0
            .iter()
            .any(|(name, value)| name.starts_with("x-tollgate") || value.contains("secret-of-b"))
    );
}

#[test]
fn a_provider_says_of_its_answer_what_is_known_and_allowed() {
    let providers = two();
    let says =
        |provider: &str, name: &str| providers.all[providers.find(provider).unwrap()].says(name.as_bytes());
    for name in [":status", "content-type", "retry-after", "x-served-model"] {
        assert!(says("a", name), "{name}");
    }
    for name in [
        "set-cookie",
        "x-request-id",
        "openai-organization",
        "server",
        "x-unheard-of",
        "cf-ray",
    ] {
        assert!(!says("a", name) && says("local", name), "{name}");
    }
    assert!(!says("b", "x-served-model"), "said for another");
}

#[test]
fn one_of_our_own_keeps_all_but_credentials() {
    let providers = two();
    let mut headers = request();
    let attempt = headers.plan(&providers, "local").unwrap();
    headers.go(&attempt);
    let gone = [
        "true-client-ip",
        "cookie",
        "x-http-method-override",
        "authorization",
        "x-goog-key",
        "x-tollgate-secret-a_key",
        "x-tollgate-secret-b_key",
    ];
    let left = request()
        .0
        .into_iter()
        .filter(|(name, _)| !gone.contains(&name.as_str()));
    assert_eq!(headers.0, left.collect::<Vec<_>>());
}

#[test]
fn identity_is_shared_where_an_operator_says_so() {
    let providers = two();
    let mut headers = request();
    headers.go(&headers.plan(&providers, "b").unwrap());
    assert_eq!(headers.get("x-goog-key"), ["secret-of-b"]);
    assert_eq!(
        (headers.get("x-tollgate-org"), headers.get("authorization")),
        (vec!["acme"], vec![])
    );
}

#[test]
fn what_was_lent_comes_back_and_no_credential_with_it() {
    let providers = two();
    let mut headers = request();
    let mut attempt = headers.plan(&providers, "a").unwrap();
    attempt.resized(99);
    headers.go(&attempt);
    assert_eq!(headers.get("content-length"), ["99"]);
    let state = attempt.saved().encode();
    headers.give_back(&SavedHeaders::decode(&state).unwrap());
    let secret = |name: &str| {
        name.starts_with("x-tollgate-secret-") || ["authorization", "x-goog-key"].contains(&name)
    };
    let expected = Headers(
        request()
            .0
            .into_iter()
            .filter(|(name, _)| !secret(name))
            .collect(),
    );
    assert_eq!(headers.sorted(), expected.sorted());
    let state = String::from_utf8_lossy(&state);
    assert!(
        !state.contains("secret-of") && !state.contains("of-the-client"),
        "{state}"
    );
    assert_eq!(SavedHeaders::decode(b"\xff\xff"), None);
    assert_eq!(SavedHeaders::decode(&[0, 0]), None);
}

#[test]
fn no_secret_no_attempt() {
    let providers = two();
    for value in ["", "-", "  ", "two words", "line\nbreak", "sécret"] {
        let mut headers = request();
        headers.change(Change::Set("x-tollgate-secret-a_key", value));
        assert_eq!(
            headers.plan(&providers, "a").err(),
            Some(Refusal::MissingSecret),
            "{value:?}"
        );
        assert!(headers.plan(&providers, "local").is_ok());
    }
    let mut headers = request();
    headers.change(Change::Remove("x-tollgate-secret-a_key"));
    assert_eq!(headers.plan(&providers, "a").err(), Some(Refusal::MissingSecret));
    for (value, missing) in [("another", true), ("secret-of-a", false)] {
        let mut headers = request();
        headers.change(Change::Add("x-tollgate-secret-a_key", value));
        assert_eq!(headers.plan(&providers, "a").is_err(), missing, "{value}");
    }
    assert_eq!(
        request().plan(&providers, "nobody").err(),
        Some(Refusal::UnknownProvider)
    );
}

#[test]
fn every_refusal_has_its_reason_and_shows_no_more_than_it_may() {
    let malformed = read_json(Endpoint::Chat, b"{").unwrap_err();
    let all = [
        Refusal::NoProvider,
        Refusal::UnknownProvider,
        Refusal::MissingSecret,
        Refusal::Malformed(malformed),
        Refusal::Misconfigured,
    ];
    assert_eq!(&all.each_ref().map(Refusal::reason)[..], Reason::ALL);
    let statuses = all.each_ref().map(|refusal| refusal.answer().status);
    assert_eq!(statuses, [500, 500, 500, 400, 500]);
}

#[test]
fn a_wrong_configuration_says_where_and_why() {
    for (provider, said) in [
        (
            json!({"path_prefix": "api"}),
            "providers.p.path_prefix: found `api`, expected a path such as",
        ),
        (
            json!({"path_prefix": "/api/"}),
            "providers.p.path_prefix: found `/api/`",
        ),
        (
            json!({"path_prefix": "/a?b"}),
            "providers.p.path_prefix: found `/a?b`",
        ),
        (
            json!({"authority": "https://x"}),
            "providers.p.authority: found `https://x`, expected a host name",
        ),
        (json!({"authority": ""}), "providers.p.authority: found ``"),
        (
            json!({"credential": {}}),
            "providers.p.credential: missing field `secret`",
        ),
        (
            json!({"credential": {"secret": "A", "value": "x"}}),
            "providers.p.credential.value: unknown field `value`",
        ),
        (
            json!({"credential": {"secret": "A", "header": "Host"}}),
            "providers.p.credential.header: found `host`",
        ),
        (
            json!({"credential": {"secret": "A", "prefix": "a\nb"}}),
            "providers.p.credential.prefix: found `a\\nb`",
        ),
        (
            json!({"headers": {"Authorization": "Bearer x"}}),
            "providers.p.headers.Authorization: would show a secret",
        ),
        (
            json!({"headers": {"x": "a\rb"}}),
            "providers.p.headers.x: found `a\\rb`",
        ),
        (
            json!({"headers": {":path": "/"}}),
            "providers.p.headers.:path: found `:path`",
        ),
        (
            json!({"headers": {"content-length": "1"}}),
            "providers.p.headers.content-length: found",
        ),
        (
            json!({"remove_headers": ["x", "a b"]}),
            "providers.p.remove_headers[1]: found `a b`",
        ),
        (
            json!({"remove_headers": ["*"]}),
            "providers.p.remove_headers[0]: found `*`",
        ),
        (
            json!({"allow_headers": ["x-*"], "credential": {"secret": "A"}}),
            "providers.p.allow_headers[0]: found `x-*`, expected the name of a header",
        ),
        (
            json!({"allow_headers": ["Cookie"], "credential": {"secret": "A"}}),
            "providers.p.allow_headers[0]: found `cookie`, expected a header that may pass",
        ),
        (
            json!({"allow_headers": ["authorization"], "credential": {"secret": "A"}}),
            "providers.p.allow_headers[0]: found `authorization`, expected a header that may pass",
        ),
        (
            json!({"allow_response_headers": ["a", "x-ratelimit-limit-requests"], "credential": {"secret": "A"}}),
            "providers.p.allow_response_headers[1]: found `x-ratelimit-limit-requests`",
        ),
        (
            json!({"allow_response_headers": ["x-a"]}),
            "providers.p.allow_response_headers[0]: found `x-a`, expected a `credential`",
        ),
        (json!({"models": {"a": ""}}), "providers.p.models.a: found ``"),
        (json!({"model": {}}), "providers.p.model: unknown field `model`"),
        (
            json!("x"),
            "providers.p: invalid type: string \"x\", expected a provider",
        ),
    ] {
        let errors = errors(json!({ "p": provider }));
        assert!(errors.len() == 1 && errors[0].starts_with(said), "{errors:?}");
    }
    assert_eq!(
        errors(json!({})),
        ["providers: is empty, so no endpoint could be asked"]
    );
    for name in ["none", "", "a b", "a.b"] {
        assert_eq!(errors(json!({ name: {} })).len(), 1, "{name}");
    }
    let both = errors(json!({"a": {"path_prefix": "x"}, "b": {"authority": "/", "models": {"a": "b*"}}}));
    assert_eq!(both.len(), 3, "{both:?}");
}

#[test]
fn a_pasted_secret_is_not_shown() {
    let pasted = "sk-or-v1-0123456789012345678901234567890123456789012345678901234567890123";
    let errors = errors(json!({"p": {"credential": {"secret": pasted}}}));
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].contains("not the secret") && !errors[0].contains("0123"),
        "{errors:?}"
    );
}

#[test]
fn a_body_is_looked_at_only_where_it_could_change() {
    let providers = providers(json!({"local": {}, "maps": {"models": {"a": "b"}}}));
    let looks = |headers: &[(&str, &str)], name: &str| {
        Headers::of(headers)
            .plan(&providers, name)
            .unwrap()
            .looks_at_body()
    };
    assert!(!looks(&[(":path", "/")], "local"));
    assert!(looks(&[(":path", "/"), ("x-tollgate-model", "a")], "local"));
    assert!(looks(&[(":path", "/")], "maps"));
    let attempt = Headers::of(&[(":path", "/")]).plan(&providers, "local").unwrap();
    assert_eq!(providers.rename(&attempt, b"{not json"), Ok(None));
}

/// The body as it goes on.
fn renamed(providers: &Providers, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let attempt = Headers::of(headers).plan(providers, "p").unwrap();
    match providers.rename(&attempt, body).unwrap() {
        None => body.to_vec(),
        Some(rename) => {
            let (before, behind) = rename.around(body);
            [before, &rename.text, behind].concat()
        }
    }
}

#[test]
fn the_routers_name_counts_and_else_the_clients() {
    let providers = providers(json!({"p": {"models": {"llama-70b": "meta/\"llama\"", "alias": "wrong"}}}));
    let body = br#"{"messages":[{"model":"alias"}], "model" : "alias" ,"x":1}"#;
    assert_eq!(
        renamed(&providers, &[("x-tollgate-model", "llama-70b")], body),
        br#"{"messages":[{"model":"alias"}], "model" : "meta/\"llama\"" ,"x":1}"#
    );
    assert_eq!(
        renamed(&providers, &[], br#"{"model":"llama\u002d70b"}"#),
        br#"{"model":"meta/\"llama\""}"#
    );
    // Of another spelling only: it stays as it is.
    let same = br#"{"model":"m\u0065ta/\"llama\""}"#;
    assert_eq!(
        renamed(&providers, &[("x-tollgate-model", "llama-70b")], same),
        same
    );
    for without in [&b"{}"[..], br#"{"model":null}"#] {
        assert_eq!(
            renamed(&providers, &[("x-tollgate-model", "llama-70b")], without),
            without
        );
    }
}

#[test]
fn an_answer_is_named_as_the_router_does_where_the_provider_has_another_name() {
    let providers = providers(json!({"p": {"models": {"llama-70b": "meta/llama", "same": "same"}}}));
    for (model, name) in [("llama-70b", Some("llama-70b")), ("same", None), ("other", None)] {
        let attempt = Headers::of(&[("x-tollgate-model", model)])
            .plan(&providers, "p")
            .unwrap();
        assert_eq!(providers.answers_as(&attempt), name);
    }
    let attempt = Headers::of(&[]).plan(&providers, "p").unwrap();
    assert_eq!(providers.answers_as(&attempt), None);
}

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parts {
        body.extend(format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").bytes());
        body.extend(*value);
        body.extend(b"\r\n");
    }
    body.extend(b"--XX--\r\n");
    body
}

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=XX");

#[test]
fn what_cannot_be_read_is_not_passed_on() {
    let providers = providers(json!({"p": {"models": {"a": "b"}}}));
    let attempt = |headers: &[(&str, &str)]| Headers::of(headers).plan(&providers, "p").unwrap();
    for body in [
        &br#"{"model":"a","model":"a"}"#[..],
        b"",
        b"[]",
        b"{\"model\":\"\xff\"}",
    ] {
        assert!(providers.rename(&attempt(&[]), body).is_err());
    }
    let twice = form(&[("model", b"a"), ("model", b"a")]);
    assert!(providers.rename(&attempt(&[FORM]), &twice).is_err());
    // Without a boundary it is read as JSON, which it is not.
    assert!(
        providers
            .rename(&attempt(&[("content-type", "multipart/form-data")]), &twice)
            .is_err()
    );
}

fn name() -> impl Strategy<Value = String> {
    "[ -~é\u{1f600}]{1,24}".prop_filter("no pattern", |name| !name.contains('*'))
}

proptest! {
    /// JSON: what the provider reads is the document with another model, byte for byte but for the name.
    #[test]
    fn in_json_only_the_name_changes(
        alias in name(), provided in name(), before in "x[a-z]{0,9}", text in ".{0,40}", pretty in any::<bool>(),
    ) {
        let providers = providers(json!({"p": {"models": {"canonical": provided}}}));
        let mut tree = json!({before: {"model": text}, "z": [1.5, null, text]});
        tree["model"] = json!(alias);
        let body = if pretty { serde_json::to_string_pretty(&tree) } else { serde_json::to_string(&tree) }.unwrap();
        let new = renamed(&providers, &[("x-tollgate-model", "canonical")], body.as_bytes());
        tree["model"] = json!(provided);
        prop_assert_eq!(&serde_json::from_slice::<Value>(&new).unwrap(), &tree);
        let old_span = read_json(Endpoint::Chat, body.as_bytes()).unwrap().model_span.unwrap();
        let new_span = read_json(Endpoint::Chat, &new).unwrap().model_span.unwrap();
        prop_assert_eq!(&new[..new_span.start], &body.as_bytes()[..old_span.start]);
        prop_assert_eq!(&new[new_span.end..], &body.as_bytes()[old_span.end..]);
    }

    #[test]
    fn in_a_form_only_the_name_changes(
        alias in "[a-z0-9-]{1,20}", provided in name(), file in proptest::collection::vec(any::<u8>(), 0..300),
        first in any::<bool>(),
    ) {
        prop_assume!(memchr::memmem::find(&file, b"--XX").is_none());
        let providers = providers(json!({"p": {"models": {"canonical": provided}}}));
        let parts = |model: &str| {
            let mut parts = [("model", model.as_bytes().to_vec()), ("file", file.clone())];
            if !first { parts.reverse() }
            let parts: Vec<(&str, &[u8])> = parts.iter().map(|(name, value)| (*name, value.as_slice())).collect();
            form(&parts)
        };
        let new = renamed(&providers, &[("x-tollgate-model", "canonical"), FORM], &parts(&alias));
        prop_assert_eq!(&new, &parts(&provided));
        let read = read_multipart(Endpoint::Transcriptions, &new, boundary(FORM.1).unwrap()).unwrap();
        prop_assert_eq!(read.model.as_deref(), Some(provided.as_str()));
    }

    /// Any two attempts, one after the other: the second sees what it would have seen alone.
    #[test]
    fn an_attempt_leaves_no_trace(first in 0..3_usize, second in 0..3_usize, given_back in any::<bool>()) {
        let providers = two();
        let names = ["local", "a", "b"];
        let secrets = [("x-tollgate-secret-a_key", "secret-of-a"), ("x-tollgate-secret-b_key", "secret-of-b")];
        let mut alone = request();
        alone.go(&alone.plan(&providers, names[second]).unwrap());

        let mut headers = request();
        let attempt = headers.plan(&providers, names[first]).unwrap();
        headers.go(&attempt);
        if given_back {
            headers.give_back(attempt.saved());
        }
        // The next attempt: Envoy puts the secrets in again, the adapter gives back what the state says.
        for (name, secret) in secrets {
            headers.change(Change::Set(name, secret));
        }
        headers.give_back(&SavedHeaders::decode(&attempt.saved().encode()).unwrap());
        headers.go(&headers.plan(&providers, names[second]).unwrap());
        prop_assert_eq!(headers.sorted(), alone.sorted());
    }

    #[test]
    fn no_configuration_panics(json in ".{0,60}") {
        let _ = Providers::parse(json.as_bytes());
    }
}
