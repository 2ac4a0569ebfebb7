//! What nobody wrote, heard or served, and what is worked on still: charged and counted as it is.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::usage_log::UsageRecord;
use tollgate_harness::{Catalogue, Directory, Gateway, Options, Reply, net};

use crate::scripted::Scripted;
use crate::stage::{CHAT, MESSAGES};

const TRANSCRIPTIONS: &str = "/v1/audio/transcriptions";
const TRANSLATIONS: &str = "/v1/audio/translations";
const IMAGES: &str = "/v1/images/generations";

/// A provider that answers with what a test says, priced by everything that has a price.
struct Stage {
    gateway: Gateway,
    key: ApiKey,
    provider: Scripted,
}

impl Stage {
    async fn with(limits: Value, refusals: Value) -> Self {
        let provider = Scripted::start().await;
        let (directory, key) = Directory::of_one("acme");
        let mut catalogue = Catalogue::empty();
        catalogue
            .model(
                "all",
                json!({
                    "endpoints": ["chat", "completions", "responses", "messages", "embeddings", "moderations",
                        "images_generations", "images_edits", "speech", "transcriptions", "translations"],
                    "targets": [{"cluster": "provider"}],
                    "price": {"input": 1, "output": 1000, "audio_seconds": 0.0001, "pictures": 0.04},
                }),
            )
            .model(
                "heard",
                json!({
                    "endpoints": ["transcriptions"],
                    "targets": [{"cluster": "provider"}],
                    "price": {"input": 0, "audio_seconds": 0.0001},
                }),
            )
            .set("refusals", refusals);
        let gateway = Options::new()
            .workers(1)
            .cluster("provider", provider.addr())
            .directory(&directory)
            .catalogue(&catalogue)
            .limits(limits)
            .unbroken()
            .start()
            .await;
        Self {
            gateway,
            key,
            provider,
        }
    }

    async fn start() -> Self {
        Self::with(json!({"limits": []}), json!({})).await
    }

    async fn ask(&self, path: &str, stream: bool) -> Reply {
        let request = self.gateway.post(path).key(&self.key);
        if path == TRANSCRIPTIONS || path == TRANSLATIONS {
            return self.sound(path, 1_000).await;
        }
        request.json(asking(path, stream)).send().await
    }

    /// A file of so many bytes.
    async fn sound(&self, path: &str, bytes: usize) -> Reply {
        self.form(path, "file\"; filename=\"a.opus", &"o".repeat(bytes))
            .await
    }

    async fn form(&self, path: &str, name: &str, value: &str) -> Reply {
        self.form_for("all", path, name, value).await
    }

    async fn form_for(&self, model: &str, path: &str, name: &str, value: &str) -> Reply {
        let head = "--X\r\ncontent-disposition: form-data; name=\"";
        let form = format!("{head}model\"\r\n\r\n{model}\r\n{head}{name}\"\r\n\r\n{value}\r\n--X--\r\n");
        let request = self.gateway.post(path).key(&self.key);
        let request = request.header("content-type", "multipart/form-data; boundary=X");
        request.body(form).send().await
    }

    async fn record(&self, reply: &Reply) -> UsageRecord {
        self.gateway.record_of(reply).await
    }
}

/// One that may write 100 tokens, or make ten pictures.
fn asking(path: &str, stream: bool) -> Value {
    let turns = json!([{"role": "user", "content": "one two three"}]);
    match path {
        CHAT | MESSAGES => json!({"model": "all", "max_tokens": 100, "messages": turns, "stream": stream}),
        "/v1/completions" => json!({"model": "all", "max_tokens": 100, "prompt": "one", "stream": stream}),
        "/v1/responses" => {
            json!({"model": "all", "max_output_tokens": 100, "input": turns, "stream": stream})
        }
        IMAGES => json!({"model": "all", "prompt": "a cat", "n": 10}),
        "/v1/audio/speech" => json!({"model": "all", "input": "one", "voice": "a"}),
        _ => json!({"model": "all", "input": "one"}),
    }
}

/// Every endpoint, and whether it is asked for a stream.
const ENDPOINTS: [(&str, bool); 13] = [
    (CHAT, false),
    (CHAT, true),
    (MESSAGES, false),
    (MESSAGES, true),
    ("/v1/completions", false),
    ("/v1/responses", false),
    ("/v1/responses", true),
    ("/v1/embeddings", false),
    ("/v1/moderations", false),
    (IMAGES, false),
    ("/v1/audio/speech", false),
    (TRANSCRIPTIONS, false),
    (TRANSLATIONS, false),
];

