//! Providers as an operator writes them, and the check of each part.

use core::fmt;
use std::collections::BTreeSet;

use serde::Deserialize;

use super::names::ModelNames;
use super::provider::{CLIENT_CREDENTIALS, Credential, Provider, Providers};
use crate::config::{ConfigError, Map, from_json};
use crate::headers::{begins, ends_here, is_not_a_models, tells_limits};

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProviders {
    providers: Map<RawProvider>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a provider")]
#[derive(Default)]
struct RawProvider {
    models: Map<String>,
    path_prefix: String,
    authority: Option<String>,
    credential: Option<RawCredential>,
    headers: Map<String>,
    remove_headers: Vec<String>,
    allow_headers: Vec<String>,
    allow_response_headers: Vec<String>,
    share_identity: Option<bool>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a credential")]
struct RawCredential {
    secret: String,
    header: Option<String>,
    prefix: Option<String>,
}

#[cfg(feature = "schema")]
crate::config::schema::stands_for!(Providers => RawProviders);

impl Providers {
    /// Reads a configuration; all that is wrong with it is reported.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let raw: RawProviders = from_json(json).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        if raw.providers.0.is_empty() {
            errors.push(ConfigError::new(
                "providers",
                "is empty, so no endpoint could be asked",
            ));
        }
        let mut all = Vec::new();
        for (name, raw) in raw.providers.0 {
            let path = format!("providers.{name}");
            let mut check = Check {
                path: &path,
                errors: &mut errors,
            };
            all.push(check.provider(name.clone(), raw));
        }
        let theirs = all
            .iter()
            .filter_map(|provider| Some(provider.credential.as_ref()?.header.clone()));
        let mut credentials: Vec<String> = CLIENT_CREDENTIALS.map(String::from).into();
        credentials.extend(theirs);
        credentials.sort();
        credentials.dedup();
        if errors.is_empty() {
            Ok(Self { all, credentials })
        } else {
            Err(errors)
        }
    }
}

struct Check<'a> {
    path: &'a str,
    errors: &'a mut Vec<ConfigError>,
}

