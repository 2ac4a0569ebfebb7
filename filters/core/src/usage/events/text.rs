//! How much text an event holds that a model has written. Some servers put many tokens into one event, so their number
//! says little by itself.

use memchr::{memchr, memchr2};

/// Members whose text is what a model has written, in the events of each API.
const WRITTEN: [&[u8]; 10] = [
    b"arguments",
    b"content",
    b"generated_text",
    b"partial_json",
    b"reasoning",
    b"reasoning_content",
    b"refusal",
    b"response",
    b"text",
    b"thinking",
];

/// Bytes of the strings in such members, as they stand in the JSON.
pub(super) fn written(data: &[u8]) -> u64 {
    let (mut rest, mut name) = (data, &b""[..]);
    let (mut deltas, mut others, mut repeats) = (0, 0, false);
    while let Some(at) = memchr(b'"', rest) {
        let string = rest.get(at + 1..).unwrap_or_default();
        let len = len(string);
        let after = string.get(len + 1..).unwrap_or_default();
        if after.trim_ascii_start().first() == Some(&b':') {
            name = string.get(..len).unwrap_or_default();
        } else if name == b"delta" {
            deltas += len as u64;
        } else if WRITTEN.contains(&name) {
            others += len as u64;
        } else if name == b"type" {
            // Responses repeats in its further events what its deltas have said.
            repeats |= string.starts_with(b"response.");
        }
        rest = after;
    }
    deltas + if repeats { 0 } else { others }
}

/// The least number of tokens that so many bytes of one event's text can be: no token is split over two events, and few
/// vocabularies have one that is longer than 128 bytes.
pub(super) const fn least(text: u64) -> u64 {
    const LONGEST_TOKEN: u64 = 128;
    text.div_ceil(LONGEST_TOKEN)
}

/// Bytes up to the quote that ends a string; all where none does.
fn len(string: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = string.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found;
        if string.get(at) == Some(&b'"') {
            return at;
        }
        at += 2;
    }
    string.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_was_written_counts() {
        for (event, expected) in [
            (
                r#"{"id":"x","choices":[{"delta":{"role":"assistant","content":"four"},"logprobs":{"content":[{"token":"four"}]}}],"model":"m"}"#,
                4,
            ),
            (r#"{"choices":[{"index":0,"text":"a\"b\\"}]}"#, 6),
            (
                r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"seven77"}}"#,
                7,
            ),
            (
                r#"{"type":"response.output_text.delta","delta" : "ab","sequence_number":1}"#,
                2,
            ),
            (
                r#"{"delta":{"content":null,"reasoning_content":"abc","tool_calls":[{"function":{"arguments":"{}"}}]}}"#,
                5,
            ),
            (r#"{"delta":{"content":"cut o"#, 5),
            (
                r#"{"type":"response.output_text.done","text":"ab","item":{"content":[{"type":"output_text","text":"ab"}]}}"#,
                0,
            ),
            (r#"{"text":"ab","type":"response.output_text.done"}"#, 0),
            (r#"{"content":"\"#, 1),
            ("[DONE]", 0),
            ("", 0),
        ] {
            assert_eq!(written(event.as_bytes()), expected, "{event}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_count_for_more_than_they_are(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(written(&data) <= data.len() as u64);
        }
    }
}
