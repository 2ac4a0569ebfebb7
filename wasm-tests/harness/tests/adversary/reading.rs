//! Bodies that the gateway and a model server could read differently: they go nowhere. What every server reads alike
//! passes as it is.

use serde_json::json;
use tollgate_core::key::ApiKey;
use tollgate_harness::client::Request;
use tollgate_harness::models::ModelServer;
use tollgate_harness::{Catalogue, Directory, Gateway, Options, Reply};

const CHAT: &str = "/v1/chat/completions";
const AUDIO: &str = "/v1/audio/transcriptions";

struct Stage {
    gateway: Gateway,
    models: ModelServer,
    key: ApiKey,
}

impl Stage {
    async fn start() -> Self {
        let models = ModelServer::builder().keep(64).start().await.unwrap();
        let mut directory = Directory::new();
        let key = directory.key("acme");
        let mut catalogue = Catalogue::new();
        // Without a context window: what is large here is so as no text for a model would be.
        catalogue.chat("llama-70b", &["llama"]);
        let options = Options::new().llama(models.addr()).directory(&directory);
        Self {
            gateway: options.catalogue(&catalogue).start().await,
            models,
            key,
        }
    }

    fn post(&self, path: &str, kind: &str) -> Request {
        self.gateway
            .post(path)
            .key(&self.key)
            .header("content-type", kind)
    }

    async fn json(&self, body: impl Into<reqwest::Body>) -> Reply {
        self.post(CHAT, "application/json").body(body).send().await
    }

    async fn form(&self, body: String) -> Reply {
        let kind = "multipart/form-data; boundary=XX";
        self.post(AUDIO, kind).body(body).send().await
    }
}

