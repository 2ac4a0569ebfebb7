//! The configuration of the member.

use serde::Deserialize;

use crate::config::{ConfigError, RawToken, Token, from_json};

/// Where the control plane is.
pub struct Config {
    /// Envoy cluster of the control plane.
    pub cluster: String,
    /// `:authority` of messages.
    authority: String,
    /// Path of messages.
    path: String,
    /// Path of messages about budgets.
    budgets_path: String,
    /// What the control plane knows this Envoy by.
    token: Option<Token>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFleet {
    cluster: String,
    authority: Option<String>,
    #[serde(default = "path")]
    path: String,
    #[serde(default = "budgets_path")]
    budgets_path: String,
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    token: Option<RawToken>,
}

fn path() -> String {
    "/v1/fleet".to_owned()
}

fn budgets_path() -> String {
    "/v1/budgets/exchange".to_owned()
}

#[cfg(feature = "schema")]
crate::config::schema::stands_for!(Config => RawFleet);

impl Config {
    /// Reads the member's configuration; all that is wrong with it is reported.
    pub fn parse(json: &[u8]) -> Result<Self, Vec<ConfigError>> {
        let raw: RawFleet = from_json(json).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        for (member, path) in [("path", &raw.path), ("budgets_path", &raw.budgets_path)] {
            if !path.starts_with('/') {
                let expected = "a path that begins with `/`";
                errors.push(ConfigError::expected(member, path, expected));
            }
        }
        if raw.cluster.is_empty() {
            let expected = "the name of an Envoy cluster";
            errors.push(ConfigError::expected("cluster", "", expected));
        }
        let token = raw.token.map(RawToken::check).transpose();
        let token = token.map_err(|error| errors.push(error)).unwrap_or_default();
        match errors.is_empty() {
            true => Ok(Self {
                authority: raw.authority.unwrap_or_else(|| raw.cluster.clone()),
                cluster: raw.cluster,
                path: raw.path,
                budgets_path: raw.budgets_path,
                token,
            }),
            false => Err(errors),
        }
    }

    /// The headers of a message, by names and values.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        self.headers_to(&self.path)
    }

    /// The same of a message about budgets.
    pub fn budget_headers(&self) -> Vec<(&'static str, String)> {
        self.headers_to(&self.budgets_path)
    }

    fn headers_to(&self, path: &str) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            (":method", "POST".to_owned()),
            (":path", path.to_owned()),
            (":authority", self.authority.clone()),
            ("content-type", "application/json".to_owned()),
            ("accept", "application/json".to_owned()),
        ];
        headers.extend(self.token.as_ref().map(|token| ("authorization", token.bearer())));
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Config, Vec<String>> {
        Config::parse(json.as_bytes()).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_cluster_is_enough() {
        let headers = parse(r#"{"cluster": "control"}"#)
            .map(|config| config.headers())
            .unwrap();
        let header = |name: &str| {
            let found = headers.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(header(":path"), Some("/v1/fleet"));
        let of_budgets = parse(r#"{"cluster": "control"}"#)
            .map(|config| config.budget_headers())
            .unwrap();
        assert!(of_budgets.contains(&(":path", "/v1/budgets/exchange".to_owned())));
        assert_eq!(header(":authority"), Some("control"));
        assert_eq!(header("authorization"), None);
        let known =
            parse(r#"{"cluster": "control", "authority": "tollgate", "token": "tg-token-x"}"#).unwrap();
        assert!(
            known
                .headers()
                .contains(&("authorization", "Bearer tg-token-x".to_owned()))
        );
    }

    #[test]
    fn each_mistake_has_its_path_and_no_token_is_repeated() {
        let wrong = parse(r#"{"cluster": "", "path": "fleet", "token": "a b"}"#).map(drop);
        assert_eq!(
            wrong.unwrap_err(),
            [
                "path: found `fleet`, expected a path that begins with `/`",
                "cluster: found ``, expected the name of an Envoy cluster",
                "token: expected 1 to 1024 visible characters of ASCII; what was found is not repeated here",
            ]
        );
    }
}
