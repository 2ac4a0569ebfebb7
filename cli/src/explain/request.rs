//! The request that is explained, and the bytes that a client would send.

use core::net::IpAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tollgate_core::body::{boundary, read_json, read_multipart};
use tollgate_core::config::moment;
use tollgate_core::endpoint::Endpoint;
use tollgate_core::headers::Headers;
use tollgate_core::key::masked;
use tollgate_core::limits::estimate::{Demand, Estimator};

/// Larger bodies than any gateway takes are not made.
const MAX_BODY: usize = 256 << 20;
const BOUNDARY: &str = "tollgate-explain";

/// The request to explain, as options of the command line.
#[derive(Args, Clone)]
pub(crate) struct RequestOptions {
    /// The key, by its public id.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// The model, by its name or an alias.
    #[arg(long)]
    model: Option<String>,
    /// What is asked for: chat, completions, responses, messages, embeddings, …
    #[arg(long, default_value = "chat")]
    endpoint: String,
    /// Tokens of input, as the gateway would estimate them; the least that a request has otherwise.
    #[arg(long, value_name = "N")]
    input_tokens: Option<u64>,
    /// The cap on the answer that the client asks for; none otherwise.
    #[arg(long, value_name = "N")]
    max_tokens: Option<u64>,
    /// With a streamed answer.
    #[arg(long)]
    stream: bool,
    /// A file with the request's own body, in place of a model and tokens.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["input_tokens", "max_tokens", "stream", "model"])]
    body: Option<PathBuf>,
    /// The client's address.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// When, such as `2026-12-31T23:59:59Z`; now otherwise.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// How much of a limit is in use then, such as `key-tpm=9000`; may be given for several.
    #[arg(long, value_name = "LIMIT=N")]
    used: Vec<String>,
}

/// One request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) model: String,
    #[serde(default = "chat")]
    pub(crate) endpoint: Endpoint,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) max_tokens: Option<u64>,
    #[serde(default)]
    pub(crate) stream: bool,
    body: Option<Box<RawValue>>,
    pub(crate) address: Option<IpAddr>,
    at: Option<String>,
    #[serde(default)]
    pub(crate) used: Vec<(String, u64)>,
}

const fn chat() -> Endpoint {
    Endpoint::Chat
}

impl RequestOptions {
    /// The request that they describe.
    pub(crate) fn request(&self) -> Result<Request> {
        let key = self.key.clone().context("say whose request it is: --key ID")?;
        let endpoint = endpoint(&self.endpoint)?;
        let body = match &self.body {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("cannot read {}", file.display()))?;
                Some(RawValue::from_string(text).with_context(|| format!("{} is no JSON", file.display()))?)
            }
            None => None,
        };
        let listed = endpoint == Endpoint::Models || body.is_some();
        let model = self.model.clone();
        let model = if listed {
            model.or(Some(String::new()))
        } else {
            model
        };
        Ok(Request {
            key,
            model: model.context("say which model is asked for: --model NAME")?,
            endpoint,
            input_tokens: self.input_tokens,
            max_tokens: self.max_tokens,
            stream: self.stream,
            body,
            address: self.address,
            at: self.at.clone(),
            used: self.used()?,
        })
    }

    /// These options, with what they leave open taken from a past request.
    pub(crate) fn or_from(&self, past: &Self) -> Self {
        let free = self.body.is_none();
        Self {
            key: self.key.clone().or_else(|| past.key.clone()),
            model: self.model.clone().or_else(|| past.model.clone().filter(|_| free)),
            endpoint: past.endpoint.clone(),
            input_tokens: self.input_tokens.or(past.input_tokens.filter(|_| free)),
            max_tokens: self.max_tokens.or(past.max_tokens.filter(|_| free)),
            stream: self.stream || (past.stream && free),
            address: self.address.or(past.address),
            ..self.clone()
        }
    }

    /// A past request, as far as its usage record says.
    pub(crate) fn from_record(key: Option<String>, model: Option<String>, endpoint: &str) -> Self {
        Self {
            key,
            model,
            endpoint: endpoint.to_owned(),
            input_tokens: None,
            max_tokens: None,
            stream: false,
            body: None,
            address: None,
            at: None,
            used: Vec::new(),
        }
    }

    /// The same with these numbers of tokens, input and output.
    pub(crate) fn with_tokens(
        mut self,
        tokens: (Option<u64>, Option<u64>),
        stream: bool,
        address: Option<IpAddr>,
    ) -> Self {
        (self.input_tokens, self.max_tokens) = tokens;
        (self.stream, self.address) = (stream, address);
        self
    }

    /// Whether a model or a body is named.
    pub(crate) fn names_model(&self) -> bool {
        self.model.is_some() || self.body.is_some()
    }

    fn used(&self) -> Result<Vec<(String, u64)>> {
        let parse = |text: &String| {
            let (name, number) = text.split_once('=')?;
            Some((name.to_owned(), number.parse().ok()?))
        };
        let used = self.used.iter();
        used.map(|text| {
            parse(text).with_context(|| {
                format!("--used {text}: expected a limit and a number, such as `key-tpm=9000`")
            })
        })
        .collect()
    }
}

fn endpoint(name: &str) -> Result<Endpoint> {
    serde_json::from_value(Value::from(name)).with_context(|| format!("there is no endpoint `{name}`"))
}

/// A request as the gateway gets it.
pub(crate) struct RawRequest {
    pub(crate) headers: RawHeaders,
    pub(crate) body: Vec<u8>,
}

