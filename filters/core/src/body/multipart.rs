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
    let boundary = parameter(content_type.as_bytes(), b"multipart/form-data", b"boundary")?;
    let boundary = core::str::from_utf8(boundary).ok()?;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&c);
    let lawful =
        (1..=70).contains(&boundary.len()) && boundary.bytes().all(allowed) && !boundary.ends_with(' ');
    lawful.then_some(boundary)
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
            [b'\r', b'\n', ..] => rest,
            _ => {
                return Err(Malformed::new(format!(
                    "The boundary before part {part} of the multipart body is malformed."
                )));
            }
        };
        // Wherever a delimiter stands a part ends, be it among its headers: other readers look for delimiters first.
        let Some(len) = delimiter.find(rest) else {
            return Err(Malformed::new(format!(
                "Part {part} of the multipart body has no end: the body is cut short."
            )));
        };
        let (whole, tail) = rest.split_at_checked(len).unwrap_or_default();
        rest = tail.get(delimiter.needle().len()..).unwrap_or_default();
        let (name, value) = head(whole.get(2..).unwrap_or_default(), part)?;
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

/// The name in a part's header block, and what follows the block. Readers differ on what to make of a line that is no
/// header, continues one, or has a lone line feed in it: a part with such a line is refused.
fn head(part: &[u8], number: usize) -> Result<(&[u8], &[u8]), Malformed> {
    let wrong = |what: &str| Malformed::new(format!("Part {number} of the multipart body {what}."));
    let near = part.get(..MAX_HEAD).unwrap_or(part);
    let (head, _) = cut(near, b"\r\n\r\n").ok_or_else(|| wrong("has no end of its headers"))?;
    let content = part.get(head.len() + 4..).unwrap_or_default();
    let mut name = None;
    let mut lines = Some(head);
    while let Some(rest) = lines {
        let (line, more) = cut(rest, b"\r\n").map_or((rest, None), |(line, more)| (line, Some(more)));
        lines = more;
        let (header, value) = header(line).ok_or_else(|| wrong("has a malformed header"))?;
        if header.eq_ignore_ascii_case(b"content-disposition") {
            if name.is_some() {
                return Err(wrong("has two Content-Disposition headers"));
            }
            let given = parameter(value, b"form-data", b"name").filter(|name| !name.contains(&b'\\'));
            name = Some(given.ok_or_else(|| wrong("has no plain name"))?);
        }
    }
    name.map(|name| (name, content))
        .ok_or_else(|| wrong("has no Content-Disposition header"))
}

/// Name and value of a header.
fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = cut(line, b":")?;
    let printed = value
        .iter()
        .all(|byte| !byte.is_ascii_control() || *byte == b'\t');
    (is_token(name) && printed).then_some((name, value))
}

/// The value of the one parameter `wanted` in a header of this kind: `kind; wanted="…"`.
///
/// `None` too where readers differ on which parameters there are: one that is given twice or has no value, another
/// spelling of the wanted one (`name*`, `name*0`), a quote inside a value, or one that a backslash may have escaped.
fn parameter<'a>(header: &'a [u8], kind: &[u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let (given, parameters) = cut(header, b";")?;
    if !given.trim_ascii().eq_ignore_ascii_case(kind) {
        return None;
    }
    let mut found = None;
    let mut rest = Some(parameters);
    while let Some(parameters) = rest {
        let (name, value) = cut(parameters, b"=")?;
        let name = name.trim_ascii();
        let value = match value.strip_prefix(b"\"") {
            Some(quoted) => {
                let (value, tail) = cut(quoted, b"\"")?;
                rest = match tail.trim_ascii_start() {
                    [] => None,
                    [b';', more @ ..] => Some(more),
                    _ => return None,
                };
                value
            }
            None => {
                let (value, more) =
                    cut(value, b";").map_or((value, None), |(value, more)| (value, Some(more)));
                rest = more;
                value.trim_ascii()
            }
        };
        if !is_token(name) || value.contains(&b'"') || value.ends_with(b"\\") {
            return None;
        }
        let stem = cut(name, b"*").map_or(name, |(stem, _)| stem);
        if stem.eq_ignore_ascii_case(wanted) {
            if found.is_some() || stem.len() < name.len() {
                return None;
            }
            found = Some(value);
        }
    }
    found
}

/// A name by RFC 9110.
fn is_token(name: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(allowed)
}

/// What stands before the first `mark`, and what follows it.
fn cut<'a>(text: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (before, rest) = text.split_at_checked(memchr::memmem::find(text, mark)?)?;
    Some((before, rest.get(mark.len()..)?))
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
        _ => {
            let count: u32 = text.parse().map_err(|_| wrong("is not a whole number"))?;
            form.answers = count.max(1);
        }
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

    /// Each of these holds a field `model` for one reader and not for another.
    #[test]
    fn what_readers_take_apart_differently_is_refused() {
        let named = "Content-Disposition: form-data; name=\"model\"";
        for (head, said) in [
            (format!("\r\n{named}"), "malformed header"),
            (
                format!("{named}\r\n--{BOUNDARY}\r\nX: y"),
                "no end of its headers",
            ),
            (format!("{named}\r\n--{BOUNDARY}: y"), "no end of its headers"),
            (format!("--{BOUNDARY}: y\r\n{named}"), "no end of its headers"),
            (format!("X: y\r\n {named}"), "malformed header"),
            (format!("X: y\n{named}"), "malformed header"),
            (format!("X: y\r{named}"), "malformed header"),
            (format!("{named}\r\nX"), "malformed header"),
            (named.replace(':', " :"), "malformed header"),
            (named.replace("form-data", "attachment"), "no plain name"),
            (
                named.replace("name=\"model\"", r#"filename="\"; name=model; x="\"""#),
                "no plain name",
            ),
            (
                named.replace("name", r#"x=a"; name=model; y=b"; name"#),
                "no plain name",
            ),
            (named.replace("name", "x; name=file; name"), "no plain name"),
            (format!("{named}x"), "no plain name"),
            (format!("{named}; name*=utf-8''file"), "no plain name"),
            (format!("{named}; Name*0=file"), "no plain name"),
        ] {
            let body = format!("--{BOUNDARY}\r\n{head}\r\n\r\nm\r\n--{BOUNDARY}--\r\n");
            let reason = reason(body.as_bytes());
            assert!(reason.contains(said), "{head}: {reason}");
        }
        assert_eq!(boundary("multipart/form-data; boundary=a; boundary*=b"), None);
    }

    #[test]
    fn there_is_always_one_answer() {
        assert_eq!(read(&form(&[("n", b"0")]), BOUNDARY).unwrap().answers, 1);
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