/// A chat with one more member.
fn chat(more: &str) -> String {
    format!(r#"{{"model":"llama-70b","max_tokens":2,"messages":[]{more}}}"#)
}

/// A form with a sound, and whatever `more` is: parts, with their delimiters.
fn form(more: &str) -> String {
    format!("{}{more}--XX--\r\n", part(r#"name="model""#, "", "whisper-large"))
}

fn part(name: &str, headers: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; {name}\r\n{headers}\r\n{value}\r\n")
}

/// A sound whose bytes are `bytes`.
fn file(bytes: &str) -> String {
    part(
        r#"name="file"; filename="a.wav""#,
        "Content-Type: audio/wav\r\n",
        bytes,
    )
}

#[tokio::test]
async fn names_that_some_servers_read_as_others_are_refused() {
    let stage = Stage::start().await;
    for (member, name, param) in [
        (r#""Model":"secret""#, "`Model`", "model"),
        (r#""MODEL":"secret""#, "`MODEL`", "model"),
        (r#""\u004dodel":"secret""#, "`Model`", "model"),
        (r#""model\u0000":"secret""#, r"`model\0`", "model"),
        (r#""ſtream":true"#, "`ſtream`", "stream"),
        (r#""\u017ftream":true"#, "`ſtream`", "stream"),
        ("\"max_to\u{212a}ens\":100000", "as `max_tokens`", "max_tokens"),
        (r#""Max_Tokens":100000"#, "`Max_Tokens`", "max_tokens"),
        (r#""maxTokens":100000"#, "`maxTokens`", "max_tokens"),
        (
            r#""max-completion-tokens":9"#,
            "`max-completion-tokens`",
            "max_completion_tokens",
        ),
        (r#""N":50"#, "`N`", "n"),
        (r#""Best_Of":50"#, "`Best_Of`", "best_of"),
        (r#""Messages":[]"#, "`Messages`", "messages"),
        (
            r#""Stream_Options":{"include_usage":false}"#,
            "`Stream_Options`",
            "stream_options",
        ),
        (
            r#""stream_options":{"Include_Usage":false}"#,
            "`Include_Usage`",
            "stream_options",
        ),
    ] {
        let reply = stage.json(chat(&format!(",{member}"))).await.expect(400);
        let reply = reply
            .code("invalid_json")
            .says(name)
            .says("line 1 column")
            .says("write `");
        assert_eq!(reply.json()["error"]["param"], param, "{member}");
        // Alone too: who reads it so would be asked for what nobody saw.
        let alone = format!(r#"{{"messages":[],{member}}}"#);
        stage.json(alone).await.expect(400).code("invalid_json");
    }
    for member in [
        r#""__proto__":{"model":"secret"}"#,
        r#""model":"secret""#,
        r#""mod\u0065l":"secret""#,
        r#""seed":1,"Seed":2"#,
        r#""stream_options":{"include_usage":true,"include_usage":false}"#,
    ] {
        stage
            .json(chat(&format!(",{member}")))
            .await
            .expect(400)
            .code("invalid_json");
    }
    assert_eq!(stage.models.seen().len(), 0);
    // What is nobody's to read may be called anything.
    let other = r#","user":"Model","metadata":{"Model":"x","model":"y"},"Größe":1"#;
    stage.json(chat(other)).await.expect(200);
}

#[tokio::test]
async fn documents_that_are_read_in_two_ways_are_refused() {
    let stage = Stage::start().await;
    let utf16: Vec<u8> = chat("").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for body in [
        [b"\xef\xbb\xbf", chat("").as_bytes()].concat(),
        utf16,
        chat(r#","temperature":NaN"#).into_bytes(),
        chat(r#","temperature":Infinity"#).into_bytes(),
        chat(r#","x":"\ud800""#).into_bytes(),
        chat("").replace("llama-70b", r"llama-70b\u0000x").into_bytes(),
        [chat(",\"x\":\"").as_bytes(), b"\xc0\xaf\"}"].concat(),
        [chat("").as_bytes(), b"\0"].concat(),
        [chat("").as_bytes(), chat("").as_bytes()].concat(),
        chat(r#","n":1.5"#).into_bytes(),
        chat(r#","n":-0"#).into_bytes(),
        chat(r#","n":1e400"#).into_bytes(),
        chat(r#","n":0x2"#).into_bytes(),
        chat(r#","n":02"#).into_bytes(),
        chat(r#","n":"2""#).into_bytes(),
        chat(r#","n":true"#).into_bytes(),
        chat(r#","stream":"true""#).into_bytes(),
        chat(r#","stream":1"#).into_bytes(),
        chat(r#","n":1.00000000000000000001"#).into_bytes(),
        chat(",").into_bytes(),
        chat(",/**/\"x\":1").into_bytes(),
        chat(",'x':1").into_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let reply = stage.json(body).await;
        assert_eq!(reply.status, 400, "{shown}");
        reply.code("invalid_json");
    }
    assert_eq!(stage.models.seen().len(), 0);
    for (passed, fine) in [r#","n":1.0"#, r#","n":1e0"#, r#","n":null"#, r#","stream":null"#]
        .into_iter()
        .enumerate()
    {
        // What the model server makes of it is its own.
        let reply = stage.json(chat(fine)).await;
        assert!(reply.header("x-model-server").is_some(), "{fine}");
        assert_eq!(stage.models.seen().len(), passed + 1, "{fine}");
    }
}

#[tokio::test]
async fn only_utf_8_is_read() {
    let stage = Stage::start().await;
    for charset in ["utf-7", "\"UTF-16\"", "us-ascii", "iso-8859-1", "cp037", "idna"] {
        let name = charset.trim_matches('"');
        let kind = format!("application/json; charset={charset}");
        let reply = stage.post(CHAT, &kind).body(chat("")).send().await.expect(415);
        reply
            .code("unsupported_media_type")
            .says(&format!("`{name}`"))
            .says("UTF-8");
        let kind = format!("multipart/form-data; charset={charset}; boundary=XX");
        let reply = stage.post(AUDIO, &kind).body(form("")).send().await.expect(415);
        reply.code("unsupported_media_type").says(&format!("`{name}`"));
    }
    for kind in [
        "application/json; charset=utf-8; charset=utf-7",
        "application/json; charset*=utf-8''utf-7",
        "application/json; charset*0=utf; charset*1=-7",
        "application/json; charset=utf-8, application/json; charset=utf-7",
        "application/json, text/plain",
        "application/json; x=\"\\\"; charset=utf-7; y=\"",
        "application/json charset=utf-7",
        "application/x-www-form-urlencoded",
        "text/json",
        "multipart/form-data; boundary=XX",
    ] {
        let reply = stage.post(CHAT, kind).body(chat("")).send().await.expect(415);
        reply.code("unsupported_media_type");
    }
    for http2 in [false, true] {
        let request = stage.post(CHAT, "application/json");
        let request = if http2 { request.http2() } else { request };
        let twice = request.header("content-type", "application/json; charset=utf-7");
        twice.body(chat("")).send().await.expect(415);
    }
    assert_eq!(stage.models.seen().len(), 0);
    for kind in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;Charset=\"UTF8\"",
        "application/json;",
    ] {
        stage.post(CHAT, kind).body(chat("")).send().await.expect(200);
    }
}

#[tokio::test]
async fn forms_that_are_taken_apart_in_two_ways_are_refused() {
    let stage = Stage::start().await;
    let hidden = |line: &str| {
        file(&format!(
            "RIFF{line}--XX{line}Content-Disposition: form-data; name=\"model\"{line}{line}secret"
        ))
    };
    let field = |name: &str, headers: &str, value: &str| part(&format!("name=\"{name}\""), headers, value);
    for (more, said) in [
        (hidden("\n"), "within part 1"),
        (hidden("\r"), "within part 1"),
        (hidden(""), "within part 1"),
        (hidden("\n\r"), "within part 1"),
        (file("RIFF\n--XX--"), "within part 1"),
        (file("RIFF\r\n--XX "), "malformed"),
        (file("RIFF\r\n--XXY"), "malformed"),
        (field("model", "", "secret"), "given twice"),
        (field("Model", "", "secret"), "`Model`"),
        (field("model[]", "", "secret"), "`model[]`"),
        (field("model ", "", "secret"), "`model `"),
        (field("ſtream", "", "true"), "`ſtream`"),
        (
            field("n", "Content-Transfer-Encoding: base64\r\n", "OQ=="),
            "Content-Transfer-Encoding",
        ),
        (field("n", "Content-Encoding: gzip\r\n", "x"), "Content-Encoding"),
        (field("n", "Content-Length: 3\r\n", "1"), "Content-Length"),
        (
            field("n", "Content-Type: text/plain; charset=utf-7\r\n", "1"),
            "charset",
        ),
        (
            field("n", "Content-Type: multipart/mixed; boundary=Y\r\n", "1"),
            "parts of its own",
        ),
        (
            field("n", "Content-Type: application/octet-stream\r\n", "1"),
            "as a file",
        ),
        (field("n\"; filename=\"x", "", "1"), "as a file"),
        (field("n", "X-Folded: a\r\n b: c\r\n", "1"), "malformed header"),
        (field("_charset_", "", "utf-7"), "_charset_"),
        (part("name=\"n\"; name*=utf-8''model", "", "1"), "no plain name"),
        (part(r#"name="mo\del""#, "", "1"), "no plain name"),
        (part(r#"name="\"; name="model""#, "", "1"), "no plain name"),
        (part("name=n x", "", "1"), "no plain name"),
    ] {
        let reply = stage.form(form(&more)).await.expect(400);
        reply.code("invalid_json").says(said);
    }
    let whole = form(&file("RIFF"));
    for body in [
        format!("preamble\r\n{whole}"),
        format!("\r\n{whole}"),
        format!("{whole}epilogue"),
        whole.replace("--XX--\r\n", ""),
        whole.replace("\r\n", "\n"),
    ] {
        stage.form(body).await.expect(400).code("invalid_json");
    }
    for boundary in [
        "XX; boundary=YY",
        "\"XX",
        "X X",
        "XX, YY",
        "\"X\\X\"",
        "=?utf-8?q?XX?=",
    ] {
        let kind = format!("multipart/form-data; boundary={boundary}");
        stage
            .post(AUDIO, &kind)
            .body(whole.clone())
            .send()
            .await
            .expect(415);
    }
    assert_eq!(stage.models.seen().len(), 0);
    // As clients send them.
    let plain = "Content-Type: text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: 8bit\r\nContent-Length: 1\r\n";
    let more = [
        &file("RIFF\r\n--X\n-XX\r\0")[..],
        &field("n", plain, "1"),
        &field("include[]", "", "logprobs"),
    ];
    stage.form(form(&more.concat())).await.expect(200);
}

/// Six of these held the gateway for half a minute. An error says what is wrong without what a stranger wrote.
#[tokio::test]
async fn a_body_of_long_names_is_refused_at_once() {
    let stage = Stage::start().await;
    let name = "a".repeat(130_000);
    let members: String = (0..245)
        .map(|number| format!(r#","{name}{number:03}":0"#))
        .collect();
    for body in [
        chat(&members),
        chat(&format!(r#","stream_options":{{"x":0{members}}}"#)),
        chat(&format!(r#","stream":"{}""#, name.repeat(200))),
        chat(&format!(r#","n":"{}""#, "é".repeat(10_000_000))),
        format!("\"{}\"", name.repeat(200)),
        chat(&format!(r#","metadata":[{}0]"#, "0,".repeat(15_000_000))),
    ] {
        let reply = stage.json(body).await.expect(400).code("invalid_json");
        assert!(reply.text().len() < 1_000, "{}", reply.text());
    }
    let reply = stage
        .json(json!({"model": name, "messages": []}).to_string())
        .await;
    assert!(reply.expect(400).text().len() < 1_000);
    assert_eq!(stage.models.seen().len(), 0);
}
