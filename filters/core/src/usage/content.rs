//! What one document of an answer says of the answer it belongs to: a body, or the data of an event.

use super::report::Reported;

/// What it says.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) reported: Reported,
    /// It is the stream's last.
    pub(super) ends: bool,
    /// It says that something went wrong.
    pub(super) errored: bool,
}

/// Whether an event of this name, or with data of this type, is a stream's last.
pub(super) fn is_last(name: &[u8]) -> bool {
    matches!(
        name,
        b"message_stop"
            | b"response.completed"
            | b"response.incomplete"
            | b"response.failed"
            | b"speech.audio.done"
            | b"transcript.text.done"
            | b"image_generation.completed"
            | b"image_edit.completed"
    )
}

/// Whether an event of this name, or with data of this type, says that something went wrong.
pub(super) fn is_error(name: &[u8]) -> bool {
    matches!(name, b"error" | b"response.failed" | b"response.error")
}

/// The text of a JSON string that has no escapes.
pub(super) trait TrimQuotes {
    fn trim_quotes(&self) -> &[u8];
}

impl TrimQuotes for [u8] {
    fn trim_quotes(&self) -> &[u8] {
        self.strip_prefix(b"\"")
            .and_then(|text| text.strip_suffix(b"\""))
            .unwrap_or(self)
    }
}