impl Check<'_> {
    fn provider(&mut self, name: String, raw: RawProvider) -> Provider {
        // It is a part of metrics' names; `none` counts what has no provider.
        if !label(&name, 64) || name == "none" {
            self.errors.push(ConfigError::expected(
                self.path,
                &name,
                "another name than `none`, of 1 to 64 characters of `A-Z a-z 0-9 _ -`",
            ));
        }
        let names = ModelNames::new(raw.models.0).unwrap_or_else(|errors| {
            let path = format!("{}.models", self.path);
            self.errors
                .extend(errors.into_iter().map(|error| error.under(&path)));
            ModelNames::default()
        });
        if !is_prefix(&raw.path_prefix) {
            self.wrong(
                "path_prefix",
                &raw.path_prefix,
                "a path such as `/api`: `/` at its beginning, none at its end, no query",
            );
        }
        if let Some(authority) = raw
            .authority
            .as_ref()
            .filter(|authority| !is_authority(authority))
        {
            self.wrong("authority", authority, "a host name, with or without a port");
        }
        let credential = raw.credential.map(|credential| self.credential(credential));
        let has_credential = credential.is_some();
        Provider {
            headers: self.headers(raw.headers),
            remove: self.remove(raw.remove_headers),
            allow: self.allow("allow_headers", raw.allow_headers, has_credential, |name| {
                !ends_here(name) && !CLIENT_CREDENTIALS.iter().any(|known| known.as_bytes() == name)
            }),
            allow_answer: self.allow(
                "allow_response_headers",
                raw.allow_response_headers,
                has_credential,
                |name| !is_not_a_models(name) && !tells_limits(name),
            ),
            // One that needs a credential is somebody else's.
            share_identity: raw.share_identity.unwrap_or(credential.is_none()),
            name,
            names,
            path_prefix: raw.path_prefix,
            authority: raw.authority,
            credential,
        }
    }

    fn credential(&mut self, raw: RawCredential) -> Credential {
        // What stands there may be the secret itself, so it is not shown.
        if !label(&raw.secret, 48) {
            let problem =
                "expected the name of a secret (not the secret), of 1 to 48 characters of `A-Z a-z 0-9 _ -`";
            self.errors.push(ConfigError::new(
                format!("{}.credential.secret", self.path),
                problem,
            ));
        }
        let header = raw
            .header
            .unwrap_or_else(|| "authorization".into())
            .to_ascii_lowercase();
        if !is_name(&header) || is_framing(&header) || header.starts_with("x-tollgate-") {
            self.wrong(
                "credential.header",
                &header,
                "the name of a header that holds a credential",
            );
        }
        let bearer = if header == "authorization" { "Bearer " } else { "" };
        let prefix = raw.prefix.unwrap_or_else(|| bearer.into());
        if !is_value(&prefix) {
            self.wrong("credential.prefix", &prefix, "text without control characters");
        }
        Credential {
            from: format!("x-tollgate-secret-{}", raw.secret.to_ascii_lowercase()),
            secret: raw.secret,
            header,
            prefix,
        }
    }

    fn headers(&mut self, raw: Map<String>) -> Vec<(String, String)> {
        let mut known = BTreeSet::new();
        let headers = raw.0.into_iter().map(|(name, value)| {
            let place = format!("headers.{name}");
            let name = name.to_ascii_lowercase();
            if !known.insert(name.clone()) {
                self.wrong(&place, &name, "each header once, in capitals or not");
            }
            if CLIENT_CREDENTIALS.contains(&name.as_str()) {
                let problem = "would show a secret to whoever reads the configuration: use `credential`";
                self.errors
                    .push(ConfigError::new(format!("{}.{place}", self.path), problem));
            } else if !is_name(&name) || is_framing(&name) {
                self.wrong(&place, &name, "a header that may be set");
            } else if !is_value(&value) {
                self.wrong(&place, &value, "text without control characters");
            }
            (name, value)
        });
        headers.collect()
    }

    fn remove(&mut self, raw: Vec<String>) -> Vec<String> {
        let patterns = raw.into_iter().enumerate().map(|(at, pattern)| {
            let pattern = pattern.to_ascii_lowercase();
            let needed = [
                "content-length",
                "transfer-encoding",
                "content-type",
                "x-request-id",
            ];
            let takes_needed = needed.iter().any(|name| crate::glob::fits(&pattern, name));
            if !is_name(&pattern.replace('*', "x")) || takes_needed {
                self.wrong(
                    &format!("remove_headers[{at}]"),
                    &pattern,
                    "a header's name, with or without `*`, and none that every request needs",
                );
            }
            pattern
        });
        patterns.collect()
    }

    fn allow(
        &mut self,
        field: &str,
        raw: Vec<String>,
        has_credential: bool,
        may_pass: impl Fn(&[u8]) -> bool,
    ) -> Vec<String> {
        let names = raw.into_iter().enumerate().map(|(at, name)| {
            let name = name.to_ascii_lowercase();
            let place = format!("{field}[{at}]");
            if !is_name(&name) || is_framing(&name) || name.contains('*') {
                self.wrong(&place, &name, "the name of a header, without `*`");
            } else if !may_pass(name.as_bytes()) || begins(name.as_bytes(), "x-tollgate-secret-") {
                self.wrong(&place, &name, "a header that may pass the gateway at all");
            } else if !has_credential {
                self.wrong(&place, &name, "a `credential`: without one all such headers pass");
            }
            name
        });
        names.collect()
    }

    fn wrong(&mut self, place: &str, found: impl fmt::Display, expected: &str) {
        self.errors.push(ConfigError::expected(
            format!("{}.{place}", self.path),
            found,
            expected,
        ));
    }
}

fn label(text: &str, most: usize) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    (1..=most).contains(&text.len()) && text.bytes().all(plain)
}

/// A header's name, in lower case.
fn is_name(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&c);
    (1..=128).contains(&name.len()) && name.bytes().all(allowed)
}

/// Headers that frame a message, or have a field of their own here.
fn is_framing(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    NAMES.contains(&name)
}

fn is_value(value: &str) -> bool {
    value.len() <= 4096 && value.bytes().all(|c| c == b' ' || c.is_ascii_graphic())
}

fn is_prefix(prefix: &str) -> bool {
    let plain = |c: u8| c.is_ascii_graphic() && c != b'?' && c != b'#';
    prefix.is_empty() || (prefix.starts_with('/') && !prefix.ends_with('/') && prefix.bytes().all(plain))
}

fn is_authority(authority: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b".-_:[]".contains(&c);
    (1..=255).contains(&authority.len()) && authority.bytes().all(plain)
}
