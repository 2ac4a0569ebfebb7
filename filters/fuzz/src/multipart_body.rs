//! Multipart bodies: core reads what a plain splitter finds, and refuses what other splitters might take apart
//! otherwise.
//!
//! The first line of the bytes is the request's `content-type`, the rest is the body.

use tollgate_core::body::{Body, boundary, read_multipart};
use tollgate_core::endpoint::Endpoint;

use crate::json_body::{ANSWERS, LENGTHS, letters};

/// Most parts of a form.
const MAX_PARTS: usize = 128;
/// Longest header block of a part, its end included.
const MAX_HEAD: usize = 8 * 1024;
/// Longest value of a field that is read, but for `prompt`.
const MAX_FIELD: usize = 1024;

/// Whether the bytes are read as a form.
///
/// # Panics
/// When core reads them otherwise than they stand there.
pub fn check(data: &[u8]) -> bool {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (line, body) = (data.get(..end), data.get(end + 1..).unwrap_or_default());
    let Some(content_type) = line.and_then(|line| core::str::from_utf8(line).ok()) else {
        return false;
    };
    let limit = boundary(content_type);
    assert_eq!(limit, boundary_in(content_type));
    let Some(limit) = limit else { return false };

    let form = Form::split(body, limit);
    let read = read_multipart(Endpoint::ImagesEdits, body, limit);
    assert_eq!(form.is_some(), read.is_ok(), "{read:?}, not {form:?}");
    let (Some(form), Ok(read)) = (form, read) else {
        return false;
    };
    assert_eq!(Form::from(&read), form);
    let place = read.model_span.map(|span| body.get(span).unwrap_or_default());
    assert_eq!(place, form.model.as_deref().map(str::as_bytes));
    true
}

/// What is read of a form, without its places.
#[derive(Debug, Default, PartialEq)]
struct Form {
    model: Option<String>,
    stream: bool,
    answers: u32,
    text: u64,
    pictures: u64,
}

impl From<&Body<'_>> for Form {
    fn from(body: &Body<'_>) -> Self {
        assert_eq!(body.stream_options, None);
        Self {
            model: body.model.as_deref().map(str::to_owned),
            stream: body.stream,
            answers: body.answers,
            text: body.input.text,
            pictures: body.input.pictures,
        }
    }
}

impl Form {
    /// `None` where the body is to be refused.
    fn split(body: &[u8], boundary: &str) -> Option<Self> {
        let pieces = split(body, format!("--{boundary}").as_bytes());
        let (before, rest) = pieces.split_first()?;
        let (end, parts) = rest.split_last()?;
        let ended = end.strip_prefix(b"--")?.trim_ascii().is_empty();
        if !before.is_empty() || !ended || parts.len() >= MAX_PARTS {
            return None;
        }
        let mut fields = Vec::new();
        for part in parts {
            fields.push(field(part.strip_prefix(b"\r\n")?.strip_suffix(b"\r\n")?)?);
        }
        Self::of(&fields)
    }

    fn of(fields: &[(String, &[u8])]) -> Option<Self> {
        let model = text(fields, "model", MAX_FIELD)?;
        if model.is_some_and(|model| model.contains(char::is_control)) {
            return None;
        }
        let count = |name: &str| match text(fields, name, MAX_FIELD)? {
            None => Some(0),
            Some(count) => {
                let number = count.parse::<u32>().ok();
                let number = number.filter(|number| number.to_string() == count)?;
                i32::try_from(number).ok().map(|_| number)
            }
        };
        let answers: Option<Vec<u32>> = ANSWERS.iter().map(|name| count(name)).collect();
        let answers = answers?.into_iter().max()?.max(1);
        CAPS.iter()
            .chain(&LENGTHS)
            .try_for_each(|name| count(name).map(|_| ()))?;
        let stream = match text(fields, "stream", MAX_FIELD)? {
            None | Some("" | "false" | "False" | "0") => false,
            Some("true" | "True" | "1") => true,
            Some(_) => return None,
        };
        Some(Self {
            model: model.map(str::to_owned),
            stream,
            answers,
            text: {
                text(fields, "prompt", usize::MAX)?;
                let settings = ["model", "stream", "n", "response_format", "user"];
                let read = fields
                    .iter()
                    .filter(|(name, _)| !settings.contains(&name.as_str()) && !is_picture(name));
                read.map(|(_, value)| value.len() as u64).sum()
            },
            pictures: fields.iter().filter(|(name, _)| is_picture(name)).count() as u64,
        })
    }
}

/// Whether a field holds a picture.
fn is_picture(name: &str) -> bool {
    ["image", "mask", "reference_image"]
        .iter()
        .any(|begin| name.starts_with(begin))
}

/// The text of the one field of this name; `None` where it is given twice, too long or not UTF-8.
fn text<'a>(fields: &[(String, &'a [u8])], wanted: &str, longest: usize) -> Option<Option<&'a str>> {
    let mut given = fields.iter().filter(|(name, _)| name == wanted);
    match (given.next(), given.next()) {
        (None, _) => Some(None),
        (Some((_, value)), None) if value.len() <= longest => core::str::from_utf8(value).ok().map(Some),
        _ => None,
    }
}

