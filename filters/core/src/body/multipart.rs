//! Multipart bodies (`multipart/form-data`, RFC 7578): sound and pictures with a few form fields.
//!
//! Parts may come in any order, and a file of tens of megabytes before the model's name. Files are stepped over by a
//! search for the delimiter, which costs about as much as reading the memory.

use std::borrow::Cow;

use memchr::arch::all::packedpair::HeuristicFrequencyRank;
use memchr::memmem::FinderBuilder;

use super::{Body, Input, Malformed, Unmetered, names};
use crate::endpoint::Endpoint;

/// More parts than any endpoint takes.
const MAX_PARTS: usize = 128;
/// Longest header block of a part.
const MAX_HEAD: usize = 8 * 1024;
/// Longest value of a field that is read.
const MAX_FIELD: usize = 1024;

/// The boundary in a `content-type` of `multipart/form-data`; `None` for another type, or without one that RFC 2046
/// allows, in quotes where it has to be.
pub fn boundary(content_type: &str) -> Option<&str> {
    let boundary = parameter(content_type.as_bytes(), b"multipart/form-data", b"boundary")??;
    let boundary = core::str::from_utf8(boundary).ok()?;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&c);
    let lawful =
        (1..=70).contains(&boundary.len()) && boundary.bytes().all(allowed) && !boundary.ends_with(' ');
    lawful.then_some(boundary)
}

/// The `charset` in a `content-type` of this kind: `Some(None)` where none is given. `None` for another kind, or one that
/// readers take apart differently.
pub fn charset<'a>(content_type: &'a [u8], kind: &[u8]) -> Option<Option<&'a [u8]>> {
    parameter(content_type, kind, b"charset")
}

/// Whether a charset is UTF-8, by one of its names.
pub fn is_utf8(charset: &[u8]) -> bool {
    charset.eq_ignore_ascii_case(b"utf-8") || charset.eq_ignore_ascii_case(b"utf8")
}

/// Reads the form fields that the gateway needs, of a request to this endpoint.
pub fn read<'a>(endpoint: Endpoint, body: &'a [u8], boundary: &str) -> Result<Body<'a>, Malformed> {
    let mark = format!("--{boundary}");
    let finder = FinderBuilder::new().build_forward_with_ranker(Rarity, mark.as_bytes());
    let mut form = Body {
        answers: 1,
        ..Body::default()
    };
    let mut fields: Vec<&'static str> = Vec::new();
    // What stands before the first delimiter would be read by nobody, or by somebody.
    let mut rest = body
        .strip_prefix(mark.as_bytes())
        .ok_or_else(|| Malformed::new("The multipart body does not begin with its boundary."))?;
    for part in 0..MAX_PARTS {
        rest = match rest {
            [b'-', b'-', tail @ ..] => {
                form.least_tokens = form.input.least_tokens();
                return end(form, tail);
            }
            [b'\r', b'\n', ..] => rest,
            _ => {
                return Err(Malformed::new(format!(
                    "The boundary before part {part} of the multipart body is malformed."
                )));
            }
        };
        // Wherever a delimiter stands a part ends, be it among its headers: other readers look for delimiters first.
        let Some(len) = finder.find(rest) else {
            return Err(Malformed::new(format!(
                "Part {part} of the multipart body has no end: the body is cut short."
            )));
        };
        let (whole, tail) = rest.split_at_checked(len).unwrap_or_default();
        rest = tail.get(mark.len()..).unwrap_or_default();
        // Some readers end a part at a lone line feed or carriage return, others wherever the boundary stands.
        let whole = whole.strip_suffix(b"\r\n").ok_or_else(|| {
            Malformed::new(format!(
                "The boundary stands within part {part} of the multipart body: \
                 it may stand only at the begin of a line, behind CR and LF."
            ))
        })?;
        let (head, value) = head(whole.get(2..).unwrap_or_default(), part)?;
        count(&mut form.input, endpoint, head.name, value);
        field(&mut form, &mut fields, &head, value)?;
        if head.name == b"model" {
            form.model_span = super::span(body, value);
        }
    }
    Err(Malformed::new(format!(
        "The multipart body has more than {MAX_PARTS} parts."
    )))
}

/// How common a byte is, for the search: two of a delimiter are looked for before the rest is compared. Never two of its
/// dashes, which a file may be full of.
struct Rarity;

