//! The endpoints served, and the scope that a key needs for each.

use serde::{Deserialize, Serialize};

/// Which API's manners an answer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's: `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// Anthropic's: `{"type": "error", "error": {"type", "message"}, "request_id"}`.
    Anthropic,
}

impl Dialect {
    /// The dialect of a path: Anthropic's for `/v1/messages` and what is below it.
    pub fn of(path: &[u8]) -> Self {
        match without_query(path).strip_prefix(b"/v1/messages") {
            Some([] | [b'/', ..]) => Self::Anthropic,
            _ => Self::OpenAi,
        }
    }
}

/// What a key may be used for.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Chat, completions, responses and Anthropic's messages.
    Chat,
    /// Embeddings.
    Embeddings,
    /// Moderations.
    Moderations,
    /// Image generation and edits.
    Images,
    /// Speech, transcriptions and translations.
    Audio,
    /// Listing models.
    Models,
}

impl Scope {
    /// Every scope, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Chat,
        Self::Embeddings,
        Self::Moderations,
        Self::Images,
        Self::Audio,
        Self::Models,
    ];

    /// Its name in the directory and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
            Self::Moderations => "moderations",
            Self::Images => "images",
            Self::Audio => "audio",
            Self::Models => "models",
        }
    }

    /// The scope that `path` asks for; `None` where no endpoint is known there.
    ///
    /// The match is exact: a path that only a later normalisation would turn into an endpoint is unknown here,
    /// and a key with limited scopes is refused on it.
    pub fn of(path: &[u8]) -> Option<Self> {
        Endpoint::of(path).map(Endpoint::scope)
    }
}

