//! Requests that nobody honest sends, drawn from a seed.

use tollgate_harness::models::random::Random;

/// Part of every made-up credential, so that one search of a log finds them all. Longer than what a masked key shows.
pub(crate) const MARK: &str = "NobodysSecret";

/// What a forged second request asks for, so that a model server that saw one is found out.
pub(crate) const SMUGGLED: &str = "/v1/smuggled";

/// One attack over one connection.
pub(crate) struct Attack {
    /// What it tries, for the account.
    pub(crate) kind: &'static str,
    /// What is sent, piece by piece.
    pub(crate) pieces: Vec<Vec<u8>>,
    /// Whether an answer is waited for; else the connection is left as soon as all is sent.
    pub(crate) waits: bool,
}

impl std::fmt::Debug for Attack {
    /// Enough to see what it is; its seed makes it again.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.pieces.concat();
        let begin = bytes.get(..1_000).unwrap_or(&bytes);
        write!(f, "{}: {}", self.kind, begin.escape_ascii())
    }
}

type Maker = fn(&mut Random, &str) -> Attack;

const KINDS: [(&str, Maker); 16] = [
    ("no credential", no_credential),
    ("made-up key", made_up_key),
    ("typo", typo),
    ("long key", long_key),
    ("many credentials", many_credentials),
    ("garbage value", garbage_value),
    ("garbage name", garbage_name),
    ("huge headers", huge_headers),
    ("many headers", many_headers),
    ("spoofed identity", spoofed_identity),
    ("half a request", half_a_request),
    ("wrong length", wrong_length),
    ("smuggling", smuggling),
    ("path trick", path_trick),
    ("no HTTP", no_http),
    ("odd HTTP/2", odd_http2),
];

/// The next attack. `good` is a valid key that some of them carry.
pub(crate) fn attack(random: &mut Random, good: &str) -> Attack {
    let (kind, make) = *random.pick(&KINDS);
    Attack {
        kind,
        ..make(random, good)
    }
}

/// Every kind of attack.
pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(kind, _)| *kind)
}

fn sent(bytes: Vec<u8>) -> Attack {
    Attack {
        kind: "",
        pieces: vec![bytes],
        waits: true,
    }
}

fn left(bytes: Vec<u8>) -> Attack {
    Attack {
        waits: false,
        ..sent(bytes)
    }
}

const PATHS: [&str; 6] = [
    "/v1/models",
    "/v1/chat/completions",
    "/v1/messages",
    "/v1/embeddings",
    "/",
    "/v1/models/llama-70b",
];

/// A request without a body; header lines end in CRLF.
fn get(path: &str, headers: &[u8]) -> Vec<u8> {
    [
        format!("GET {path} HTTP/1.1\r\nhost: gateway\r\n").as_bytes(),
        headers,
        b"\r\n",
    ]
    .concat()
}

fn made_up(random: &mut Random) -> String {
    let len = random.below(60);
    let word = random.word(len);
    match random.below(4) {
        0 => format!("sk-tg-{}-{MARK}{word}", random.word(12).to_lowercase()),
        1 => format!("sk-proj-{MARK}{word}"),
        2 => format!("eyJhbGciOiJub25lIn0.{MARK}{word}.{MARK}"),
        _ => format!("{word}{MARK}{word}"),
    }
}

/// Some way to present a credential.
fn presented(random: &mut Random, key: &str) -> String {
    match random.below(8) {
        0 => format!("x-api-key: {key}\r\n"),
        1 => format!("api-key: {key}\r\n"),
        2 => format!("AUTHORIZATION:bearer\t{key}\r\n"),
        3 => format!("authorization: Basic {key}\r\n"),
        4 => format!("authorization: {key}\r\n"),
        5 => format!("authorization: Bearer {key}, Bearer {key}\r\n"),
        _ => format!("authorization: Bearer {key}\r\n"),
    }
}

fn no_credential(random: &mut Random, _: &str) -> Attack {
    let value = *random.pick(&[
        "", "Bearer", "Bearer ", "bearer", "Basic", ",", ",,,", "Bearer ,", "\t",
    ]);
    let path = *random.pick(&PATHS);
    sent(get(path, format!("authorization: {value}\r\n").as_bytes()))
}

fn made_up_key(random: &mut Random, _: &str) -> Attack {
    let key = made_up(random);
    let path = *random.pick(&PATHS);
    let header = presented(random, &key);
    sent(get(path, header.as_bytes()))
}

/// The good key with one character changed.
fn typo(random: &mut Random, good: &str) -> Attack {
    let at = random.below(good.len());
    let with = loop {
        let with = random.word(1);
        if good[at..=at] != with {
            break with;
        }
    };
    let mut key = good.to_owned();
    key.replace_range(at..=at, &with);
    sent(get(
        "/v1/models",
        format!("authorization: Bearer {key}\r\n").as_bytes(),
    ))
}