impl HeuristicFrequencyRank for Rarity {
    fn rank(&self, byte: u8) -> u8 {
        match byte {
            b'-' => 255,
            b' ' => 250,
            b'a'..=b'z' => 200,
            _ => 100,
        }
    }
}

/// After the last delimiter only blanks may stand.
fn end<'a>(form: Body<'a>, tail: &[u8]) -> Result<Body<'a>, Malformed> {
    if tail.trim_ascii().is_empty() {
        Ok(form)
    } else {
        Err(Malformed::new("Something follows the end of the multipart body."))
    }
}

/// What a part's header block says of it.
#[derive(Default)]
struct Head<'a> {
    name: &'a [u8],
    /// Whether it is a file to readers that tell files from fields.
    is_file: bool,
    /// Whether it says that its text is in a charset that agrees with UTF-8 in ASCII alone.
    is_ascii: bool,
}

/// A part's header block, and what follows it. Readers differ on what to make of a line that is no header, continues
/// one, or has a lone line feed in it: a part with such a line is refused.
fn head(part: &[u8], number: usize) -> Result<(Head<'_>, &[u8]), Malformed> {
    let wrong = |what: &str| Malformed::new(format!("Part {number} of the multipart body {what}."));
    let near = part.get(..MAX_HEAD).unwrap_or(part);
    let (block, _) = cut(near, b"\r\n\r\n").ok_or_else(|| wrong("has no end of its headers"))?;
    let content = part.get(block.len() + 4..).unwrap_or_default();
    let mut head = Head::default();
    let mut disposed = false;
    let mut kind = None;
    let mut lines = Some(block);
    while let Some(rest) = lines {
        let (line, more) = cut(rest, b"\r\n").map_or((rest, None), |(line, more)| (line, Some(more)));
        lines = more;
        let (header, value) = header(line).ok_or_else(|| wrong("has a malformed header"))?;
        let is = |name: &[u8]| header.eq_ignore_ascii_case(name);
        let value = value.trim_ascii();
        if is(b"content-disposition") {
            if disposed {
                return Err(wrong("has two Content-Disposition headers"));
            }
            disposed = true;
            let name = parameter(value, b"form-data", b"name").flatten();
            let name = name.filter(|name| !name.contains(&b'\\'));
            head.name = name.ok_or_else(|| wrong("has no plain name"))?;
            let file = parameter(value, b"form-data", b"filename");
            head.is_file = file != Some(None);
        } else if is(b"content-type") {
            if kind.replace(value).is_some() {
                return Err(wrong("has two Content-Type headers"));
            }
        } else if is(b"content-transfer-encoding") {
            // Some readers undo the others.
            let as_it_is = |plain: &&[u8]| value.eq_ignore_ascii_case(plain);
            if ![&b"7bit"[..], b"8bit", b"binary"].iter().any(as_it_is) {
                return Err(wrong(
                    "has a Content-Transfer-Encoding: send it as it is, without",
                ));
            }
        } else if is(b"content-encoding") && !value.eq_ignore_ascii_case(b"identity") {
            return Err(wrong("has a Content-Encoding: send it as it is, without"));
        } else if is(b"content-length") && value != content.len().to_string().as_bytes() {
            // Some readers go by it instead of the boundary.
            return Err(wrong("has a Content-Length that is not its length"));
        }
    }
    if !disposed {
        return Err(wrong("has no Content-Disposition header"));
    }
    if let Some(kind) = kind {
        let begins = |with: &[u8]| {
            kind.get(..with.len())
                .is_some_and(|it| it.eq_ignore_ascii_case(with))
        };
        if begins(b"multipart/") || begins(b"message/") {
            return Err(wrong("holds parts of its own: send one form"));
        }
        let text = parameter(kind, b"text/plain", b"charset");
        // With any other type it is a file to some.
        head.is_file |= !begins(b"text/plain");
        match text {
            Some(None) => {}
            Some(Some(charset)) if is_utf8(charset) => {}
            Some(Some(charset)) if is_ascii_and_more(charset) => head.is_ascii = true,
            _ if head.is_file => {}
            _ => return Err(wrong("has a charset that is not supported: send it in UTF-8")),
        }
    }
    Ok((head, content))
}

