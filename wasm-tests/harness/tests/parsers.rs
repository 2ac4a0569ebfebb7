//! The parsers of model servers, on generated bodies: what the gateway lets in, each of them reads as the gateway does, or
//! not at all. `PARSERS_SEED` and `PARSERS_BODIES` say which bodies, and how many.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails by panicking"
)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tollgate_core::body::{Body, read_json, read_multipart};
use tollgate_core::endpoint::Endpoint;
use tollgate_core::route::body_kind;

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    /// Three times of four one of the first few, which are plain.
    fn mostly<'a>(&mut self, plain: usize, list: &[&'a str]) -> &'a str {
        let end = if self.below(4) > 0 { plain } else { list.len() };
        list[self.below(end)]
    }

    /// `body`, in one time of three a little changed.
    fn changed(&mut self, body: String, pieces: &[&str]) -> Vec<u8> {
        let mut body = body.into_bytes();
        if self.below(3) > 0 {
            return body;
        }
        for _ in 0..=self.below(2) {
            let at = self.below(body.len());
            match self.below(3) {
                0 => drop(body.remove(at)),
                1 => body[at] = self.of(pieces).bytes().next().unwrap_or(0),
                _ => drop(body.splice(at..at, self.of(pieces).bytes())),
            }
        }
        body
    }
}

const NAMES: &[&str] = &[
    "model",
    "stream",
    "n",
    "best_of",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "Model",
    "MODEL",
    "mod\\u0065l",
    "ſtream",
    "\\u017ftream",
    "max_to\u{212a}ens",
    "maxTokens",
    "model\\u0000",
    "N",
    "top_p",
    "user",
    "Größe",
    "__proto__",
    "",
    " model",
    "stream_options",
    "metadata",
];
const VALUES: &[&str] = &[
    "\"m\"",
    "\"a\\/b\"",
    "\"é\"",
    "\"\\u00e9\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"m\\u0000\"",
    "\"\"",
    "true",
    "false",
    "null",
    "1",
    "0",
    "2",
    "-0",
    "-1",
    "1.0",
    "1e0",
    "1E1",
    "20e-1",
    "1.5",
    "100",
    "2147483648",
    "9007199254740991",
    "1e400",
    "01",
    "NaN",
    "Infinity",
    "{}",
    "[]",
    "{\"model\":\"x\"}",
    "{\"include_usage\":true}",
    "[1,\"x\",{}]",
    "3.0000000000000000001",
    "0.99999999999999999",
];
const PIECES: &[&str] = &[
    "\"",
    "\\",
    ",",
    ":",
    "{",
    "}",
    " ",
    "\n",
    "\0",
    "\u{feff}",
    "é",
    "\\u0000",
    "/**/",
    "//x\n",
    "'",
    "e1",
    ".0",
    "0",
    "-",
    "\"model\":\"x\",",
    "\"n\":7,",
];

fn json_body(random: &mut Random) -> (&'static str, Vec<u8>) {
    let mut members = Vec::new();
    if random.below(4) > 0 {
        members.push("\"model\":\"m\"".to_owned());
    }
    for _ in 0..random.below(4) {
        members.push(format!("\"{}\":{}", random.of(NAMES), random.of(VALUES)));
    }
    let kind = random.mostly(
        3,
        &[
            "application/json",
            "application/json",
            "application/json; charset=utf-8",
            "application/json; charset=utf-7",
            "application/json; charset=utf-16",
            "application/json; charset=latin1; charset=utf-8",
            "application/json; x=\"; charset=utf-16\"",
        ],
    );
    (kind, random.changed(format!("{{{}}}", members.join(",")), PIECES))
}

const FIELDS: &[&str] = &[
    "name=\"model\"",
    "name=\"n\"",
    "name=\"stream\"",
    "name=model",
    "name=\"file\"; filename=\"a.wav\"",
    "name=\"Model\"",
    "name=\"model[]\"",
    "name=\"x\"; name=\"model\"",
    "name=\"model\"; filename=\"x\"",
    "name*=utf-8''model; name=\"x\"",
    "name=\"mo\\del\"",
    "name=\"x\\\"; name=\\\"model\"",
    "name=\"%6dodel\"",
    "name=\"_charset_\"",
    "name=\"user\"",
    "filename=\"x\"; name=\"model\"",
    "name=\"model\";",
];
const HEADERS: &[&str] = &[
    "",
    "",
    "",
    "",
    "Content-Type: text/plain\r\n",
    "Content-Type: text/plain; charset=utf-8\r\n",
    "Content-Type: text/plain; charset=iso-8859-1\r\n",
    "Content-Type: text/plain; charset=utf-16\r\n",
    "Content-Type: application/octet-stream\r\n",
    "Content-Transfer-Encoding: base64\r\n",
    "Content-Transfer-Encoding: 8bit\r\n",
    "Content-Length: 1\r\n",
    "Content-Length: 4\r\n",
    "X: y\r\n folded: z\r\n",
    "Content-Encoding: deflate\r\n",
];
const CONTENTS: &[&str] = &[
    "m",
    "true",
    "1",
    "2",
    "",
    "é",
    "dHJ1ZQ==",
    "a\nb",
    "\r\n",
    "a\n--XX\nContent-Disposition: form-data; name=\"model\"\n\nx",
    "a\r--XX\rContent-Disposition: form-data; name=\"model\"\r\rx",
    "--XX",
    "\r\n--X",
    "\n--XX--",
    "m\r",
];

