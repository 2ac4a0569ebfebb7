//! Answers name the model as customers do, whatever its provider calls it.

use serde_json::{Value, json};
use tollgate_harness::Catalogue;
use tollgate_harness::models::Fault;

use crate::stage::{Stage, providers};

/// Each API, and a request of it.
fn requests() -> [(&'static str, Value); 4] {
    let messages = json!([{"role": "user", "content": "say \"model\""}]);
    [
        ("/v1/chat/completions", json!({"messages": messages})),
        ("/v1/completions", json!({"prompt": "one"})),
        ("/v1/responses", json!({"input": "one"})),
        ("/v1/messages", json!({"messages": messages, "max_tokens": 8})),
    ]
}

#[tokio::test]
async fn every_api_names_the_model_as_the_catalogue_does() {
    let stage = Stage::start().await;
    for (path, mut body) in requests() {
        body["model"] = json!("llama-70b");
        let reply = stage.post(path).json(body.clone()).send().await.expect(200);
        assert_eq!(reply.json()["model"], "llama-70b", "{path}");
        body["stream"] = json!(true);
        for fault in ["", "chunk=1", "chunk=7", "chunk=random:7", "batch=3"] {
            stage.first.fault_once(Fault::parse(fault).unwrap());
            let reply = stage.post(path).json(body.clone()).send().await.expect(200);
            let text = reply.text();
            // The stand-in says its own name in what it writes, too: that stays.
            assert!(!text.contains(r#""model":"first/70b""#), "{path} {fault}: {text}");
            assert!(text.contains(r#""model":"llama-70b""#), "{path} {fault}: {text}");
        }
    }
    // An error is the provider's own.
    let error = r#"{"error":{"message":"no first/70b"},"model":"first/70b"}"#;
    stage.first.fault_once(Fault {
        body: Some(error.into()),
        ..Fault::status(400)
    });
    let (path, mut body) = requests()[0].clone();
    body["model"] = json!("llama-70b");
    let reply = stage.post(path).json(body.clone()).send().await.expect(400);
    assert_eq!(reply.text(), error);
    // And so does the second provider, behind a retry.
    stage.first.set_fault(Fault::status(503));
    let reply = stage.post(path).json(body).send().await.expect(200);
    assert_eq!(reply.json()["model"], "llama-70b");
    assert_eq!(stage.second.seen().len(), 1);
}

#[tokio::test]
async fn in_an_answer_of_any_size() {
    let stage = Stage::start().await;
    for size in [10, 100_000, 5_000_000] {
        let answer = |model: &str| {
            let text = r#"\"model\":\"first/70b\" "#.repeat(size / 23);
            format!(r#"{{"text":"{text}","tools":[{{"model":"first/70b"}}],"model":"{model}"}}"#)
        };
        stage.first.fault_once(Fault {
            body: Some(answer("first/70b")),
            ..Fault::default()
        });
        let (path, mut body) = requests()[0].clone();
        body["model"] = json!("llama-70b");
        let reply = stage.post(path).json(body).send().await.expect(200);
        assert!(reply.text() == answer("llama-70b"), "{size}");
    }
}

/// Where one target of a request refuses `stream_options`, none is sent them; what was used is then estimated.
#[tokio::test]
async fn a_target_that_refuses_stream_options_is_sent_none() {
    for (takes, source) in [(true, "reported"), (false, "estimated")] {
        let mut catalogue = Catalogue::empty();
        catalogue.chat("llama-70b", &["models"]).change(
            "llama-70b",
            json!({"targets": [{"cluster": "models", "stream_options": takes}]}),
        );
        let stage = Stage::with(&providers(), |options| options.catalogue(&catalogue)).await;
        let (path, mut body) = requests()[0].clone();
        (body["model"], body["stream"]) = (json!("llama-70b"), json!(true));
        let reply = stage.post(path).json(body).send().await.expect(200);
        let sent: Value = serde_json::from_slice(&stage.first.seen()[0].body).unwrap();
        assert_eq!(sent.get("stream_options").is_some(), takes, "{sent}");
        let record = stage.gateway.record_of(&reply).await;
        assert_eq!(record.source.as_deref(), Some(source));
        assert!(
            record.output_tokens > Some(0) && record.is("complete"),
            "{record:?}"
        );
    }
}