/// Charsets that clients name by default, and in which ASCII is what it is in UTF-8.
fn is_ascii_and_more(charset: &[u8]) -> bool {
    [
        &b"us-ascii"[..],
        b"ascii",
        b"iso-8859-1",
        b"latin1",
        b"windows-1252",
    ]
    .iter()
    .any(|known| charset.eq_ignore_ascii_case(known))
}

/// Name and value of a header.
fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = cut(line, b":")?;
    let printed = value
        .iter()
        .all(|byte| !byte.is_ascii_control() || *byte == b'\t');
    (is_token(name) && printed).then_some((name, value))
}

/// The value of the one parameter `wanted` in a header of this kind: `kind; wanted="…"`; `Some(None)` where it is not
/// given.
///
/// `None` for another kind, and where readers differ on which parameters there are: one that is given twice or has no
/// value, another spelling of the wanted one (`name*`, `name*0`), a quote inside a value, one that a backslash may have
/// escaped, or blanks in a wanted one that stands without quotes.
fn parameter<'a>(header: &'a [u8], kind: &[u8], wanted: &[u8]) -> Option<Option<&'a [u8]>> {
    let (given, parameters) = cut(header, b";").map_or((header, None), |(given, rest)| (given, Some(rest)));
    if !given.trim_ascii().eq_ignore_ascii_case(kind) {
        return None;
    }
    let mut found = None;
    let mut rest = parameters;
    while let Some(parameters) = rest {
        if parameters.trim_ascii().is_empty() {
            // Nothing stands behind the last semicolon.
            break;
        }
        let (name, value) = cut(parameters, b"=")?;
        let name = name.trim_ascii();
        let (value, whole) = match value.strip_prefix(b"\"") {
            Some(quoted) => {
                let (value, tail) = cut(quoted, b"\"")?;
                rest = match tail.trim_ascii_start() {
                    [] => None,
                    [b';', more @ ..] => Some(more),
                    _ => return None,
                };
                (value, true)
            }
            None => {
                let (value, more) =
                    cut(value, b";").map_or((value, None), |(value, more)| (value, Some(more)));
                rest = more;
                let value = value.trim_ascii();
                (value, is_token(value))
            }
        };
        if !is_token(name) || value.contains(&b'"') || value.ends_with(b"\\") {
            return None;
        }
        let stem = cut(name, b"*").map_or(name, |(stem, _)| stem);
        if stem.eq_ignore_ascii_case(wanted) {
            if found.is_some() || stem.len() < name.len() || !whole {
                return None;
            }
            found = Some(value);
        }
    }
    Some(found)
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

/// Counts a part: what the endpoint takes files in is what it is for, all else is text.
fn count(input: &mut Input, endpoint: Endpoint, name: &[u8], value: &[u8]) {
    let len = value.len() as u64;
    match (endpoint, name) {
        (_, b"model" | b"stream" | b"n" | b"response_format" | b"user") => {}
        // `image[]`, `image1`, `images`, `image_url`: some server takes each of them.
        (Endpoint::ImagesEdits, name)
            if [&b"image"[..], b"mask", b"reference_image"]
                .iter()
                .any(|begin| name.starts_with(begin)) =>
        {
            input.pictures += 1;
        }
        // Some servers fetch what is at an address.
        (
            Endpoint::Transcriptions | Endpoint::Translations,
            b"file" | b"file_id" | b"url" | b"uri" | b"file_url" | b"audio_url" | b"source_url",
        ) => {
            // Looked for once: a file may be blanks alone.
            let begin = value.trim_ascii_start();
            if begins(begin, b"data:") || (name == b"file" && !is_address(begin)) {
                input.audio += len;
            } else {
                input.unseen += 1;
            }
        }
        (Endpoint::Transcriptions, name) if name.starts_with(b"known_speaker_references") => {
            input.audio += len;
        }
        _ => input.text += len,
    }
}

/// Whether a file is where to find it.
fn is_address(value: &[u8]) -> bool {
    begins(value, b"http://") || begins(value, b"https://")
}

fn begins(value: &[u8], with: &[u8]) -> bool {
    let begin = value.get(..with.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(with))
}

