//! Reads a request as far as a model server needs to: who answers, how much, how counted.

use bytes::Bytes;
use http_body_util::{BodyDataStream, Full};
use serde::Deserialize;
use serde_json::Value;

use super::text::tokens;

/// The APIs that are answered, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Moderations,
    Images,
    Speech,
    Transcriptions,
    Translations,
    Messages,
    CountTokens,
    Models,
    Model(String),
}

impl Api {
    /// The API behind a method and a path without its query; `None` is OpenAI's "Invalid URL".
    pub(super) fn find(method: &str, path: &str) -> Option<Self> {
        Some(match (method, path.strip_prefix("/v1/")?) {
            ("POST", "chat/completions") => Self::Chat,
            ("POST", "completions") => Self::Completions,
            ("POST", "responses") => Self::Responses,
            ("POST", "embeddings") => Self::Embeddings,
            ("POST", "moderations") => Self::Moderations,
            ("POST", "images/generations" | "images/edits") => Self::Images,
            ("POST", "audio/speech") => Self::Speech,
            ("POST", "audio/transcriptions") => Self::Transcriptions,
            ("POST", "audio/translations") => Self::Translations,
            ("POST", "messages") => Self::Messages,
            ("POST", "messages/count_tokens") => Self::CountTokens,
            ("GET", "models") => Self::Models,
            ("GET", other) => Self::Model(other.strip_prefix("models/")?.to_owned()),
            _ => return None,
        })
    }

    /// Errors and headers take Anthropic's shape.
    pub(super) fn is_anthropic(&self) -> bool {
        matches!(self, Self::Messages | Self::CountTokens)
    }

    /// What an id of this API begins with.
    pub(super) fn id_prefix(&self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl-",
            Self::Completions => "cmpl-",
            Self::Responses => "resp_",
            Self::Messages | Self::CountTokens => "msg_",
            Self::Moderations => "modr-",
            _ => "req_",
        }
    }
}

/// What was asked, whatever the API.
#[derive(Clone, Debug, Default)]
pub(super) struct Ask {
    pub(super) model: String,
    /// Tokens of all text given; at least 1.
    pub(super) input_tokens: u64,
    /// What an answer repeats: the last text given.
    pub(super) told: String,
    pub(super) stream: bool,
    /// `stream_options.include_usage`.
    pub(super) include_usage: bool,
    /// The smallest cap on output tokens in the request.
    pub(super) cap: Option<u64>,
    /// Choices, or images.
    pub(super) n: u64,
    /// Inputs of an embeddings or moderations request.
    pub(super) inputs: u64,
    pub(super) base64: bool,
    pub(super) dimensions: Option<usize>,
    /// `response_format` where it is a word (audio, images).
    pub(super) format: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    model: Option<String>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    stream_format: Option<String>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    n: Option<u64>,
    system: Value,
    instructions: Value,
    messages: Value,
    input: Value,
    prompt: Value,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
    response_format: Value,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Ask {
    /// Reads a JSON body.
    ///
    /// # Errors
    /// What is wrong with it, in serde's words.
    pub(super) fn json(body: &[u8]) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let mut text = Text::default();
        for part in [
            &raw.system,
            &raw.instructions,
            &raw.messages,
            &raw.input,
            &raw.prompt,
        ] {
            text.read(part);
        }
        Ok(Self {
            model: raw.model.unwrap_or_default(),
            input_tokens: text.tokens.max(1),
            told: text.last,
            stream: raw.stream == Some(true) || raw.stream_format.as_deref() == Some("sse"),
            include_usage: raw.stream_options.is_some_and(|o| o.include_usage == Some(true)),
            cap: [raw.max_tokens, raw.max_completion_tokens, raw.max_output_tokens]
                .into_iter()
                .flatten()
                .min(),
            n: raw.n.unwrap_or(1).clamp(1, 128),
            inputs: inputs(&raw.input),
            base64: raw.encoding_format.as_deref() == Some("base64"),
            dimensions: raw.dimensions,
            format: raw.response_format.as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Reads a multipart form: `model`, `prompt`, `stream`, `response_format`, `n`, and files, which count
    /// one token for every 1,000 bytes begun.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) async fn form(body: Bytes, boundary: String) -> Result<Self, String> {
        let body = BodyDataStream::new(Full::new(body));
        let mut form = multer::Multipart::new(body, boundary);
        let mut ask = Self {
            n: 1,
            ..Self::default()
        };
        while let Some(field) = form.next_field().await.map_err(|e| e.to_string())? {
            let name = field.name().unwrap_or_default().to_owned();
            if field.file_name().is_some() {
                let bytes = field.bytes().await.map_err(|e| e.to_string())?;
                ask.input_tokens += (bytes.len() as u64).div_ceil(1000);
                continue;
            }
            let value = field.text().await.map_err(|e| e.to_string())?;
            match name.as_str() {
                "model" => ask.model = value,
                "stream" => ask.stream = value == "true",
                "response_format" => ask.format = value,
                "n" => ask.n = value.parse().unwrap_or(1),
                "prompt" => {
                    ask.input_tokens += tokens(&value);
                    ask.told = value;
                }
                _ => {}
            }
        }
        ask.input_tokens = ask.input_tokens.max(1);
        Ok(ask)
    }
}

/// All text of a request, wherever its API puts it.
#[derive(Default)]
struct Text {
    tokens: u64,
    last: String,
}

/// Tokens counted for a part that is not text (an image, a sound).
const PART_TOKENS: u64 = 85;

impl Text {
    /// A text, a token number, a list of either, messages, or parts of a message's content.
    fn read(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                self.tokens += tokens(text);
                self.last.clone_from(text);
            }
            Value::Number(_) => self.tokens += 1,
            Value::Array(items) => items.iter().for_each(|item| self.read(item)),
            Value::Object(part) => match part.get("content").or_else(|| part.get("text")) {
                Some(inner) => self.read(inner),
                None => self.tokens += PART_TOKENS,
            },
            Value::Null | Value::Bool(_) => {}
        }
    }
}

