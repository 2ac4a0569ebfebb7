//! Which scope each endpoint takes, and that no spelling of a path gets around it.

use serde_json::json;

use crate::stage::{Gateway, gateway, key, row};

const ENDPOINTS: [(&str, &str); 16] = [
    ("/v1/chat/completions", "chat"),
    ("/v1/completions", "chat"),
    ("/v1/responses", "chat"),
    ("/v1/messages", "chat"),
    ("/v1/messages?beta=true", "chat"),
    ("/v1/embeddings", "embeddings"),
    ("/v1/moderations", "moderations"),
    ("/v1/images/generations", "images"),
    ("/v1/images/edits", "images"),
    ("/v1/audio/speech", "audio"),
    ("/v1/audio/transcriptions", "audio"),
    ("/v1/audio/translations", "audio"),
    ("/v1/models", "models"),
    ("/v1/models?limit=1", "models"),
    ("/v1/models/llama-70b", "models"),
    ("/v1/models/meta/llama-3.1:70b@v1", "models"),
];

const SCOPES: [&str; 6] = ["chat", "embeddings", "moderations", "images", "audio", "models"];

#[test]
fn a_scope_opens_its_endpoints_and_no_other() {
    let keys: Vec<_> = (0..6).map(key).collect();
    let rows = keys
        .iter()
        .zip(SCOPES)
        .map(|(key, scope)| row(key, json!({"scopes": [scope]})));
    let gateway = gateway(rows);
    for (key, scope) in keys.iter().zip(SCOPES) {
        for (path, needed) in ENDPOINTS {
            let outcome = gateway.filter.post(path).bearer(key.reveal()).send();
            if scope == needed {
                outcome.expect_forwarded();
            } else {
                let message = outcome.expect_refused(403).message();
                assert!(
                    message.ends_with(&format!("Missing scope: {needed}.")),
                    "{message}"
                );
            }
        }
    }
}

#[test]
fn a_key_without_scopes_goes_everywhere() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({}))]);
    let elsewhere = [
        "/",
        "/v2/anything",
        "/v1/files",
        "*",
        "/v1/models/../chat/completions",
    ];
    for path in ENDPOINTS.map(|(path, _)| path).into_iter().chain(elsewhere) {
        gateway
            .filter
            .post(path)
            .bearer(key.reveal())
            .send()
            .expect_forwarded();
    }
}

#[test]
fn several_scopes_add_up_and_still_are_a_limit() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({"scopes": SCOPES}))]);
    for (path, _) in ENDPOINTS {
        gateway
            .filter
            .post(path)
            .bearer(key.reveal())
            .send()
            .expect_forwarded();
    }
    refuses(&gateway, &key, "/v1/files");
}

/// Whatever a server behind might read into it: what is not exactly an endpoint is none.
#[test]
fn no_spelling_of_a_path_gets_around_a_scope() {
    let (models, chat) = (key(1), key(2));
    let gateway = gateway([
        row(&models, json!({"scopes": ["models"]})),
        row(&chat, json!({"scopes": ["chat"]})),
    ]);
    for path in [
        "",
        "/",
        "*",
        "/v1",
        "/v1/",
        "/v1/models/",
        "/v1//models",
        "//v1/models",
        "/V1/models",
        "/v1/Models",
        "/v1/models/../chat/completions",
        "/v1/models/./../chat/completions",
        "/v1/models/llama/../../chat/completions",
        "/v1/models/%2e%2e/chat/completions",
        "/v1/models/.%2E/chat/completions",
        "/v1/models/%2E./chat/completions",
        "/v1/models/..%2fchat%2fcompletions",
        "/v1/models/..%5cchat",
        "/v1/models/..\\chat",
        "/v1/models/x\\y",
        "/v1/models%2f..%2fchat/completions",
        "/v1/models;x=/../chat/completions",
        "http://gateway.test/v1/models",
        "/v1/models#/../chat/completions/..",
        "/v1/chat/completions",
    ] {
        match path.starts_with("/v1/models#") {
            // A fragment is not sent by clients; a server that sees one drops it, and so does the scope.
            true => {
                _ = gateway
                    .filter
                    .get(path)
                    .bearer(models.reveal())
                    .send()
                    .expect_forwarded()
            }
            false => refuses(&gateway, &models, path),
        }
    }
    for path in [
        "/v1/chat/completions/",
        "/v1/chat//completions",
        "/v1/chat%2fcompletions",
        "/v1/chat/completions%3f",
        "/v1/chat/completions;",
        "/v1/chat/completions/../../embeddings",
        "/v1/messages/batches",
        "/v1/messages/count_tokens",
        "/v1/responses/resp_1",
        "/x?/v1/chat/completions",
    ] {
        refuses(&gateway, &chat, path);
    }
}

#[test]
fn a_request_without_a_path_is_at_no_endpoint() {
    let key = key(1);
    let gateway = gateway([row(&key, json!({"scopes": ["chat"]}))]);
    let outcome = gateway.chat().bearer(key.reveal()).without_header(":path").send();
    let _ = outcome.expect_refused(403).code("insufficient_scope");
}

#[track_caller]
fn refuses(gateway: &Gateway, key: &tollgate_core::key::ApiKey, path: &str) {
    let outcome = gateway.filter.post(path).bearer(key.reveal()).send();
    // Below `/v1/messages` the shape is Anthropic's, which has no code.
    let _ = outcome.expect_refused(403).details("tollgate_insufficient_scope");
}