fn field<'a>(
    form: &mut Body<'a>,
    fields: &mut Vec<&'static str>,
    head: &Head<'a>,
    value: &'a [u8],
) -> Result<(), Malformed> {
    let name = String::from_utf8_lossy(head.name);
    if name.trim().eq_ignore_ascii_case("_charset_") && !is_utf8(value) {
        return Err(Malformed::new(
            "The form field `_charset_` names another charset than UTF-8.",
        ));
    }
    // To some, `model[]`, `model[x]` and `model.x` are of `model`.
    let stem = name.split(['[', '.']).next().unwrap_or_default();
    if stem.trim().eq_ignore_ascii_case("response_format") {
        let json: [&[u8]; 4] = [b"", b"json", b"verbose_json", b"diarized_json"];
        form.plain |= !json.contains(&value);
    }
    let known = names::fields().find(|known| *known == stem);
    let Some(known) = known.or_else(|| names::mistaken(stem, names::fields())) else {
        // Forms have fields of their own by these names.
        let others = |one: &Unmetered| {
            !matches!(
                one,
                Unmetered::Background | Unmetered::Speed | Unmetered::ServiceTier
            )
        };
        form.unmetered.extend(names::unmetered_field(stem).filter(others));
        return Ok(());
    };
    let wrong = |what: &str| Malformed {
        param: Some(known),
        reason: format!("The form field `{known}` {what}."),
    };
    if name != known {
        let shown = crate::key::shown(&name, 64);
        let shown: String = shown.chars().flat_map(char::escape_debug).collect();
        return Err(Malformed {
            param: Some(known),
            reason: format!(
                "Some servers read the form field `{shown}` as `{known}`, others do not: write `{known}`, or leave it out."
            ),
        });
    }
    if head.is_file {
        return Err(wrong(
            "is sent as a file: send it without a file name, as text/plain",
        ));
    }
    if head.is_ascii && !value.is_ascii() {
        return Err(wrong("has a charset that is not supported: send it in UTF-8"));
    }
    if fields.contains(&known) {
        return Err(wrong("is given twice"));
    }
    fields.push(known);
    let text = core::str::from_utf8(value).map_err(|_| wrong("is not UTF-8"))?;
    if known == "prompt" {
        form.longest = Some(known);
        return Ok(());
    }
    if text.len() > MAX_FIELD {
        return Err(wrong("is too long"));
    }
    match known {
        "model" if text.contains(char::is_control) => return Err(wrong("holds control characters")),
        "model" => form.model = Some(Cow::Borrowed(text)),
        "stream" => {
            form.stream = match text {
                "true" | "True" | "1" => true,
                "false" | "False" | "0" | "" => false,
                _ => return Err(wrong("is neither `true` nor `false`")),
            }
        }
        known => {
            let plain = text.bytes().all(|digit| digit.is_ascii_digit())
                && (text.len() == 1 || !text.starts_with('0'));
            let count = text
                .parse::<u32>()
                .ok()
                .filter(|count| plain && i32::try_from(*count).is_ok());
            let count = count.ok_or_else(|| wrong("is not a whole number that every server reads alike"))?;
            if names::ANSWERS.contains(&known) {
                form.answers = form.answers.max(count);
            } else {
                form.caps.name(known, count);
            }
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

    fn read<'a>(body: &'a [u8], boundary: &str) -> Result<Body<'a>, Malformed> {
        super::read(Endpoint::Transcriptions, body, boundary)
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
    fn text_alone_is_what_is_no_json() {
        let plain = |parts: &[(&str, &[u8])]| read(&form(parts), BOUNDARY).unwrap().plain;
        assert!(!plain(&[("model", b"whisper-1")]));
        for json in ["json", "verbose_json", "diarized_json", ""] {
            assert!(!plain(&[("response_format", json.as_bytes())]), "{json}");
        }
        for text in ["text", "srt", "vtt", "TEXT", "tsv", "\u{e9}"] {
            assert!(plain(&[("response_format", text.as_bytes())]), "{text}");
        }
        // Whichever of them a server reads.
        assert!(plain(&[
            ("response_format", b"srt"),
            ("response_format", b"json")
        ]));
        assert!(plain(&[("Response_Format", b"srt")]) && plain(&[("response_format[]", b"srt")]));
    }

    #[test]
    fn the_boundary() {
        assert_eq!(boundary("multipart/form-data; boundary=abc"), Some("abc"));
        assert_eq!(
            boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\""),
            Some("a b")
        );
        assert_eq!(
            boundary("multipart/form-data; boundary=\"a=b/c\";"),
            Some("a=b/c")
        );
        for bad in [
            "multipart/form-data; boundary=a b",
            "multipart/form-data; boundary=a=b",
            "multipart/form-data; boundary=a,b",
            "multipart/form-data; boundary=a, multipart/form-data; boundary=b",
            "multipart/form-data; boundary=\"a\\b\"",
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
    fn what_is_ambiguous_is_refused() {
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

    /// One field `model`, with what else its headers say and its value.
    fn model(name: &str, headers: &str, value: &str) -> Result<Option<String>, String> {
        let disposition = format!("Content-Disposition: form-data; {name}");
        let body = format!("--{BOUNDARY}\r\n{disposition}{headers}\r\n\r\n{value}\r\n--{BOUNDARY}--\r\n");
        let read = read(body.as_bytes(), BOUNDARY).map_err(|malformed| malformed.reason)?;
        Ok(read.model.map(Cow::into_owned))
    }

    #[test]
    fn a_field_is_text_as_it_stands() {
        for headers in [
            "",
            "\r\nContent-Type: text/plain",
            "\r\ncontent-type: text/plain; charset=utf-8",
            "\r\nContent-Type: text/plain;charset=\"UTF-8\";",
            "\r\nContent-Type: text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: 8bit",
            "\r\nContent-Transfer-Encoding: binary\r\nContent-Length: 1",
            "\r\nContent-Encoding: identity\r\nX-Any: thing",
        ] {
            assert_eq!(
                model("name=\"model\"", headers, "m"),
                Ok(Some("m".into())),
                "{headers}"
            );
            assert_eq!(
                model("name=model", headers, "m"),
                Ok(Some("m".into())),
                "{headers}"
            );
        }
        for (headers, said) in [
            ("\r\nContent-Type: text/plain; charset=utf-7", "charset"),
            (
                "\r\nContent-Type: text/plain; charset=utf-8; charset=utf-16",
                "charset",
            ),
            ("\r\nContent-Type: text/plain; charset*=utf-8''utf-16", "charset"),
            (
                "\r\nContent-Type: text/plain\r\nContent-Type: text/plain",
                "two Content-Type",
            ),
            ("\r\nContent-Type: application/octet-stream", "as a file"),
            ("\r\nContent-Type: application/json", "as a file"),
            (
                "\r\nContent-Type: multipart/mixed; boundary=x",
                "parts of its own",
            ),
            ("\r\nContent-Type: message/rfc822", "parts of its own"),
            (
                "\r\nContent-Transfer-Encoding: base64",
                "Content-Transfer-Encoding",
            ),
            (
                "\r\nContent-Transfer-Encoding: quoted-printable",
                "Content-Transfer-Encoding",
            ),
            ("\r\nContent-Encoding: gzip", "Content-Encoding"),
            ("\r\nContent-Length: 3", "Content-Length"),
            ("; filename=\"x\"", "as a file"),
            ("; filename=\"\"", "as a file"),
            ("; filename*=utf-8''x", "as a file"),
        ] {
            let reason = model("name=\"model\"", headers, "m").unwrap_err();
            assert!(reason.contains(said), "{headers}: {reason}");
        }
        let latin = "\r\nContent-Type: text/plain; charset=iso-8859-1";
        assert!(
            model("name=\"model\"", latin, "é")
                .unwrap_err()
                .contains("charset")
        );
        assert!(
            model("name=\"model\"", "", "m\0")
                .unwrap_err()
                .contains("control")
        );
    }

    #[test]
    fn names_that_some_take_for_another_are_refused() {
        for name in [
            "name=\"Model\"",
            "name=\"MODEL\"",
            "name=\" model\"",
            "name=\"model \"",
            "name=\"model[]\"",
            "name=\"model[x]\"",
            "name=\"Model[0]\"",
            "name=\"mo_del\"",
            "name=\"ſtream\"",
        ] {
            let reason = model(name, "", "m").unwrap_err();
            assert!(
                reason.contains("Some servers read the form field"),
                "{name}: {reason}"
            );
        }
        for name in [
            "name=\"image[]\"",
            "name=\"timestamp_granularities[]\"",
            "name=\"Modell\"",
            "name=\"\"",
        ] {
            assert_eq!(model(name, "", "m"), Ok(None), "{name}");
        }
        assert!(
            model("name=model x", "", "m")
                .unwrap_err()
                .contains("no plain name")
        );
        assert!(
            model("name=\"_charset_\"", "", "utf-7")
                .unwrap_err()
                .contains("_charset_")
        );
        assert_eq!(model("name=\"_charset_\"", "", "UTF-8"), Ok(None));
    }

    /// Werkzeug ends a part at lone line breaks, Django wherever the boundary stands.
    #[test]
    fn a_boundary_within_a_part_is_refused() {
        for before in ["\n", "\r", "", "x", "\n\r", "\r\r"] {
            for after in ["", "\r\n", "\n", "--", "--\r\n", "x"] {
                let file = format!("sound{before}--{BOUNDARY}{after}");
                let body = form(&[("model", b"m"), ("file", file.as_bytes())]);
                let reason = reason(&body);
                assert!(reason.contains("within part 1"), "{file:?}: {reason}");
            }
        }
        let padded = form(&[("model", b"m")]);
        let padded = String::from_utf8(padded)
            .unwrap()
            .replacen(BOUNDARY, &format!("{BOUNDARY} "), 1);
        assert!(reason(padded.as_bytes()).contains("malformed"));
    }

    #[test]
    fn a_count_is_digits() {
        for (text, answers) in [
            ("3", Some(3)),
            ("0", Some(1)),
            ("03", None),
            ("+3", None),
            ("3 ", None),
            ("3.0", None),
            ("", None),
            ("2147483648", None),
        ] {
            let read = read(&form(&[("n", text.as_bytes())]), BOUNDARY)
                .ok()
                .map(|form| form.answers);
            assert_eq!(read, answers, "{text}");
        }
    }

    #[test]
    fn there_is_always_one_answer() {
        assert_eq!(read(&form(&[("n", b"0")]), BOUNDARY).unwrap().answers, 1);
    }

    #[test]
    fn files_count_by_what_the_endpoint_takes_them_for() {
        let body = form(&[
            ("model", b"m"),
            ("image[]", b"12345"),
            ("mask", b"1"),
            ("image_url", b"https://a"),
            ("images", b"https://a"),
            ("reference_image", b"https://a"),
            ("file", b"123"),
            ("prompt", "hé".as_bytes()),
        ]);
        let input = |endpoint| super::read(endpoint, &body, BOUNDARY).unwrap().input;
        let edit = input(Endpoint::ImagesEdits);
        assert_eq!((edit.text, edit.pictures, edit.audio), (6, 5, 0));
        let speech = input(Endpoint::Translations);
        assert_eq!((speech.text, speech.pictures, speech.audio), (36, 0, 3));
    }

    #[test]
    fn what_cannot_be_metered_is_known_by_any_name_that_some_server_takes_for_it() {
        let unmetered = |name: &str| {
            let body = form(&[("model", b"m"), (name, b"x")]);
            super::read(Endpoint::Transcriptions, &body, BOUNDARY)
                .unwrap()
                .unmetered
        };
        for name in ["api_base", "API_BASE", "api-base", "api_base[]", "api_base.x"] {
            assert_eq!(unmetered(name), [Unmetered::ApiBase], "{name}");
        }
        assert_eq!(unmetered("user_config.model_list"), [Unmetered::UserConfig]);
        assert_eq!(unmetered("background"), []);
    }

    #[test]
    fn sound_at_an_address_is_unseen() {
        let input = |name: &str, value: &str| {
            let body = form(&[("model", b"m"), (name, value.as_bytes())]);
            let input = super::read(Endpoint::Transcriptions, &body, BOUNDARY)
                .unwrap()
                .input;
            (input.unseen, input.audio)
        };
        for name in ["file", "url", "uri", "file_url", "audio_url", "source_url"] {
            for address in ["https://a/b.mp3", " HTTP://a/b.mp3"] {
                assert_eq!(input(name, address), (1, 0), "{name} {address}");
            }
            assert_eq!(input(name, "data:audio/mpeg;base64,AAAA"), (0, 27), "{name}");
        }
        assert_eq!(input("url", "s3://a/b"), (1, 0));
        assert_eq!(input("file_id", "file-1"), (1, 0));
        assert_eq!(input("file", "RIFF"), (0, 4));
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
