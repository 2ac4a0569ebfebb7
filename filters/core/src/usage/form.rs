//! Whether what a model server sends with success is an answer of the endpoint at all: a page of a proxy's, or nothing,
//! has been written by no model.

use super::Volume;
use crate::endpoint::Endpoint;

/// What an answer looks like so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Whether its status has no body: 204, 205.
    bodiless: bool,
    /// Whether its `content-type` says that it is a page.
    labelled: bool,
    /// Whether its bytes are those of its text: it is not coded.
    plain: bool,
    /// Whether text may begin as a page does: text of a transcription, sound.
    free: bool,
    /// The first byte that is no white space.
    first: Option<u8>,
}

impl Form {
    /// One by its head. `plain` if its client asked for text alone.
    pub fn of(
        endpoint: Endpoint,
        plain: bool,
        status: u16,
        content_type: Option<&[u8]>,
        content_encoding: Option<&[u8]>,
    ) -> Self {
        let transcribes = matches!(endpoint, Endpoint::Transcriptions | Endpoint::Translations);
        let coding = content_encoding.unwrap_or_default().trim_ascii();
        Self {
            bodiless: matches!(status, 204 | 205),
            labelled: content_type.is_some_and(is_page),
            plain: coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"),
            free: endpoint == Endpoint::Speech || (transcribes && plain),
            first: None,
        }
    }

    /// Looks at the next bytes.
    pub fn push(&mut self, chunk: &[u8]) {
        if self.first.is_none() {
            // A byte order mark, too.
            let is_blank = |byte: &u8| byte.is_ascii_whitespace() || b"\xEF\xBB\xBF".contains(byte);
            self.first = chunk.iter().copied().find(|byte| !is_blank(byte));
        }
    }

    /// Whether it is a page. Some servers call the text of a transcription one; what they call a page and is JSON is none.
    pub fn is_page(&self) -> bool {
        match self.first {
            None => false,
            Some(_) if !self.plain => self.labelled,
            Some(b'<') => self.labelled || !self.free,
            Some(b'{' | b'[') => false,
            Some(_) => self.labelled && !self.free,
        }
    }

    /// Whether it is empty now that all of it has come, by what went by.
    pub fn is_empty(&self, volume: Volume) -> bool {
        self.bodiless || self.first.is_none() || volume == Volume::default()
    }
}

/// Whether a `content-type` says that it is HTML.
fn is_page(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next();
    let essence = essence.unwrap_or_default().trim_ascii();
    [&b"text/html"[..], b"application/xhtml+xml"]
        .iter()
        .any(|page| essence.eq_ignore_ascii_case(page))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Volume = Volume {
        events: 0,
        bytes: 9,
        text: 0,
        least: 0,
    };

    fn form(endpoint: Endpoint, plain: bool, label: &str, body: &[u8]) -> Form {
        let label = (!label.is_empty()).then_some(label.as_bytes());
        let mut form = Form::of(endpoint, plain, 200, label, None);
        body.chunks(1).for_each(|byte| form.push(byte));
        form
    }

    #[test]
    fn a_page_is_told_by_its_label_or_by_its_first_byte() {
        let html = b"\xEF\xBB\xBF\r\n<!doctype html>";
        for endpoint in [
            Endpoint::Chat,
            Endpoint::Completions,
            Endpoint::Responses,
            Endpoint::Messages,
            Endpoint::Embeddings,
            Endpoint::Moderations,
            Endpoint::ImagesGenerations,
            Endpoint::ImagesEdits,
            Endpoint::Transcriptions,
            Endpoint::Translations,
        ] {
            for label in ["", "application/json", "text/event-stream", "text/plain"] {
                assert!(
                    form(endpoint, false, label, html).is_page(),
                    "{endpoint:?} {label}"
                );
            }
            for body in [&html[..], b"please log in"] {
                assert!(form(endpoint, false, "Text/HTML; charset=utf-8", body).is_page());
            }
            for label in ["", "text/html", "application/json"] {
                assert!(!form(endpoint, false, label, b" {\"choices\":[]}").is_page());
            }
            assert!(!form(endpoint, false, "text/plain", b"data: {}").is_page());
            assert!(!form(endpoint, false, "text/html", b" \n").is_page());
        }
    }

    #[test]
    fn text_and_sound_begin_as_they_like() {
        let transcription = |label, body| form(Endpoint::Transcriptions, true, label, body).is_page();
        assert!(!transcription("text/plain", b"<i>Hello</i>"));
        assert!(!transcription("text/html", b" Hello"), "whisper.cpp");
        assert!(transcription("text/html", b"<html>"));
        let speech = |label, body| form(Endpoint::Speech, false, label, body).is_page();
        assert!(!speech("audio/pcm", b"<a"));
        assert!(speech("text/html", b"<html>"));
    }

    #[test]
    fn what_is_coded_is_a_page_by_its_label_alone() {
        for (label, page) in [("text/html", true), ("application/json", false)] {
            let mut form = Form::of(Endpoint::Chat, false, 200, Some(label.as_bytes()), Some(b"gzip"));
            form.push(b"<");
            assert_eq!(form.is_page(), page);
        }
    }

    #[test]
    fn nothing_is_nothing() {
        let chat = |body| form(Endpoint::Chat, false, "application/json", body);
        assert!(chat(b"").is_empty(Volume::default()));
        assert!(
            chat(b" \r\n\t").is_empty(SOME),
            "only a server that keeps the connection alive"
        );
        assert!(!chat(b"{}").is_empty(SOME));
        assert!(chat(b": ping\n\n").is_empty(Volume::default()), "no event");
        for status in [204, 205] {
            assert!(Form::of(Endpoint::Chat, false, status, None, None).is_empty(SOME));
        }
    }
}
