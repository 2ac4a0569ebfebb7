//! A credential that was sent in the wrong place: no answer repeats it, and no log holds it.

use serde_json::{Value, json};
use tollgate_harness::client::{Reply, Request};

use crate::stage::{CHAT, MESSAGES, Stage};

const FORM: &str = "/v1/audio/transcriptions";

/// What a client would have mistaken for a name: a key of ours, and some of others.
fn secrets(stage: &Stage) -> Vec<String> {
    let own = stage.key.reveal();
    vec![
        own.to_owned(),
        own.to_uppercase(),
        // Without what our keys begin with.
        own[6..].to_owned(),
        "sk-proj-Zm9vYmFyYmF6cXV4Zm9vYmFy".into(),
        "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY".into(),
        "0f8fad5b-d9cb-469f-a165-70867728950e".into(),
    ]
}

/// Behind what may be shown of it: the public id, or the first characters.
fn hidden(secret: &str) -> &str {
    &secret[secret.len() - 20..]
}

async fn refused(stage: &Stage, request: Request, secret: &str) -> Reply {
    let reply = request.key(&stage.key).send().await;
    assert!((400..500).contains(&reply.status), "{reply:#?}");
    nothing_of(&format!("{reply:?} {}", reply.text()), secret);
    reply
}

fn nothing_of(text: &str, secret: &str) {
    let (text, secret) = (text.to_lowercase(), hidden(secret).to_lowercase());
    assert!(!text.contains(&secret), "{secret} is in: {text}");
}

fn form(fields: &[(&str, &str)]) -> String {
    let fields = fields.iter().map(|(name, value)| {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    });
    format!("{}--XX--\r\n", fields.collect::<String>())
}

#[tokio::test]
async fn a_secret_in_the_wrong_place_is_not_repeated() {
    let stage = Stage::start().await;
    let gateway = &stage.gateway;
    for secret in secrets(&stage) {
        let coded: String = secret.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for path in [
            format!("/{secret}"),
            format!("/v1/{secret}"),
            format!("/v1/models/{secret}"),
            format!("/v1/models/meta/{secret}"),
            format!("/v1/{coded}"),
            format!("/v1/models/{coded}"),
            format!("/v1/chat/completions/{secret}"),
            format!("/v1/messages/{secret}"),
            format!("/v1/messages/batches/{secret}?x={secret}"),
        ] {
            refused(&stage, gateway.get(&path), &secret).await;
            refused(&stage, gateway.post(&path).http2().json(json!({})), &secret).await;
        }
        for (path, body) in [
            (CHAT, json!({"model": secret, "messages": []})),
            (MESSAGES, json!({"model": secret, "messages": []})),
            ("/v1/responses", json!({"model": secret, "input": "x"})),
            (
                "/v1/embeddings",
                json!({"model": format!("meta/{secret}"), "input": "x"}),
            ),
            (
                "/v1/images/generations",
                json!({"model": format!("Bearer {secret}")}),
            ),
        ] {
            let reply = refused(&stage, gateway.post(path).json(body), &secret).await;
            assert_eq!(reply.status, 404, "{reply:#?}");
        }
        for body in [
            format!("{{\"{secret}\":1,\"{secret}\":2}}"),
            format!("{{\"{secret}{}\":1}}", "x".repeat(128)),
            format!("{{\"model\\u0000{secret}\":1}}"),
            format!("{{\"stream\":\"{secret}\"}}"),
            format!("{{\"max_tokens\":\"{secret}\"}}"),
            format!("{{\"model\":\"{secret}\\n\"}}"),
            format!("\"{secret}\""),
            secret.clone(),
        ] {
            let request = gateway.post(CHAT).header("content-type", "application/json");
            refused(&stage, request.body(body), &secret).await;
        }
        for fields in [
            [("file", "x"), ("model", secret.as_str())],
            [("model", "llama-70b"), (&format!("model[{secret}]"), "x")],
            [("model", "llama-70b"), ("stream", secret.as_str())],
        ] {
            let request = gateway
                .post(FORM)
                .header("content-type", "multipart/form-data; boundary=XX");
            refused(&stage, request.body(form(&fields)), &secret).await;
        }
        for (name, value) in [
            ("content-type", format!("application/json; charset={secret}")),
            ("content-type", secret.clone()),
            ("content-encoding", secret.clone()),
            ("openai-organization", secret.clone()),
            ("openai-project", secret.clone()),
        ] {
            refused(
                &stage,
                gateway.post(CHAT).header(name, &value).body("{}"),
                &secret,
            )
            .await;
        }
        let method = gateway.request(&secret, "/v1/nothing").http2();
        refused(&stage, method, &secret).await;
        // A stranger's.
        gateway
            .get(&format!("/v1/models/{secret}"))
            .send()
            .await
            .expect(401);
    }
    assert_eq!(stage.models.seen().len(), 0);
    gateway.usage_records().await;
    for secret in secrets(&stage) {
        for log in [
            gateway.access_log().text(),
            gateway.usage_log().lines().join("\n"),
            gateway.log(),
        ] {
            nothing_of(&log, &secret);
        }
    }
}

/// What is no secret is said as it was written, and logged, so that a mistake can be found.
#[tokio::test]
async fn a_name_that_is_no_secret_is_repeated() {
    let stage = Stage::start().await;
    let gateway = &stage.gateway;
    let body = json!({"model": "meta-llama/Llama-3.3-70B-Instruct-Turbo", "messages": []});
    let reply = gateway
        .post(CHAT)
        .key(&stage.key)
        .json(body)
        .send()
        .await
        .expect(404);
    reply.says("`meta-llama/Llama-3.3-70B-Instruct-Turbo`");
    for (path, logged) in [
        ("/v1/chat/completion", "/v1/chat/completion"),
        ("/v2/models", "/v2/models"),
        ("/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs"),
        ("/v1/models/llama-7b", "/v1/models/***"),
        ("/v1/batches/batch_123", "/***"),
    ] {
        let reply = gateway.get(path).key(&stage.key).send().await.expect(404);
        let said: Value = reply.json();
        let name = path.trim_start_matches("/v1/models/");
        assert!(said.to_string().contains(name), "{said}");
        let record = gateway.access_log().of(reply.request_id().unwrap()).await;
        assert_eq!(
            (record.method.as_deref(), record.path.as_deref()),
            (Some("GET"), Some(logged))
        );
    }
}
