//! HTTP/2 by hand: a request of any headers, also of such as no library sends.

/// The client's preface, empty settings, and one request on stream 1 that ends with its headers.
pub(crate) fn request(headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = preface(&[]);
    bytes.extend(block(1, headers));
    bytes
}

/// What stands for `SETTINGS_INITIAL_WINDOW_SIZE`: how much of an answer its client takes unasked.
pub(crate) const WINDOW: u16 = 4;

/// How a client begins, with these settings.
pub(crate) fn preface(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = settings.iter().flat_map(|(name, value)| {
        let (name, value) = (name.to_be_bytes(), value.to_be_bytes());
        name.into_iter().chain(value)
    });
    bytes.extend(frame(4, 0, 0, &settings.collect::<Vec<_>>()));
    bytes
}

/// A request on `stream` with a body of one frame.
pub(crate) fn post(stream: u32, headers: &[(&[u8], &[u8])], body: &[u8]) -> Vec<u8> {
    let mut bytes = head(stream, headers, 0);
    bytes.extend(frame(0, END_STREAM, stream, body));
    bytes
}

const END_STREAM: u8 = 1;

/// The header block of a request on `stream`, in as many frames as it takes.
pub(crate) fn block(stream: u32, headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    head(stream, headers, END_STREAM)
}

fn head(stream: u32, headers: &[(&[u8], &[u8])], end: u8) -> Vec<u8> {
    const END_HEADERS: u8 = 4;
    let mut fields = Vec::new();
    for (name, value) in headers {
        fields.push(0); // a literal that is not indexed, of a new name
        literal(&mut fields, name);
        literal(&mut fields, value);
    }
    let mut bytes = Vec::new();
    let count = fields.chunks(16384).count().max(1);
    for (at, chunk) in fields.chunks(16384).enumerate() {
        let (kind, flags) = if at == 0 { (1, end) } else { (9, 0) };
        let last = if at + 1 == count { END_HEADERS } else { 0 };
        bytes.extend(frame(kind, flags | last, stream, chunk));
    }
    bytes
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [len[1], len[2], len[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// A string without Huffman's code, behind its length.
fn literal(bytes: &mut Vec<u8>, text: &[u8]) {
    let mut len = text.len();
    if len < 127 {
        bytes.push(u8::try_from(len).unwrap());
    } else {
        bytes.push(127);
        len -= 127;
        while len >= 128 {
            bytes.push(u8::try_from(len % 128).unwrap() | 128);
            len /= 128;
        }
        bytes.push(u8::try_from(len).unwrap());
    }
    bytes.extend(text);
}