#[tokio::test]
async fn what_no_model_wrote_is_not_charged() {
    let stage = Stage::start().await;
    let page = format!("<!DOCTYPE html><html>{}</html>", "please log in ".repeat(500));
    const HTML: &str = "content-type: text/html; charset=utf-8";
    const JSON: &str = "content-type: application/json";
    for (path, stream) in ENDPOINTS {
        for (status, header, body, read) in [
            ("200 OK", HTML, page.as_str(), true),
            ("200 OK", HTML, "please log in", true),
            ("200 OK", JSON, page.as_str(), true),
            ("200 OK", JSON, "", true),
            ("200 OK", "content-type: text/event-stream", "", true),
            ("204 No Content", JSON, "", true),
            ("205 Reset Content", JSON, "", true),
            ("302 Found", "location: /login", page.as_str(), false),
            ("302 Found", "location: /login", "", false),
            (
                "307 Temporary Redirect",
                "location: https://evil.example/",
                "",
                false,
            ),
            (
                "300 Multiple Choices",
                JSON,
                "{\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":99}}",
                false,
            ),
            ("401 Unauthorized", JSON, "", false),
            ("500 Internal Server Error", HTML, page.as_str(), false),
            ("999 What", JSON, "{}", false),
        ] {
            // Text and sound may be anything but a page that says it is one.
            let free = path.starts_with("/v1/audio/speech");
            if free && body == page && header == JSON || free && body == "please log in" {
                continue;
            }
            stage.provider.answer(status, &[header], body);
            let reply = stage.ask(path, stream).await;
            let record = stage.record(&reply).await;
            let about = format!("{path} {status} {header} {:.20}: {record:?}", body);
            assert!(record.is("failed"), "{about}");
            assert_eq!(record.output_tokens, Some(0), "{about}");
            assert_eq!(record.pictures.unwrap_or(0), 0, "{about}");
            let input = record.input_tokens.unwrap();
            assert_eq!(input > 0, read, "{about}");
            // Sound that was read has its price too: a second of it.
            let sound = u64::from(path == TRANSCRIPTIONS || path == TRANSLATIONS) * 100;
            let cost = if read { input + sound } else { 0 };
            assert_eq!(record.cost_micros.unwrap_or(0), cost, "{about}");
        }
    }
}

#[tokio::test]
async fn seconds_are_believed_as_far_as_a_file_can_have_them() {
    let stage = Stage::start().await;
    let said = |seconds: Value| json!({"text": "hi", "usage": {"type": "duration", "seconds": seconds}});
    let tell = |body: Value| {
        let body = body.to_string();
        stage
            .provider
            .answer("200 OK", &["content-type: application/json"], &body);
    };
    for path in [TRANSCRIPTIONS, TRANSLATIONS] {
        for (bytes, told, charged, distrusted) in [
            // 64 kbit/s, and 4.
            (480_000, json!(60), 60, false),
            (480_000, json!(59.2), 60, false),
            (30_000, json!(60), 60, false),
            (1_000, json!(12), 12, false),
            // Milliseconds for seconds, and a slip.
            (480_000, json!(60_000), 970, true),
            (1_000, json!(1_000_000), 12, true),
            (1_000, json!(13), 12, true),
        ] {
            tell(said(told.clone()));
            let record = stage.record(&stage.sound(path, bytes).await.expect(200)).await;
            let about = format!("{path} {bytes} {told}: {record:?}");
            assert_eq!(record.audio_seconds, Some(charged), "{about}");
            assert_eq!(record.distrusted.is_some(), distrusted, "{about}");
        }
        // Where a server fetches the file, nobody else knows how long it is.
        for name in ["url", "file"] {
            tell(said(json!(7_200)));
            let reply = stage.form(path, name, "https://example.org/a.mp3").await;
            let record = stage.record(&reply.expect(200)).await;
            assert_eq!(
                (record.audio_seconds, record.distrusted),
                (Some(7_200), None),
                "{record:?}"
            );
        }
        // Nobody says how long it was.
        tell(json!({"text": "hi"}));
        let record = stage.record(&stage.sound(path, 320_000).await.expect(200)).await;
        assert_eq!(record.audio_seconds, Some(10), "{record:?}");
        tell(
            json!({"text": "hi", "usage": {"type": "tokens", "input_tokens": 90, "output_tokens": 2, "total_tokens": 92}}),
        );
        let record = stage.record(&stage.sound(path, 320_000).await.expect(200)).await;
        assert_eq!(
            (record.audio_seconds, record.input_tokens),
            (None, Some(90)),
            "{record:?}"
        );
    }
    // Nor is it where nothing is heard; the tokens stand.
    for path in [CHAT, "/v1/responses", "/v1/completions", "/v1/embeddings", IMAGES] {
        tell(json!({
            "choices": [], "output": [], "data": [],
            "usage": {"prompt_tokens": 10, "completion_tokens": 0, "total_tokens": 10, "seconds": 999_999},
        }));
        let record = stage.record(&stage.ask(path, false).await.expect(200)).await;
        assert_eq!(
            (record.audio_seconds, record.distrusted),
            (None, Some(true)),
            "{path} {record:?}"
        );
        assert_eq!(record.input_tokens, Some(10), "{path} {record:?}");
    }
}