fn form_body(random: &mut Random) -> (&'static str, Vec<u8>) {
    let mut body = String::new();
    for _ in 0..1 + random.below(3) {
        let (field, headers, content) = (
            random.mostly(3, FIELDS),
            random.mostly(6, HEADERS),
            random.mostly(4, CONTENTS),
        );
        body += &format!("--XX\r\nContent-Disposition: form-data; {field}\r\n{headers}\r\n{content}\r\n");
    }
    body += random.mostly(
        4,
        &["--XX--\r\n", "--XX--\r\n", "--XX--\r\n", "--XX--", "--XX\r\n", ""],
    );
    let kind = random.mostly(
        3,
        &[
            "multipart/form-data; boundary=XX",
            "multipart/form-data; boundary=XX",
            "multipart/form-data; boundary=\"XX\"",
            "multipart/form-data; charset=utf-16; boundary=XX",
            "multipart/form-data; boundary=XX; charset=utf-8",
            "multipart/form-data; boundary=XX; boundary=YY",
        ],
    );
    (
        kind,
        random.changed(
            body,
            &["\r", "\n", "-", "--XX", "\r\n", " ", "\"", ";", "\0", "X", "\t"],
        ),
    )
}

/// What a server would find by name.
fn found(body: &Body<'_>, form: bool) -> Value {
    let counts = if form {
        json!({})
    } else {
        json!({
            "max_tokens": body.caps.max_tokens,
            "max_completion_tokens": body.caps.max_completion_tokens,
            "max_output_tokens": body.caps.max_output_tokens,
        })
    };
    let mut found = counts;
    found["model"] = json!(body.model);
    found["stream"] = json!(body.stream);
    found["answers"] = json!(body.answers);
    found
}

/// Bodies that were let in, a line each.
fn let_in(seed: u64, count: usize) -> String {
    let mut random = Random(seed | 1);
    let mut lines = String::new();
    let mut read = [0, 0];
    for number in 0..count {
        let form = number % 2 == 1;
        let (kind, body) = if form {
            form_body(&mut random)
        } else {
            json_body(&mut random)
        };
        let endpoint = if form {
            Endpoint::Transcriptions
        } else {
            Endpoint::Chat
        };
        let boundary = body_kind(endpoint, std::iter::once(kind.as_bytes()));
        let result = match boundary {
            Ok(Some(boundary)) => read_multipart(endpoint, &body, boundary),
            Ok(None) => read_json(endpoint, &body),
            Err(_) => continue,
        };
        let Ok(result) = result else { continue };
        read[usize::from(form)] += 1;
        let line = json!({
            "kind": if form { "form" } else { "json" },
            "type": kind,
            "body": STANDARD.encode(&body),
            "read": found(&result, form),
        });
        lines += &format!("{line}\n");
    }
    println!(
        "seed {seed}: {} of {count} bodies were let in, {} of them forms",
        read[0] + read[1],
        read[1]
    );
    assert!(
        read.iter().all(|read| *read > count / 100),
        "too few were let in: {read:?}"
    );
    lines
}

/// Has a reader look at them; it ends well where it reads none of them otherwise.
fn judged(program: &Path, script: &str, lines: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../parsers");
    let mut reader = Command::new(program)
        .arg(folder.join(script))
        .env("PYTHONWARNINGS", "ignore")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "{} does not start: {error}; `make test` sets it up",
                program.display()
            )
        });
    let mut input = reader.stdin.take().unwrap();
    let lines = lines.to_owned();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = reader.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{}", said.lines().rev().take(30).collect::<Vec<_>>().join("\n"));
    assert!(
        output.status.success(),
        "{script}: a body is read otherwise, or a parser is not there"
    );
    writer.join().unwrap().unwrap();
    let counts: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    for (parser, count) in counts.as_object().unwrap() {
        assert!(count.as_u64() > Some(50), "{parser} read {count} bodies");
    }
}

#[test]
fn what_is_let_in_is_read_alike_by_every_parser() {
    let said = |name: &str, default: u64| std::env::var(name).map_or(default, |said| said.parse().unwrap());
    let count = usize::try_from(said("PARSERS_BODIES", 10_000)).unwrap();
    let lines = let_in(said("PARSERS_SEED", 10), count);
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/bin/python");
    judged(&venv, "read.py", &lines);
    judged(Path::new("node"), "read.mjs", &lines);
}