/// Inputs in an embeddings or moderations request: a list of token numbers is one input.
fn inputs(input: &Value) -> u64 {
    match input {
        Value::Array(items) if !items.first().is_some_and(Value::is_number) => items.len() as u64,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: &str) -> Ask {
        Ask::json(body.as_bytes()).unwrap()
    }

    #[test]
    fn counts_text_wherever_it_stands() {
        let chat = ask(r#"{"model": "m", "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "what is this"},
                                         {"type": "image_url", "image_url": {"url": "data:"}}]}]}"#);
        assert_eq!(
            (chat.input_tokens, chat.told.as_str()),
            (2 + 3 + 85, "what is this")
        );
        let messages = ask(r#"{"system": "be brief", "messages": [{"role": "user", "content": "hi you"}]}"#);
        assert_eq!((messages.input_tokens, messages.told.as_str()), (4, "hi you"));
        let responses = ask(
            r#"{"instructions": "be brief", "input": [{"role": "user", "content":
            [{"type": "input_text", "text": "one two three"}]}]}"#,
        );
        assert_eq!(responses.input_tokens, 5);
        assert_eq!(ask(r#"{"prompt": ["a b", "c"]}"#).input_tokens, 3);
        assert_eq!(ask(r#"{"input": [1, 2, 3]}"#).input_tokens, 3);
        assert_eq!(ask("{}").input_tokens, 1);
    }

    #[test]
    fn counts_inputs() {
        assert_eq!(ask(r#"{"input": "a b"}"#).inputs, 1);
        assert_eq!(ask(r#"{"input": ["a", "b"]}"#).inputs, 2);
        assert_eq!(ask(r#"{"input": [1, 2, 3]}"#).inputs, 1);
        assert_eq!(ask(r#"{"input": [[1, 2], [3]]}"#).inputs, 2);
    }

    #[test]
    fn takes_the_smallest_cap_and_explicit_nulls() {
        let chat =
            ask(r#"{"max_tokens": 9, "max_completion_tokens": 5, "stream": null, "stream_options": null}"#);
        assert_eq!(
            (chat.cap, chat.stream, chat.include_usage),
            (Some(5), false, false)
        );
        assert!(ask(r#"{"stream_options": {"include_usage": true}}"#).include_usage);
    }

    #[tokio::test]
    async fn reads_a_form_in_any_order() {
        let body = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n\
                    --b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b--\r\n";
        let ask = Ask::form(Bytes::from(body), "b".to_owned()).await.unwrap();
        assert_eq!((ask.model.as_str(), ask.input_tokens), ("whisper-1", 1));
    }
}
