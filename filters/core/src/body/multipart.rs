//! Multipart bodies (`multipart/form-data`, RFC 7578): sound and pictures with a few form fields.
//!
//! Parts may come in any order, and a file of tens of megabytes before the model's name. Files are stepped over by a
//! search for the delimiter, which costs about as much as reading the memory.

use std::borrow::Cow;

use memchr::memmem::Finder;

use super::{Body, Malformed};

/// More parts than any endpoint takes.
const MAX_PARTS: usize = 128;
/// Longest header block of a part.
const MAX_HEAD: usize = 8 * 1024;
/// Longest value of a field that is read.
const MAX_FIELD: usize = 1024;

/// The boundary in a `content-type` of `multipart/form-data`; `None` for another type, or without one that RFC 2046
/// allows.
pub fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut found = None;
    for parameter in parameters.split(';') {
        let (name, value) = parameter.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("boundary") {
            // Given twice, readers differ on which one counts.
            if found.is_some() {
                return None;
            }
            let value = value.trim();
            found = Some(
                value
                    .strip_prefix('"')
                    .and_then(|value| value.strip_suffix('"'))
                    .unwrap_or(value),
            );
        }
    }
    found.filter(|boundary| {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&c);
        (1..=70).contains(&boundary.len()) && boundary.bytes().all(allowed) && !boundary.ends_with(' ')
    })
}

/// Reads the form fields that the gateway needs.
pub fn read<'a>(body: &'a [u8], boundary: &str) -> Result<Body<'a>, Malformed> {
    let delimiter = format!("\r\n--{boundary}");
    let delimiter = Finder::new(delimiter.as_bytes());
    // The first delimiter has no line break before it; what stands before it would be read by nobody, or by somebody.
    let mut rest = body
        .strip_prefix(delimiter.needle().get(2..).unwrap_or_default())
        .ok_or_else(|| Malformed::new("The multipart body does not begin with its boundary."))?;
    let mut form = Body {
        answers: 1,
        ..Body::default()
    };
    let mut fields: Vec<&'static str> = Vec::new();
    for part in 0..MAX_PARTS {
        rest = match rest {
            [b'-', b'-', tail @ ..] => return end(form, tail),
            [b'\r', b'\n', tail @ ..] => tail,
            _ => {
                return Err(Malformed::new(format!(
                    "The boundary before part {part} of the multipart body is malformed."
                )));
            }
        };
        let (name, content) = head(rest, part)?;
        let Some(len) = delimiter.find(content) else {
            return Err(Malformed::new(format!(
                "Part {part} of the multipart body has no end: the body is cut short."
            )));
        };
        let (value, tail) = content.split_at_checked(len).unwrap_or_default();
        rest = tail.get(delimiter.needle().len()..).unwrap_or_default();
        field(&mut form, &mut fields, name, value)?;
        if name == b"model" {
            form.model_span = super::span(body, value);
        }
    }
    Err(Malformed::new(format!(
        "The multipart body has more than {MAX_PARTS} parts."
    )))
}

/// After the last delimiter only blanks may stand.
fn end<'a>(form: Body<'a>, tail: &[u8]) -> Result<Body<'a>, Malformed> {
    if tail.trim_ascii().is_empty() {
        Ok(form)
    } else {
        Err(Malformed::new("Something follows the end of the multipart body."))
    }
}

/// The name in a part's header block, and what follows the block.
fn head(part: &[u8], number: usize) -> Result<(&[u8], &[u8]), Malformed> {
    let wrong = |what: &str| Malformed::new(format!("Part {number} of the multipart body {what}."));
    let near = part.get(..MAX_HEAD).unwrap_or(part);
    let len = memchr::memmem::find(near, b"\r\n\r\n").ok_or_else(|| wrong("has no end of its headers"))?;
    let (head, content) = part.split_at_checked(len + 4).unwrap_or_default();
    let mut name = None;
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (header, value) = line.split_at_checked(colon).unwrap_or_default();
        if header.trim_ascii().eq_ignore_ascii_case(b"content-disposition") {
            if name.is_some() {
                return Err(wrong("has two Content-Disposition headers"));
            }
            name = Some(parameter(value, b"name").ok_or_else(|| wrong("has no plain name"))?);
        }
    }
    name.map(|name| (name, content))
        .ok_or_else(|| wrong("has no Content-Disposition header"))
}

/// `name="…"` of a header. A name with an escape is refused: readers differ on those. One that is given twice too.
fn parameter<'a>(header: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    let mut rest = header;
    while let Some(semicolon) = memchr::memchr(b';', rest) {
        rest = rest.get(semicolon + 1..)?.trim_ascii_start();
        let equals = memchr::memchr(b'=', rest)?;
        let (name, value) = rest.split_at_checked(equals)?;
        let value = value.get(1..)?;
        let (value, tail) = match value.strip_prefix(b"\"") {
            Some(quoted) => {
                let end = memchr::memchr(b'"', quoted)?;
                (quoted.get(..end)?, quoted.get(end + 1..)?)
            }
            None => {
                let end = memchr::memchr(b';', value).unwrap_or(value.len());
                (value.get(..end)?.trim_ascii(), value.get(end..)?)
            }
        };
        if name.trim_ascii().eq_ignore_ascii_case(wanted) {
            if found.is_some() || value.contains(&b'\\') {
                return None;
            }
            found = Some(value);
        }
        rest = tail;
    }
    found
}