/// Headers.
pub(crate) struct RawHeaders(Vec<(&'static str, String)>);

impl Headers for RawHeaders {
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let Self(lines) = self;
        lines
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }
}

impl Request {
    /// Nanoseconds since 1970.
    pub(crate) fn now(&self) -> Result<u64> {
        let Some(at) = &self.at else {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            return Ok(u64::try_from(now.as_nanos())?);
        };
        let seconds = moment(at).and_then(|seconds| u64::try_from(seconds).ok());
        let nanos = seconds.and_then(|seconds| seconds.checked_mul(1_000_000_000));
        nanos.with_context(|| format!("`{at}` is no time such as `2026-12-31T23:59:59Z` (RFC 3339)"))
    }

    /// What a client with this key would send.
    pub(crate) fn raw(&self, secret: &str) -> Result<RawRequest> {
        ensure!(
            !self.key.starts_with("sk-"),
            "--key takes the public id of a key, and never the key itself: it is the part between the second and the third hyphen of {}",
            masked(self.key.as_bytes())
        );
        let listing = self.endpoint == Endpoint::Models;
        let mut path = self.endpoint.path().to_owned();
        if listing && !self.model.is_empty() {
            path = format!("{path}/{}", self.model);
        }
        let mut headers = vec![
            (":method", if listing { "GET" } else { "POST" }.to_owned()),
            (":path", path),
            (":authority", "gateway".to_owned()),
            ("authorization", format!("Bearer {secret}")),
        ];
        let body = if listing { Vec::new() } else { self.body()? };
        if self.endpoint.is_multipart() {
            headers.push((
                "content-type",
                format!("multipart/form-data; boundary={BOUNDARY}"),
            ));
        } else if !listing {
            headers.push(("content-type", "application/json".to_owned()));
        }
        Ok(RawRequest {
            headers: RawHeaders(headers),
            body,
        })
    }

    fn body(&self) -> Result<Vec<u8>> {
        if let Some(body) = &self.body {
            ensure!(
                !self.endpoint.is_multipart(),
                "a body for `{}` is a form, and is not taken from JSON: say --model and --input-tokens",
                self.endpoint.name()
            );
            return Ok(body.get().as_bytes().to_vec());
        }
        let writes = matches!(
            self.endpoint,
            Endpoint::Chat | Endpoint::Completions | Endpoint::Responses | Endpoint::Messages
        );
        ensure!(
            writes || self.max_tokens.is_none(),
            "`{}` takes no cap on its answer: leave --max-tokens out",
            self.endpoint.name()
        );
        let Some(wanted) = self.input_tokens else {
            return Ok(self.with_text(1));
        };
        // The shortest whose estimate is what was said.
        let mut most = 64;
        while self.estimate(&self.with_text(most))? < wanted {
            if most > MAX_BODY {
                bail!("{wanted} tokens of input are more than a request can have");
            }
            most *= 2;
        }
        let mut least = 0;
        while least + 1 < most {
            let middle = usize::midpoint(least, most);
            match self.estimate(&self.with_text(middle))? < wanted {
                true => least = middle,
                false => most = middle,
            }
        }
        Ok(self.with_text(most))
    }

    /// Tokens of input, as the gateway estimates them of a stranger's request.
    fn estimate(&self, body: &[u8]) -> Result<u64> {
        let form = format!("multipart/form-data; boundary={BOUNDARY}");
        let read = match boundary(&form).filter(|_| self.endpoint.is_multipart()) {
            Some(boundary) => read_multipart(self.endpoint, body, boundary),
            None => read_json(self.endpoint, body),
        };
        let read = read.ok().context("the request that was made can't be read")?;
        let demand = Demand {
            input: read.input,
            max_output: Some(0),
            answers: 1,
            context_window: None,
        };
        Ok(Estimator::default().estimate(&demand).input)
    }

    /// A body with so many bytes of text, or of a file.
    fn with_text(&self, len: usize) -> Vec<u8> {
        if self.endpoint.is_multipart() {
            return self.form(len);
        }
        let text = "x".repeat(len);
        let model = &self.model;
        let mut body = match self.endpoint {
            Endpoint::Chat | Endpoint::Messages => {
                json!({"model": model, "messages": [{"role": "user", "content": text}]})
            }
            Endpoint::Completions | Endpoint::ImagesGenerations => json!({"model": model, "prompt": text}),
            Endpoint::Speech => json!({"model": model, "input": text, "voice": "alloy"}),
            _ => json!({"model": model, "input": text}),
        };
        let cap = match self.endpoint {
            Endpoint::Responses => "max_output_tokens",
            _ => "max_tokens",
        };
        if let Some(members) = body.as_object_mut() {
            members.extend(self.max_tokens.map(|most| (cap.to_owned(), most.into())));
            members.extend(self.stream.then(|| ("stream".to_owned(), true.into())));
        }
        body.to_string().into_bytes()
    }

    fn form(&self, len: usize) -> Vec<u8> {
        let file = match self.endpoint {
            Endpoint::ImagesEdits => "image",
            _ => "file",
        };
        let field = |name: &str, value: &str| {
            format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let mut form = field("model", &self.model);
        if self.stream {
            form += &field("stream", "true");
        }
        if self.endpoint == Endpoint::ImagesEdits {
            form += &field("prompt", &"x".repeat(len));
        }
        let data = match self.endpoint {
            Endpoint::ImagesEdits => 1,
            _ => len,
        };
        form += &format!(
            "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{file}\"; filename=\"f\"\r\ncontent-type: application/octet-stream\r\n\r\n{}\r\n--{BOUNDARY}--\r\n",
            "x".repeat(data)
        );
        form.into_bytes()
    }
}
