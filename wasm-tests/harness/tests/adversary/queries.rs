//! Credentials in a query: clients of other providers send theirs so.

use crate::stage::{CHAT, Stage};

#[tokio::test]
async fn a_credential_in_a_query_goes_no_further() {
    let stage = Stage::start().await;
    let key = stage.key.reveal().to_owned();
    for (query, left) in [
        (format!("key={key}"), ""),
        (
            "api-version=2024-10-21&api_key=theirs".into(),
            "?api-version=2024-10-21",
        ),
        (format!("beta=true&x={key}"), "?beta=true"),
        ("%61ccess_token=theirs;beta=true".into(), "?beta=true"),
        ("beta=true".into(), "?beta=true"),
    ] {
        stage.ask(&format!("{CHAT}?{query}")).send().await.expect(200);
        let seen = stage.models.seen().pop().unwrap();
        assert_eq!(seen.path, format!("{CHAT}{left}"), "{query}");
    }
    // It is no credential here.
    let request = stage.gateway.post(&format!("{CHAT}?key={key}"));
    request
        .json(crate::stage::chat())
        .send()
        .await
        .expect(401)
        .code("missing_api_key");
    let log = stage.gateway.access_log().text();
    assert!(!log.contains(&key) && !log.contains("theirs"), "{log}");
}