/// Name and value of a part.
fn field(part: &[u8]) -> Option<(String, &[u8])> {
    let end = part.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, value) = (part.get(..end)?, part.get(end + 4..)?);
    if end + 4 > MAX_HEAD {
        return None;
    }
    let mut headers: Vec<(String, &[u8])> = Vec::new();
    for line in split(head, b"\r\n") {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
        if !is_token(name) || line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return None;
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        headers.push((name, value.trim_ascii()));
    }
    let all = |wanted: &str| -> Vec<&[u8]> {
        let named = headers.iter().filter(|(name, _)| name == wanted);
        named.map(|(_, value)| *value).collect()
    };
    let [disposition] = all("content-disposition")[..] else {
        return None;
    };
    let lower = |value: &[u8]| String::from_utf8_lossy(value).to_ascii_lowercase();
    let plain = |value: &&[u8]| ["7bit", "8bit", "binary"].contains(&lower(value).as_str());
    let as_it_is = all("content-transfer-encoding").iter().all(plain)
        && all("content-encoding")
            .iter()
            .all(|value| lower(value) == "identity")
        && all("content-length")
            .iter()
            .all(|length| lower(length) == value.len().to_string());
    let name = parameter(disposition, b"form-data", b"name")??;
    if !as_it_is || name.contains(&b'\\') {
        return None;
    }
    let mut file = parameter(disposition, b"form-data", b"filename") != Some(None);
    let mut ascii = false;
    match all("content-type")[..] {
        [] => {}
        [kind] => {
            let kind_is = lower(kind);
            if kind_is.starts_with("multipart/") || kind_is.starts_with("message/") {
                return None;
            }
            file |= !kind_is.starts_with("text/plain");
            let charset = parameter(kind, b"text/plain", b"charset").map(|charset| charset.map(lower));
            match charset {
                Some(None) => {}
                Some(Some(charset)) if ["utf-8", "utf8"].contains(&charset.as_str()) => {}
                Some(Some(charset))
                    if ["us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"]
                        .contains(&charset.as_str()) =>
                {
                    ascii = true;
                }
                _ if !file => return None,
                _ => {}
            }
        }
        _ => return None,
    }
    // Names that are no UTF-8 are nobody's.
    let name = String::from_utf8_lossy(name).into_owned();
    if name.trim().eq_ignore_ascii_case("_charset_") && !["utf-8", "utf8"].contains(&lower(value).as_str()) {
        return None;
    }
    let stem = name.split(['[', '.']).next()?;
    let mut fields = FIELDS.iter().chain(&ANSWERS).chain(&CAPS).chain(&LENGTHS);
    let known = fields.find(|known| stem.len() <= 256 && letters(known) == letters(stem));
    if let Some(known) = known
        && (name != **known || file || (ascii && !value.is_ascii()))
    {
        return None;
    }
    Some((name, value))
}

/// What is read of a form.
const FIELDS: [&str; 3] = ["model", "stream", "prompt"];
const CAPS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];

/// The boundary that a `content-type` names, by the characters that RFC 2046 allows.
fn boundary_in(content_type: &str) -> Option<&str> {
    let found = parameter(content_type.as_bytes(), b"multipart/form-data", b"boundary")??;
    let found = core::str::from_utf8(found).ok()?;
    let last = found.chars().last()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(c);
    (found.len() <= 70 && last != ' ' && found.chars().all(allowed)).then_some(found)
}

/// The value of the one parameter of this name, in a header of this kind all of whose parameters are well-formed.
fn parameter<'a>(header: &'a [u8], kind: &[u8], wanted: &[u8]) -> Option<Option<&'a [u8]>> {
    let pieces = unquoted_split(header)?;
    let (first, mut parameters) = pieces.split_first()?;
    if let Some((last, others)) = parameters.split_last()
        && last.trim_ascii().is_empty()
    {
        parameters = others;
    }
    let mut found = Vec::new();
    for parameter in parameters {
        let equals = parameter.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (
            parameter.get(..equals)?.trim_ascii(),
            parameter.get(equals + 1..)?,
        );
        let (value, whole) = match value {
            [b'"', inner @ ..] => (inner.trim_ascii_end().strip_suffix(b"\"")?, true),
            _ => (value.trim_ascii(), is_token(value.trim_ascii())),
        };
        // `name*` and `name*0` are ways to write `name`, which not every reader knows.
        let stem = name.split(|byte| *byte == b'*').next()?;
        if !is_token(name) || value.contains(&b'"') || value.ends_with(b"\\") {
            return None;
        }
        if stem.eq_ignore_ascii_case(wanted) {
            found.push((name.len() == stem.len() && whole).then_some(value)?);
        }
    }
    match found.as_slice() {
        _ if !first.trim_ascii().eq_ignore_ascii_case(kind) => None,
        [] => Some(None),
        [value] => Some(Some(value)),
        _ => None,
    }
}

/// Cut at each `;` that stands outside of quotes.
fn unquoted_split(header: &[u8]) -> Option<Vec<&[u8]>> {
    let mut quoted = false;
    let pieces = header.split(|byte| {
        quoted ^= *byte == b'"';
        *byte == b';' && !quoted
    });
    let pieces = pieces.collect();
    (!quoted).then_some(pieces)
}

fn is_token(name: &[u8]) -> bool {
    let separator = |byte: &u8| b"\"(),/:;<=>?@[\\]{}".contains(byte);
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !separator(byte))
}

/// What stands between the places of `by`, at least one piece.
fn split<'a>(mut text: &'a [u8], by: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while let Some(at) = text.windows(by.len()).position(|window| window == by) {
        let (piece, rest) = text.split_at_checked(at).unwrap_or_default();
        pieces.push(piece);
        text = rest.get(by.len()..).unwrap_or_default();
    }
    pieces.push(text);
    pieces
}