fn long_key(random: &mut Random, good: &str) -> Attack {
    let len = *random.pick(&[400, 513, 8_000, 50_000]);
    let key = match random.below(3) {
        0 => format!("{good}{MARK}{}", "a".repeat(len)),
        1 => format!("sk-tg-{MARK}{}", "-".repeat(len)),
        _ => format!("{MARK}{}", random.word(len)),
    };
    let header = presented(random, &key);
    sent(get("/v1/models", header.as_bytes()))
}

fn many_credentials(random: &mut Random, good: &str) -> Attack {
    let mut headers = String::new();
    let several = 2 + random.below(60);
    let joined = random.once_in(2);
    for number in 0..several {
        let key = if random.once_in(4) {
            good.to_owned()
        } else {
            made_up(random)
        };
        headers += &match (joined, number) {
            (true, 0) => format!("authorization: Bearer {key}"),
            (true, _) => format!(",Bearer {key}"),
            (false, _) => presented(random, &key),
        };
    }
    // Whatever else is in it, two different ones are never one: the last word is a made-up one.
    headers += if joined { "" } else { "x-last: \r\n" };
    headers += &if joined {
        format!(", Bearer {MARK}\r\n")
    } else {
        format!("authorization: Bearer {MARK}\r\n")
    };
    sent(get("/v1/models", headers.as_bytes()))
}

fn garbage_value(random: &mut Random, good: &str) -> Attack {
    let name = *random.pick(&[
        "authorization",
        "x-api-key",
        "api-key",
        "openai-organization",
        "openai-project",
        "x-forwarded-for",
        "cookie",
        "x-request-id",
    ]);
    let len = random.below(200);
    let mut value = match random.below(4) {
        0 => random.bytes(len),
        // Bytes of no UTF-8 that Envoy lets pass.
        1 => (0..len).map(|_| 0x80 | random.draw() as u8).collect(),
        2 => [b"Bearer ".to_vec(), random.bytes(len)].concat(),
        _ => [b"Bearer sk-tg-".to_vec(), vec![0xff; len]].concat(),
    };
    if random.once_in(2) {
        value.retain(|byte| !b"\r\n\0".contains(byte));
    }
    let mut headers = [name.as_bytes(), b": ", &value, b"\r\n"].concat();
    if random.once_in(3) {
        headers.extend(format!("authorization: Bearer {good}\r\n").as_bytes());
    }
    sent(get("/v1/models", &headers))
}

fn garbage_name(random: &mut Random, good: &str) -> Attack {
    let len = 1 + random.below(40);
    let name = match random.below(3) {
        0 => random.bytes(len),
        1 => [b"x-tollgate-".to_vec(), random.bytes(len)].concat(),
        _ => b"authorization\0".to_vec(),
    };
    let headers = [&name, b": ".as_slice(), good.as_bytes(), b"\r\n"].concat();
    sent(get("/v1/models", &headers))
}

fn huge_headers(random: &mut Random, _: &str) -> Attack {
    let len = *random.pick(&[8_000, 59_000, 61_000, 70_000, 300_000]);
    let header = match random.below(3) {
        0 => format!("x-{}: v\r\n", "n".repeat(len)),
        1 => format!("authorization: Bearer {MARK}{}\r\n", "k".repeat(len)),
        _ => format!("x-tollgate-org: {}\r\n", "v".repeat(len)),
    };
    sent(get("/v1/models", header.as_bytes()))
}

fn many_headers(random: &mut Random, _: &str) -> Attack {
    let count = *random.pick(&[90, 99, 101, 1_000]);
    let name = *random.pick(&[
        "x-api-key",
        "authorization",
        "x-tollgate-org",
        "x-envoy-a",
        "openai-project",
        "a",
    ]);
    let headers: String = (0..count)
        .map(|number| format!("{name}: {MARK}{number}\r\n"))
        .collect();
    sent(get("/v1/models", headers.as_bytes()))
}