/// All that one file may be heard to have is reserved, however many come at once.
#[tokio::test]
async fn files_of_sound_pass_no_limit_of_cost() {
    // 100 seconds in an hour that is too long to matter here.
    let limit = json!({"name": "cost", "per": ["org"], "count": "cost", "rate": "10000/day"});
    let stage = Stage::with(json!({"limits": [limit]}), json!({})).await;
    stage.provider.answer(
        "200 OK",
        &["content-type: application/json"],
        r#"{"text":"hi","usage":{"type":"duration","seconds":40}}"#,
    );
    // 15,000 bytes may be 40 seconds, of which two fit.
    let file = "o".repeat(15_000);
    let hear = |file| stage.form_for("heard", TRANSCRIPTIONS, "file", file);
    let asked = join_all((0..12).map(|_| hear(&file))).await;
    let passed = asked.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(passed, 2);
    let mut cost = 0;
    for reply in asked.iter().filter(|reply| reply.status == 200) {
        cost += stage.record(reply).await.cost_micros.unwrap();
    }
    assert!((8_000..=10_000).contains(&cost), "{cost}");
    // A file that may be longer than all that the limit allows waits, and is not refused for good.
    stage
        .sound(TRANSCRIPTIONS, 10_000_000)
        .await
        .expect(429)
        .code("insufficient_quota");
}

/// A body that is larger than a limit ever allows costs work each time, and nothing else.
#[tokio::test]
async fn what_no_limit_ever_lets_pass_counts_as_refused() {
    let limit = json!({"name": "tokens", "per": ["key"], "count": "tokens", "rate": "1000/minute"});
    let stage = Stage::with(json!({"limits": [limit]}), json!({"key": "6/hour"})).await;
    let answer = json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}).to_string();
    stage
        .provider
        .answer("200 OK", &["content-type: application/json"], &answer);
    let large = |path: &str| {
        let mut body = asking(path, false);
        body["user_text"] = json!("word ".repeat(10_000));
        stage.gateway.post(path).key(&stage.key).json(body).send()
    };
    for path in [
        CHAT,
        CHAT,
        MESSAGES,
        "/v1/responses",
        "/v1/completions",
        "/v1/embeddings",
    ] {
        let reply = large(path).await.expect(429);
        assert!(reply.text().contains("too large for"), "{}", reply.text());
    }
    let reply = large(CHAT).await.expect(429).code("rate_limit_exceeded");
    reply.says("from this key were refused");
    assert_eq!(stage.provider.asked(), 0);
}

/// Nobody has more at work at a model server than his limit allows, by leaving again and again.
#[tokio::test]
async fn whoever_leaves_keeps_his_place_while_a_server_may_be_at_work() {
    let two = json!({"name": "two", "per": ["key"], "count": "concurrent", "max": 2});
    let stage = Stage::with(json!({"limits": [two], "abandoned_hold": "3s"}), json!({})).await;
    // It never answers.
    stage.provider.raw("");
    for begun in 1..=2 {
        let request = stage.gateway.post(CHAT).key(&stage.key).json(asking(CHAT, false));
        let asking = tokio::spawn(request.try_send());
        net::eventually("the provider was asked", async || {
            (stage.provider.asked() >= begun).then_some(())
        })
        .await;
        asking.abort();
        let records = stage.gateway.usage_log();
        let ended = records.wait(|records| records.len() >= begun).await;
        assert!(ended[begun - 1].is("no_answer"), "{ended:?}");
    }
    for _ in 0..5 {
        let reply = stage.ask(CHAT, false).await.expect(429);
        reply.kind("concurrent_requests");
    }
    assert_eq!(stage.provider.asked(), 2);
    let answer = json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}).to_string();
    stage
        .provider
        .answer("200 OK", &["content-type: application/json"], &answer);
    let back = net::within(Duration::from_secs(20), async || {
        (stage.ask(CHAT, false).await.status == 200).then_some(())
    });
    assert!(back.await.is_some(), "a place did not come back");
}
