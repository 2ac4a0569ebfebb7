//! A bearer token of our own in a configuration.

use core::fmt;

use serde::{Deserialize, Deserializer};

use super::ConfigError;

/// What a server knows this Envoy by. It is never printed.
pub(crate) struct Token(String);

impl Token {
    /// The value of `authorization`.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// Whatever stands in the place of a token: it is never repeated.
pub(crate) struct RawToken(Option<Token>);

impl RawToken {
    /// The token, if it is one.
    pub(crate) fn check(self) -> Result<Token, ConfigError> {
        self.0.ok_or_else(|| {
            ConfigError::new(
                "token",
                "expected 1 to 1024 visible characters of ASCII; what was found is not repeated here",
            )
        })
    }
}

impl<'de> Deserialize<'de> for RawToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = value.as_str().filter(|text| {
            (1..=1024).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        });
        Ok(Self(text.map(|text| Token(text.to_owned()))))
    }
}