/// With no key, a made-up one, or the good one: then it passes, as who it is.
fn spoofed_identity(random: &mut Random, good: &str) -> Attack {
    let mut headers = String::new();
    for _ in 0..1 + random.below(20) {
        let name = *random.pick(&[
            "x-tollgate-org",
            "X-TOLLGATE-ORG",
            "x-tollgate-project",
            "x-tollgate-key-id",
            "x-tollgate-tier",
            "x_tollgate_org",
            "x-tollgate",
            "x-tollgate-",
            "x-envoy-retry-on",
            "x-envoy-original-path",
            "x-envoy-upstream-rq-timeout-ms",
            "x-envoy-force-trace",
            "x-forwarded-client-cert",
            "x-request-id",
        ]);
        let value = *random.pick(&["evil", "acme", "", "a,b", "5xx", "1", "/v1/smuggled"]);
        headers += &format!("{name}: {value}\r\n");
    }
    headers += &match random.below(3) {
        0 => String::new(),
        1 => format!("authorization: Bearer {}\r\n", made_up(random)),
        _ => format!("authorization: Bearer {good}\r\n"),
    };
    sent(get("/v1/models", headers.as_bytes()))
}

fn half_a_request(random: &mut Random, good: &str) -> Attack {
    let key = if random.once_in(2) {
        good.to_owned()
    } else {
        made_up(random)
    };
    let whole = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\ncontent-length: 1000\r\n\r\n{{\"model\": \"llama-70b\", \"mess"
    );
    let mut bytes = whole.into_bytes();
    bytes.truncate(1 + random.below(bytes.len() - 1));
    // All at once, or in two pieces.
    let second = bytes.split_off(random.below(bytes.len()));
    Attack {
        kind: "",
        pieces: vec![bytes, second],
        waits: false,
    }
}

fn wrong_length(random: &mut Random, good: &str) -> Attack {
    let length = *random.pick(&[
        "-1",
        "1, 2",
        "0x10",
        "1e3",
        "99999999999999999999",
        "",
        " ",
        "1 1",
        "+5",
        "4\r\ncontent-length: 5",
    ]);
    let key = if random.once_in(2) {
        good.to_owned()
    } else {
        made_up(random)
    };
    let path = *random.pick(&PATHS);
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\ncontent-length: {length}\r\n\r\n{{}}{{}}"
    );
    // A length that is a length after all is waited for in vain.
    left_or_sent(random, request.into_bytes())
}

/// Two readings of where a request ends, with a second request in the difference.
fn smuggling(random: &mut Random, good: &str) -> Attack {
    let hidden = format!("GET {SMUGGLED} HTTP/1.1\r\nhost: gateway\r\nx-tollgate-org: evil\r\n\r\n");
    let framing = *random.pick(&[
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "transfer-encoding:\tchunked\r\ncontent-length: 4\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        " transfer-encoding: chunked\r\n",
        "x: y\r\n transfer-encoding: chunked\r\n",
        "x: y\ntransfer-encoding: chunked\r\n",
        "content-length: 0\r\ncontent-length: 4\r\n",
        "content-length: 4\r\nContent_Length: 0\r\n",
        "connection: content-length\r\ncontent-length: 4\r\n",
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "expect: 100-continue\r\ncontent-length: 4\r\n",
    ]);
    let key = if random.once_in(2) {
        good.to_owned()
    } else {
        made_up(random)
    };
    let chunks = *random.pick(&[
        "0\r\n\r\n",
        "0;a=\"\r\n\r\n",
        "4\r\n0\r\n\r\r\n0\r\n\r\n",
        "00000000000000000\r\n\r\n",
        "0x0\r\n\r\n",
        "0\n\n",
        "-1\r\n\r\n",
    ]);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n{framing}\r\n{chunks}{hidden}"
    );
    left_or_sent(random, request.into_bytes())
}

fn path_trick(random: &mut Random, good: &str) -> Attack {
    let path = *random.pick(&[
        "/v1/models/../../health",
        "/v1/models/%2e%2e/%2e%2e/health",
        "/v1/models/..%2f..%2fseen",
        "//v1//models",
        "/v1\\models",
        "/v1/models/%00",
        "/v1/models/%ff%fe",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/models#/../health",
        "/v1/models?%0d%0ax:y",
        "http://evil/v1/models",
        "http://evil@gateway/v1/models",
        "*",
        "evil:443",
        "/v1/models/\u{1f600}",
        "/v1/models/%25REQ(AUTHORIZATION)%25",
        "/v1/messages/../models",
        "/v1/models;/../health",
        "/V1/MODELS",
    ]);
    let method = *random.pick(&[
        "GET", "POST", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PRI", "get", "G@T", "BREW",
    ]);
    let key = match random.below(3) {
        0 => String::new(),
        1 => format!("authorization: Bearer {}\r\n", made_up(random)),
        _ => format!("authorization: Bearer {good}\r\n"),
    };
    let request = format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\n{key}content-length: 0\r\n\r\n");
    left_or_sent(random, request.into_bytes())
}