fn field<'a>(
    form: &mut Body<'a>,
    fields: &mut Vec<&'static str>,
    name: &[u8],
    value: &'a [u8],
) -> Result<(), Malformed> {
    let known = ["model", "stream", "n", "prompt"]
        .into_iter()
        .find(|known| known.as_bytes() == name);
    let Some(known) = known else { return Ok(()) };
    let wrong = |what: &str| Malformed {
        param: Some(known),
        reason: format!("The form field `{known}` {what}."),
    };
    if fields.contains(&known) {
        return Err(wrong("is given twice"));
    }
    fields.push(known);
    let text = core::str::from_utf8(value).map_err(|_| wrong("is not UTF-8"))?;
    if known == "prompt" {
        form.input.text = text.len() as u64;
        return Ok(());
    }
    if text.len() > MAX_FIELD {
        return Err(wrong("is too long"));
    }
    match known {
        "model" => form.model = Some(Cow::Borrowed(text)),
        "stream" => {
            form.stream = match text {
                "true" | "True" | "1" => true,
                "false" | "False" | "0" | "" => false,
                _ => return Err(wrong("is neither `true` nor `false`")),
            }
        }
        _ => form.answers = text.parse().map_err(|_| wrong("is not a whole number"))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDARY: &str = "----x1";

    fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in parts {
            body.extend(
                format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").bytes(),
            );
            body.extend(*value);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{BOUNDARY}--\r\n").bytes());
        body
    }

    fn reason(body: &[u8]) -> String {
        read(body, BOUNDARY).unwrap_err().reason
    }

    #[test]
    fn fields_in_any_order() {
        let file = b"RIFF\r\n--\r\n\r\n\0\xff--x";
        for parts in [
            [
                ("file", file.as_slice()),
                ("model", b"whisper-1"),
                ("stream", b"true"),
            ],
            [("model", b"whisper-1"), ("stream", b"true"), ("file", file)],
        ] {
            let body = form(&parts);
            let read = read(&body, BOUNDARY).unwrap();
            assert_eq!((read.model.as_deref(), read.stream), (Some("whisper-1"), true));
        }
    }

    #[test]
    fn the_boundary() {
        assert_eq!(boundary("multipart/form-data; boundary=abc"), Some("abc"));
        assert_eq!(
            boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\""),
            Some("a b")
        );
        for bad in [
            "multipart/form-data",
            "application/json; boundary=x",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary=\"a\r\n\"",
        ] {
            assert_eq!(boundary(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_doubtful_is_refused() {
        assert!(reason(b"").contains("does not begin"));
        assert!(reason(&[b"x".as_slice(), &form(&[])].concat()).contains("does not begin"));
        assert!(reason(&form(&[("model", b"a"), ("model", b"b")])).contains("`model` is given twice"));
        assert!(reason(&form(&[("model", b"\xff")])).contains("not UTF-8"));
        assert!(reason(&form(&[("stream", b"maybe")])).contains("neither"));
        assert!(reason(&[form(&[]), b"more".to_vec()].concat()).contains("follows the end"));
        assert!(reason(&form(&[("x", b"".as_slice()); 129])).contains("more than 128 parts"));
        let cut = form(&[("model", b"whisper-1")]);
        for at in 0..cut.len() - 4 {
            assert!(read(&cut[..at], BOUNDARY).is_err(), "cut at {at}");
        }
        let two_names = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"x\"; name=\"model\"\r\n\r\na\r\n--{BOUNDARY}--"
        );
        assert!(reason(two_names.as_bytes()).contains("no plain name"));
    }

    #[test]
    fn an_empty_value_is_one() {
        let body = form(&[("model", b""), ("stream", b"true")]);
        let read = read(&body, BOUNDARY).unwrap();
        assert_eq!((read.model.as_deref(), read.stream), (Some(""), true));
    }

    proptest! {
        #[test]
        fn files_are_stepped_over(file in proptest::collection::vec(any::<u8>(), 0..400), model in "[a-z0-9-]{1,20}") {
            prop_assume!(memchr::memmem::find(&file, BOUNDARY.as_bytes()).is_none());
            let body = form(&[("file", &file), ("model", model.as_bytes()), ("n", b"3")]);
            let read = read(&body, BOUNDARY).unwrap();
            prop_assert_eq!((read.model.as_deref(), read.answers), (Some(model.as_str()), 3));
            prop_assert_eq!(&body[read.model_span.unwrap()], model.as_bytes());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, BOUNDARY);
            let body = [b"------x1\r\n".as_slice(), &bytes].concat();
            let _ = read(&body, BOUNDARY);
            let _ = boundary(&String::from_utf8_lossy(&bytes));
        }
    }
}
