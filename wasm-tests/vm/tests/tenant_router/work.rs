//! What a body costs is bounded by its size, whatever its shape. Counted in wasm's instructions, so that no machine is too
//! slow for it.

use std::fmt::Write as _;

use tollgate_vm::{Plugin, Request, World, metered};

use crate::stage::{CHAT, Stage, configuration, stage};

/// The largest that is let in.
const SIZE: usize = 32 << 20;

/// `before`, then so many of `unit` as there is room for, then `after`.
fn filled(before: &str, unit: &str, after: &str) -> Vec<u8> {
    let room = SIZE - before.len() - after.len();
    let units = unit.repeat(room / unit.len());
    // A list has no comma at its end.
    let units = units.strip_suffix(',').unwrap_or(&units);
    [before, units, after].concat().into_bytes()
}

/// A conversation of short messages.
fn plain() -> Vec<u8> {
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(2);
    let message = format!(r#"{{"role":"user","content":"{text}"}},"#);
    filled(r#"{"model":"llama-70b","messages":["#, &message, "]}")
}

/// As many names as there may be, and a few more, that differ at their ends only.
fn long_names(before: &str, after: &str) -> Vec<u8> {
    let mut body = before.to_owned();
    let name = "a".repeat(SIZE / 260);
    for number in 0..250 {
        let _ = write!(body, r#","{name}{number:03}":0"#);
    }
    (body + after).into_bytes()
}

/// Bodies of the largest size that a reader may stumble over.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let text = |unit| {
        filled(
            r#"{"model":"llama-70b","messages":[{"content":""#,
            unit,
            r#""}]}"#,
        )
    };
    let list = |unit| filled(r#"{"model":"llama-70b","input":["#, unit, "]}");
    let options = |unit| {
        filled(
            r#"{"model":"llama-70b","stream":true,"stream_options":{"x":["#,
            unit,
            "]}}",
        )
    };
    let level = |deep: usize| "[".repeat(deep) + &"]".repeat(deep) + ",";
    vec![
        ("one text", text("x")),
        ("text in two bytes", text("é")),
        ("text in three bytes", text("語")),
        ("line breaks", text(r"\n")),
        ("quotes", text(r#"a\"b"#)),
        ("escapes", text(r"\u8a9e")),
        ("pairs of escapes", text(r"\ud83d\ude00")),
        ("few escapes", text(&format!("{}\\n", "x".repeat(40)))),
        (
            "a picture",
            filled(
                r#"{"model":"llama-70b","messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,"#,
                "QUJD",
                r#""}}]}]}"#,
            ),
        ),
        (
            "small pictures",
            filled(
                r#"{"model":"llama-70b","messages":[{"content":["#,
                r#"{"type":"image_url","image_url":"data:image/png;base64,QUJD"},"#,
                "]}]}",
            ),
        ),
        (
            "a part of many",
            filled(
                r#"{"model":"llama-70b","messages":[{"content":[{"type":"image_url""#,
                r#","url":"QUJD""#,
                "}]}]}",
            ),
        ),
        ("digits", list("1,")),
        ("tokens", list("12345,")),
        ("fractions", list("0.12345678901234567,")),
        ("powers", list("1e300,")),
        ("small powers", list("1e-300,")),
        ("a long number", filled(r#"{"x":"#, "1", "}")),
        ("a long fraction", filled(r#"{"x":0."#, "1", "}")),
        ("a long power", filled(r#"{"x":1e-"#, "1", "}")),
        ("empty lists", list("[],")),
        ("empty objects", list("{},")),
        ("empty texts", list("\"\",")),
        ("short texts", list("\"abcdefgh\",")),
        ("objects", list(r#"{"":1},"#)),
        ("one object", filled(r#"{"metadata":{"#, r#""":1,"#, "}}")),
        ("nesting", list(&level(100))),
        ("bottomless nesting", filled(r#"{"x":"#, "[", "")),
        ("blanks", list("        ")),
        ("lines", list("\n")),
        ("broken off behind lines", filled("[", "\n", "")),
        ("long names", long_names(r#"{"model":"m""#, "}")),
        (
            "long names in options",
            long_names(r#"{"stream":true,"stream_options":{"x":0"#, "}}"),
        ),
        ("one name", filled(r#"{"model":"m",""#, "a", r#"":0}"#)),
        ("an escaped name", filled(r#"{""#, r"\u0061", r#"":0}"#)),
        ("inner names", filled(r#"{"metadata":{""#, "a", r#"":0}}"#)),
        ("options of digits", options("1,")),
        ("options of objects", options(r#"{"":1},"#)),
        (
            "options of text",
            options("\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\","),
        ),
        ("options as text", filled(r#"{"stream_options":""#, "x", r#""}"#)),
        ("a long model", filled(r#"{"model":""#, "x", r#""}"#)),
        (
            "a model of escapes",
            filled(r#"{"model":""#, r"\u0001xxxxxxxxxx", r#""}"#),
        ),
        ("a model of digits", filled(r#"{"model":["#, "1,", "]}")),
        (
            "an escaped member of digits",
            filled(r#"{"mod\u0065l":["#, "1,", "]}"),
        ),
        ("text for a flag", filled(r#"{"stream":""#, "é", r#""}"#)),
        (
            "text for a number",
            filled(r#"{"max_tokens":""#, r"\u0001xxxxxxxxxx", r#""}"#),
        ),
        ("text for a document", filled("\"", r"\u0001xxxxxxxxxx", "\"")),
        ("a list for a document", filled("[", "1,", "]")),
        (
            "no UTF-8 at the end",
            [filled(r#"{"x":""#, "é", ""), vec![0xff]].concat(),
        ),
    ]
}

/// Forms whose file looks like many ends of parts, or whose headers are many, by boundary.
fn forms() -> Vec<(String, Vec<u8>)> {
    let form = |boundary: &str, unit: &str| {
        let part =
            |name: &str| format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        let before = part("model") + "llama-whisper\r\n" + &part("file");
        let body = filled(&before, unit, &format!("\r\n--{boundary}--\r\n"));
        (boundary.to_owned(), body)
    };
    let heads = |line: &str, parameters: &str| {
        let more = line.repeat(8_000 / line.len().max(1));
        let part = format!("--x\r\n{more}Content-Disposition: form-data; name=\"y\"{parameters}\r\n\r\n\r\n");
        ("x".to_owned(), (part.repeat(127) + "--x--\r\n").into_bytes())
    };
    vec![
        form("----WebKitFormBoundary7MA4YWxkTrZu0gW", "RIFF\0\0\0\0WAVEfmt "),
        form("x", "\r\n"),
        form("x", "\r\n--y"),
        form("x", "--"),
        form(&"-".repeat(70), "-"),
        form(&("-".repeat(69) + "x"), "-"),
        form(&"Q".repeat(70), &format!("\r\n--{}", "Q".repeat(69))),
        form(&"ZQ".repeat(6), "ZQ"),
        form(&"ZQ".repeat(30), "ZQ"),
        form(&"ZQ".repeat(34), "ZQ"),
        heads("a:b\r\n", ""),
        heads("content-type: text/plain\r\n", ""),
        heads("", &";a=b".repeat(2_000)),
        heads("", &";a=\"b\"".repeat(1_300)),
    ]
}

/// Coded bodies of the largest size that cost more than what they hold: members, blocks and tables without number.
fn coded() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let many = |head: &[u8], unit: &[u8], end: &[u8]| {
        let times = (SIZE - head.len() - end.len()) / unit.len();
        [head, &unit.repeat(times), end].concat()
    };
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let empty = [&gzip[..], &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x58];
    // A block of fixed codes that is nothing but its end, and an empty one that is stored.
    let fixed = [2, 0, 0, 0xff, 0xff];
    vec![
        ("empty members of gzip", "gzip", many(&[], &empty, &[])),
        (
            "stored blocks of gzip",
            "gzip",
            many(
                &gzip,
                &[0, 0, 0, 0xff, 0xff],
                &[1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
        ),
        (
            "fixed blocks of gzip",
            "gzip",
            many(&gzip, &fixed, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
        (
            "empty blocks of zstd",
            "zstd",
            many(&zstd, &[0, 0, 0], &[1, 0, 0]),
        ),
        (
            "repeated bytes of zstd",
            "zstd",
            many(&zstd, &[0x0a, 0, 0, b' '], &[1, 0, 0]),
        ),
        (
            "empty frames of zstd",
            "zstd",
            many(&[], &[&zstd[..], &[1, 0, 0]].concat(), &[]),
        ),
    ]
}

/// What it takes to read a body, whatever comes of it.
fn work(stage: &Stage, worker: &Plugin, path: &str, kind: &str, body: &[u8]) -> u64 {
    work_of(
        worker,
        stage.known(worker.post(path)).header("content-type", kind),
        body,
    )
}

fn work_of(worker: &Plugin, request: Request, body: &[u8]) -> u64 {
    let before = worker.vm().fuel();
    drop(request.body(body).send());
    worker.vm().fuel() - before
}

#[test]
fn no_shape_of_a_body_costs_much_more_than_a_plain_one() {
    let stage = stage();
    let world = World::new();
    let mut configuration = configuration();
    let model = configuration["catalogue"]["models"]["llama-70b"].as_object_mut();
    model.unwrap().remove("context_window");
    let worker = world
        .vm(&metered("tenant-router"), crate::stage::VM_ID)
        .configure("tenant-router", configuration)
        .unwrap()
        .allow_on_headers_stop_iteration();
    let json = |body: &[u8]| work(&stage, &worker, CHAT, "application/json", body);
    let plain = json(&plain());
    let bounded = |shape: &str, work: u64| {
        println!("{shape}: {:.2}", work as f64 / plain as f64);
        assert!(
            work <= 2 * plain,
            "{shape}: {work} instructions, a plain body takes {plain}"
        );
    };
    for (shape, body) in hostile() {
        bounded(shape, json(&body));
    }
    for (shape, coding, body) in coded() {
        let request = stage.known(worker.post(CHAT));
        let request = request.header("content-type", "application/json");
        bounded(
            shape,
            work_of(&worker, request.header("content-encoding", coding), &body),
        );
    }
    for (boundary, body) in forms() {
        let kind = format!("multipart/form-data; boundary={boundary}");
        let work = work(&stage, &worker, "/v1/audio/transcriptions", &kind, &body);
        bounded(&format!("a form of {boundary}"), work);
    }
}