fn no_http(random: &mut Random, good: &str) -> Attack {
    let len = 1 + random.below(2_000);
    let bytes = match random.below(6) {
        0 => random.bytes(len),
        1 => vec![0; len],
        2 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        3 => format!(
            "GET /v1/models HTTP/{}.{}\r\nhost: x\r\nauthorization: Bearer {good}\r\n\r\n",
            random.below(10),
            random.below(10)
        )
        .into_bytes(),
        4 => format!("GET /v1/models\r\nauthorization: Bearer {good}\r\n\r\n").into_bytes(),
        _ => format!("GET  /v1/models  HTTP/1.1\nhost: x\nauthorization: Bearer {good}\n\n").into_bytes(),
    };
    left_or_sent(random, bytes)
}

fn left_or_sent(random: &mut Random, bytes: Vec<u8>) -> Attack {
    if random.once_in(2) {
        left(bytes)
    } else {
        sent(bytes)
    }
}

fn odd_http2(random: &mut Random, good: &str) -> Attack {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    if !random.once_in(10) {
        frame(&mut bytes, 4, 0, 0, &[]);
    }
    let key = if random.once_in(2) {
        good.to_owned()
    } else {
        made_up(random)
    };
    let bearer = format!("Bearer {key}");
    let base = |extra: &[(&str, &[u8])]| {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "gateway"),
            (":path", "/v1/models"),
            ("authorization", &bearer),
        ] {
            field(&mut block, name, value.as_bytes());
        }
        for (name, value) in extra {
            field(&mut block, name, value);
        }
        block
    };
    match random.below(16) {
        // Streams opened and reset at once.
        0 => {
            for number in 0..50 {
                frame(&mut bytes, 1, 5, 2 * number + 1, &base(&[]));
                frame(&mut bytes, 3, 0, 2 * number + 1, &[0, 0, 0, 8]);
            }
        }
        1 => frame(&mut bytes, 1, 5, 1, &base(&[("X-Tollgate-Org", b"evil")])),
        2 => frame(
            &mut bytes,
            1,
            5,
            1,
            &base(&[
                ("x-tollgate-org", b"evil"),
                ("x-tollgate-org", b"acme"),
                ("x-envoy-retry-on", b"5xx"),
            ]),
        ),
        3 => frame(&mut bytes, 1, 5, 1, &base(&[("transfer-encoding", b"chunked")])),
        4 => frame(&mut bytes, 1, 5, 1, &base(&[("x-api-key", b"\xff\x00\r\n")])),
        5 => frame(&mut bytes, 1, 5, 1, &base(&[("x-api-key", &random.bytes(100))])),
        6 => frame(&mut bytes, 1, 5, 1, &base(&[(":path", b"/v1/smuggled")])),
        7 => frame(
            &mut bytes,
            1,
            5,
            1,
            &base(&[
                ("authorization", MARK.as_bytes()),
                ("cookie", b"a"),
                ("cookie", b"b"),
            ]),
        ),
        // No pseudo-header at all.
        8 => {
            let mut block = Vec::new();
            field(&mut block, "authorization", bearer.as_bytes());
            frame(&mut bytes, 1, 5, 1, &block);
        }
        // A block in many continuations, without an end.
        9 => {
            frame(&mut bytes, 1, 1, 1, &base(&[]));
            for number in 0..40 {
                let mut block = Vec::new();
                field(&mut block, &format!("x-{number}"), &[b'v'; 1_000]);
                frame(&mut bytes, 9, 0, 1, &block);
            }
        }
        // HPACK that is none.
        10 => {
            let block = random.bytes(200);
            frame(&mut bytes, 1, 5, 1, &block);
        }
        11 => frame(&mut bytes, 0, 1, 7, b"data of a stream that was never opened"),
        12 => frame(&mut bytes, 8, 0, 0, &[0, 0, 0, 0]),
        // A body that is longer and one that is shorter than it says.
        13 => {
            frame(&mut bytes, 1, 4, 1, &base(&[("content-length", b"1000")]));
            frame(&mut bytes, 0, 1, 1, b"short");
        }
        14 => {
            for _ in 0..200 {
                frame(&mut bytes, 6, 0, 0, &[0; 8]);
            }
        }
        _ => {
            let (len, kind, flags, stream) = (
                random.below(100),
                random.draw() as u8,
                random.draw() as u8,
                random.draw() as u32,
            );
            let payload = random.bytes(len);
            frame(&mut bytes, kind, flags, stream, &payload);
        }
    }
    left_or_sent(random, bytes)
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// A field in HPACK: a literal that is never indexed, its name spelt out.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(0x10);
    for text in [name.as_bytes(), value] {
        if text.len() < 127 {
            out.push(text.len() as u8);
        } else {
            out.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                out.push(rest as u8 | 128);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
        out.extend(text);
    }
}