/// What a path asks for.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`, Anthropic's
    Messages,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/moderations`
    Moderations,
    /// `/v1/images/generations`
    ImagesGenerations,
    /// `/v1/images/edits`, multipart
    ImagesEdits,
    /// `/v1/audio/speech`
    Speech,
    /// `/v1/audio/transcriptions`, multipart
    Transcriptions,
    /// `/v1/audio/translations`, multipart
    Translations,
    /// `/v1/models` and `/v1/models/{id}`
    Models,
}

impl Endpoint {
    /// Whose API it is of.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Messages => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }

    /// Whether its answers may have tokens that a model writes.
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Embeddings | Self::Moderations | Self::Models)
    }

    /// The endpoint at `path`, which may have a query.
    pub fn of(path: &[u8]) -> Option<Self> {
        Some(match without_query(path).strip_prefix(b"/v1/")? {
            b"chat/completions" => Self::Chat,
            b"completions" => Self::Completions,
            b"responses" => Self::Responses,
            b"messages" => Self::Messages,
            b"embeddings" => Self::Embeddings,
            b"moderations" => Self::Moderations,
            b"images/generations" => Self::ImagesGenerations,
            b"images/edits" => Self::ImagesEdits,
            b"audio/speech" => Self::Speech,
            b"audio/transcriptions" => Self::Transcriptions,
            b"audio/translations" => Self::Translations,
            b"models" => Self::Models,
            other => match other.strip_prefix(b"models/")? {
                [] => return None,
                id if climbs(id) => return None,
                _ => Self::Models,
            },
        })
    }

    /// Its path; of the list of models, where it has several.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::Embeddings => "/v1/embeddings",
            Self::Moderations => "/v1/moderations",
            Self::ImagesGenerations => "/v1/images/generations",
            Self::ImagesEdits => "/v1/images/edits",
            Self::Speech => "/v1/audio/speech",
            Self::Transcriptions => "/v1/audio/transcriptions",
            Self::Translations => "/v1/audio/translations",
            Self::Models => "/v1/models",
        }
    }

    /// Its name in configurations and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Embeddings => "embeddings",
            Self::Moderations => "moderations",
            Self::ImagesGenerations => "images_generations",
            Self::ImagesEdits => "images_edits",
            Self::Speech => "speech",
            Self::Transcriptions => "transcriptions",
            Self::Translations => "translations",
            Self::Models => "models",
        }
    }

    /// The scope that it needs.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Chat | Self::Completions | Self::Responses | Self::Messages => Scope::Chat,
            Self::Embeddings => Scope::Embeddings,
            Self::Moderations => Scope::Moderations,
            Self::ImagesGenerations | Self::ImagesEdits => Scope::Images,
            Self::Speech | Self::Transcriptions | Self::Translations => Scope::Audio,
            Self::Models => Scope::Models,
        }
    }

    /// Whether its bodies are multipart forms instead of JSON.
    pub const fn is_multipart(self) -> bool {
        matches!(
            self,
            Self::ImagesEdits | Self::Transcriptions | Self::Translations
        )
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope, and every path besides the known endpoints: a key without `scopes`.
    pub const UNRESTRICTED: Self = Self(u8::MAX);

    /// Just these.
    pub fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | 1 << *scope as u8))
    }

    /// Whether `scope` is covered; `None` is a path that is no known endpoint.
    pub fn allow(self, scope: Option<Scope>) -> bool {
        match scope {
            Some(scope) => self.0 & 1 << scope as u8 != 0,
            None => self == Self::UNRESTRICTED,
        }
    }
}

/// Whether a normalising server could read another path out of this one. Model names may hold slashes.
fn climbs(id: &[u8]) -> bool {
    let dots = |pair: &[u8]| pair == b"..";
    let encoded = |three: &[u8]| three.eq_ignore_ascii_case(b"%2e");
    id.windows(2).any(dots) || id.windows(3).any(encoded) || id.contains(&b'\\')
}

pub(crate) fn without_query(path: &[u8]) -> &[u8] {
    let end = memchr::memchr2(b'?', b'#', path).unwrap_or(path.len());
    path.get(..end).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_called_the_same_everywhere() {
        for path in [
            "chat/completions",
            "completions",
            "responses",
            "messages",
            "embeddings",
            "moderations",
            "images/generations",
            "images/edits",
            "audio/speech",
            "audio/transcriptions",
            "audio/translations",
            "models",
        ] {
            let endpoint = Endpoint::of(format!("/v1/{path}").as_bytes()).unwrap();
            assert_eq!(endpoint.path(), format!("/v1/{path}"));
            assert_eq!(serde_json::to_value(endpoint).unwrap(), endpoint.name());
        }
    }

    #[test]
    fn each_endpoint_has_a_scope() {
        for (path, scope) in [
            ("/v1/chat/completions", Scope::Chat),
            ("/v1/chat/completions?x=1", Scope::Chat),
            ("/v1/messages", Scope::Chat),
            ("/v1/embeddings", Scope::Embeddings),
            ("/v1/images/edits", Scope::Images),
            ("/v1/audio/translations", Scope::Audio),
            ("/v1/models", Scope::Models),
            ("/v1/models/llama-70b", Scope::Models),
        ] {
            assert_eq!(Scope::of(path.as_bytes()), Some(scope), "{path}");
        }
    }

    #[test]
    fn what_is_not_exactly_an_endpoint_has_none() {
        for path in [
            "",
            "/",
            "/v1",
            "/v1/",
            "/v2/models",
            "/v1/chat",
            "/v1/models/",
            "/v1//models",
            "/V1/models",
            "/v1/chat/completions/",
            "/x/v1/models",
            "/v1/models/../chat/completions",
            "/v1/models/%2E%2e/embeddings",
            "/v1/models/x\\..\\embeddings",
        ] {
            assert_eq!(Scope::of(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn a_limited_key_does_not_reach_unknown_paths() {
        let chat = Scopes::of(&[Scope::Chat]);
        assert!(chat.allow(Some(Scope::Chat)));
        assert!(!chat.allow(Some(Scope::Models)));
        assert!(!chat.allow(None));
        assert!(!Scopes::of(&Scope::ALL).allow(None));
        assert!(Scopes::UNRESTRICTED.allow(None));
    }

    #[test]
    fn only_messages_speaks_anthropic() {
        assert_eq!(Dialect::of(b"/v1/messages?beta=true"), Dialect::Anthropic);
        assert_eq!(Dialect::of(b"/v1/messages/count_tokens"), Dialect::Anthropic);
        assert_eq!(Dialect::of(b"/v1/messagesx"), Dialect::OpenAi);
        assert_eq!(Dialect::of(b"/v1/chat/completions"), Dialect::OpenAi);
    }
}
