//! Who is calling, as the filters behind key-auth see it: the filter state `tollgate.identity`.

use serde::{Deserialize, Serialize};

use crate::endpoint::Scopes;

/// The name of the filter state that carries an encoded [`Identity`].
pub const PROPERTY: &str = "tollgate.identity";

/// An authenticated caller. Encoded with postcard, once for each key; a filter that cannot decode it refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Public id of the key, or `jwt-…` for a caller with a token.
    pub key_id: String,
    /// Organisation.
    pub org: String,
    /// Project; `None` for a key of the whole organisation.
    pub project: Option<String>,
    /// Class of service.
    pub tier: String,
    /// What the key may be used for.
    pub scopes: Scopes,
    /// Which models.
    pub models: Grants,
    /// Labels of the organisation and, over them, of the project: name and value, sorted by name.
    pub labels: Vec<(String, String)>,
}

impl Identity {
    /// The bytes of the filter state.
    pub fn encode(&self) -> Vec<u8> {
        // Strings and numbers always encode; empty bytes decode as nothing and are refused downstream.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads what [`Identity::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// Model grants of each level, as glob patterns; a model must be granted by every level that has a list.
///
/// They stay apart because the answer differs: what the organisation lacks does not exist for it (404), what
/// only the project or key lacks is forbidden (403).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// The organisation's; empty grants nothing.
    pub org: Vec<String>,
    /// The project's; `None` inherits.
    pub project: Option<Vec<String>>,
    /// The key's; `None` inherits.
    pub key: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Scope;

    #[test]
    fn survives_the_filter_state() {
        let identity = Identity {
            key_id: "7f3kq9x2mzd4".into(),
            org: "acme".into(),
            project: Some("search".into()),
            tier: "pro".into(),
            scopes: Scopes::of(&[Scope::Chat]),
            models: Grants {
                org: vec!["llama-*".into()],
                project: None,
                key: Some(vec![]),
            },
            labels: vec![("cost_center".into(), "42".into())],
        };
        let bytes = identity.encode();
        assert_eq!(Identity::decode(&bytes), Some(identity));
        for cut in 0..bytes.len() {
            assert_eq!(Identity::decode(&bytes[..cut]), None);
        }
    }
}
