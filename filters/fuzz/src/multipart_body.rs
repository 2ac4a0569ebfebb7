//! Multipart bodies: core reads what a plain splitter finds, and refuses what other splitters might take apart
//! otherwise.
//!
//! The first line of the bytes is the request's `content-type`, the rest is the body.

use tollgate_core::body::{Body, Caps, boundary, read_multipart};

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
    let read = read_multipart(body, limit);
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
    prompt: u64,
}

impl From<&Body<'_>> for Form {
    fn from(body: &Body<'_>) -> Self {
        assert_eq!((body.caps, body.stream_options), (Caps::default(), None));
        Self {
            model: body.model.as_deref().map(str::to_owned),
            stream: body.stream,
            answers: body.answers,
            prompt: body.input.text,
        }
    }
}

impl Form {
    /// `None` where the body is to be refused.
    fn split(body: &[u8], boundary: &str) -> Option<Self> {
        // As if the first delimiter had a line break before it as well, each is the same.
        let whole = [b"\r\n", body].concat();
        let pieces = split(&whole, format!("\r\n--{boundary}").as_bytes());
        let (before, rest) = pieces.split_first()?;
        let (end, parts) = rest.split_last()?;
        let ended = end.strip_prefix(b"--")?.trim_ascii().is_empty();
        if !before.is_empty() || !ended || parts.len() >= MAX_PARTS {
            return None;
        }
        let mut fields = Vec::new();
        for part in parts {
            fields.push(field(part.strip_prefix(b"\r\n")?)?);
        }
        Self::of(&fields)
    }

    fn of(fields: &[(String, &[u8])]) -> Option<Self> {
        let model = text(fields, "model", MAX_FIELD)?;
        let answers = match text(fields, "n", MAX_FIELD)? {
            None => 1,
            Some(count) => count.parse::<u32>().ok()?.max(1),
        };
        let stream = match text(fields, "stream", MAX_FIELD)? {
            None | Some("" | "false" | "False" | "0") => false,
            Some("true" | "True" | "1") => true,
            Some(_) => return None,
        };
        Some(Self {
            model: model.map(str::to_owned),
            stream,
            answers,
            prompt: text(fields, "prompt", usize::MAX)?.map_or(0, |prompt| prompt.len() as u64),
        })
    }
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
    let mut dispositions = Vec::new();
    for line in split(head, b"\r\n") {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?);
        if !is_token(name) || line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return None;
        }
        if name.eq_ignore_ascii_case(b"content-disposition") {
            dispositions.push(value);
        }
    }
    let [disposition] = dispositions.as_slice() else {
        return None;
    };
    let name = parameter(disposition, b"form-data", b"name")?;
    let plain = !name.contains(&b'\\');
    // Names that are no UTF-8 are nobody's.
    plain.then(|| (String::from_utf8_lossy(name).into_owned(), value))
}

/// The boundary that a `content-type` names, by the characters that RFC 2046 allows.
fn boundary_in(content_type: &str) -> Option<&str> {
    let found = parameter(content_type.as_bytes(), b"multipart/form-data", b"boundary")?;
    let found = core::str::from_utf8(found).ok()?;
    let last = found.chars().last()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(c);
    (found.len() <= 70 && last != ' ' && found.chars().all(allowed)).then_some(found)
}

/// The value of the one parameter of this name, in a header of this kind all of whose parameters are well-formed.
fn parameter<'a>(header: &'a [u8], kind: &[u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let pieces = unquoted_split(header)?;
    let (first, parameters) = pieces.split_first()?;
    let mut found = Vec::new();
    for parameter in parameters {
        let equals = parameter.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (
            parameter.get(..equals)?.trim_ascii(),
            parameter.get(equals + 1..)?,
        );
        let value = match value {
            [b'"', inner @ ..] => inner.trim_ascii_end().strip_suffix(b"\"")?,
            _ => value.trim_ascii(),
        };
        // `name*` and `name*0` are ways to write `name`, which not every reader knows.
        let stem = name.split(|byte| *byte == b'*').next()?;
        if !is_token(name) || value.contains(&b'"') || value.ends_with(b"\\") {
            return None;
        }
        if stem.eq_ignore_ascii_case(wanted) {
            found.push((name.len() == stem.len()).then_some(value)?);
        }
    }
    match found.as_slice() {
        [value] if first.trim_ascii().eq_ignore_ascii_case(kind) => Some(value),
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
