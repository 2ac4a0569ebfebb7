//! One attempt: what it changes in the headers, and whether the body has to be looked at.

use super::provider::{Provider, Providers};
use super::refusal::Refusal;
use super::saved::{Change, SavedHeaders};
use super::secret::Secret;

/// A header: its name, in lower case, and its value.
type Header<'a> = (&'a [u8], &'a [u8]);

/// A planned attempt. It holds the provider's secret, so it has no `Debug`.
pub struct Attempt {
    pub(super) provider: usize,
    /// `x-tollgate-model`.
    pub(super) model: Option<String>,
    /// Of a form.
    pub(super) boundary: Option<String>,
    looks: bool,
    stripped: Vec<Vec<u8>>,
    remove: Vec<String>,
    set: Vec<(String, String)>,
    saved: SavedHeaders,
    content_length: Vec<String>,
    secret: Option<Secret>,
}

impl Providers {
    /// Plans an attempt at `provider` (of [`Self::find`]) from the headers as they were before any attempt.
    pub fn attempt(&self, provider: usize, headers: &[Header<'_>]) -> Result<Attempt, Refusal> {
        let at = provider;
        let provider = self.all.get(at).ok_or(Refusal::Misconfigured)?;
        let set = changed(provider, headers)?;
        let remove = removed(self, provider, headers);
        let model = text(headers, "x-tollgate-model").filter(|name| !name.is_empty());
        let boundary = text(headers, "content-type").and_then(crate::body::boundary);
        let mut saved = SavedHeaders::default();
        for name in remove.iter().chain(set.iter().map(|(name, _)| name)) {
            saved.keep(name, self.values(headers, name));
        }
        Ok(Attempt {
            provider: at,
            looks: model.is_some() || !provider.names.is_empty(),
            model: model.map(str::to_owned),
            boundary: boundary.map(str::to_owned),
            stripped: unique(
                headers
                    .iter()
                    .map(|(name, _)| *name)
                    .filter(|name| self.is_credential(name)),
            ),
            remove,
            set,
            saved,
            content_length: self.values(headers, "content-length"),
            secret: provider
                .credential
                .as_ref()
                .and_then(|credential| credential.find(headers))
                .map(Secret::new),
        })
    }

    /// The values of a header as they are saved: none of a credential, and none that is not text.
    fn values(&self, headers: &[Header<'_>], name: &str) -> Vec<String> {
        if self.is_credential(name.as_bytes()) {
            return Vec::new();
        }
        let values = headers.iter().filter(|(found, _)| *found == name.as_bytes());
        values
            .filter_map(|(_, value)| core::str::from_utf8(value).ok().map(str::to_owned))
            .collect()
    }
}

impl Attempt {
    /// The place of its provider.
    pub fn provider(&self) -> usize {
        self.provider
    }

    /// Headers that go at once and for good, before anything else is done.
    pub fn stripped(&self) -> &[Vec<u8>] {
        &self.stripped
    }

    /// Whether the body may have to be changed.
    pub fn looks_at_body(&self) -> bool {
        self.looks
    }

    /// The secret that it uses, for whoever reads its answer.
    pub fn take_secret(&mut self) -> Option<Secret> {
        self.secret.take()
    }

    /// Tells it that the body is now this long.
    pub fn resized(&mut self, len: usize) {
        self.saved
            .keep("content-length", core::mem::take(&mut self.content_length));
        self.set.push(("content-length".into(), len.to_string()));
    }

    /// What it changes, in order; the credential last.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let remove = self.remove.iter().map(|name| Change::Remove(name));
        remove.chain(self.set.iter().map(|(name, value)| Change::Set(name, value)))
    }

    /// What it changes, as it was before.
    pub fn saved(&self) -> &SavedHeaders {
        &self.saved
    }
}

fn changed(provider: &Provider, headers: &[Header<'_>]) -> Result<Vec<(String, String)>, Refusal> {
    let mut set = Vec::new();
    if !provider.path_prefix.is_empty() {
        let path = text(headers, ":path").ok_or(Refusal::Misconfigured)?;
        set.push((":path".into(), format!("{}{path}", provider.path_prefix)));
    }
    if let Some(authority) = &provider.authority {
        set.push((":authority".into(), authority.clone()));
    }
    set.extend(provider.headers.iter().cloned());
    if let Some(credential) = &provider.credential {
        let secret = credential.find(headers).ok_or(Refusal::MissingSecret)?;
        set.push((
            credential.header.clone(),
            format!("{}{secret}", credential.prefix),
        ));
    }
    Ok(set)
}

fn removed(providers: &Providers, provider: &Provider, headers: &[Header<'_>]) -> Vec<String> {
    let goes = |name: &[u8]| {
        let name = core::str::from_utf8(name).ok()?;
        let stays = name.starts_with(':') || provider.sees(name);
        (!stays && !providers.is_credential(name.as_bytes())).then(|| name.to_owned())
    };
    unique(headers.iter().filter_map(|(name, _)| goes(name)))
}

/// The first value of a header, if it is text.
fn text<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(found, _)| *found == name.as_bytes())?;
    core::str::from_utf8(value).ok()
}

fn unique<N, O: PartialEq<O> + From<N>>(names: impl Iterator<Item = N>) -> Vec<O> {
    let mut all: Vec<O> = Vec::new();
    for name in names.map(O::from) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}
