//! A control plane on either database, asked as a client would.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "test support: a test that cannot go on fails by panicking, and no test uses all of it"
)]

pub(crate) mod postgres;
pub(crate) mod redis;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use tollgate_control::api::{App, router};
use tollgate_control::{Store, WriteQuota};
use tower::ServiceExt as _;

/// A control plane, its database, and its first token.
pub(crate) struct Plane {
    pub(crate) store: Arc<Store>,
    pub(crate) router: Router,
    pub(crate) owner: String,
    pub(crate) address: String,
    pub(crate) _folder: Option<tempfile::TempDir>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// Runs a test on each database.
pub(crate) async fn on_each(test: impl AsyncFn(Plane)) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tollgate.db");
    println!("on SQLite");
    test(Plane::open(&format!("sqlite:{}", file.display()), Some(folder)).await).await;
    println!("on PostgreSQL");
    test(Plane::open(&postgres::database(), None).await).await;
}

fn signing() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

impl Plane {
    pub(crate) async fn open(address: &str, folder: Option<tempfile::TempDir>) -> Self {
        let store = Arc::new(Store::create(address).await.unwrap());
        let owner = store.first_token().await.unwrap().unwrap();
        Self {
            router: router(App::new(Arc::clone(&store), Some(signing()))),
            store,
            owner,
            address: address.to_owned(),
            _folder: folder,
        }
    }

    /// The same after a restart of the server, with a quota for what customers write.
    pub(crate) async fn reopened(self, quota: WriteQuota) -> Self {
        let store = Store::create(&self.address)
            .await
            .unwrap()
            .with_write_quota(quota);
        let store = Arc::new(store);
        Self {
            router: router(App::new(Arc::clone(&store), Some(signing()))),
            store,
            ..self
        }
    }

    /// On SQLite.
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.db");
        Self::open(&format!("sqlite:{}", file.display()), Some(folder)).await
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .unwrap();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
        Answer {
            status,
            headers,
            body,
        }
    }

    pub(crate) async fn as_token(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        self.with(token, method, path, body, &[]).await
    }

    pub(crate) async fn with(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.ask(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.as_token(&self.owner, Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.as_token(&self.owner, Method::POST, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.as_token(&self.owner, Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.as_token(&self.owner, Method::DELETE, path, None).await
    }

    /// An organization that may use every model, with a project `search`.
    pub(crate) async fn org(&self, name: &str) {
        self.post("/v1/orgs", json!({"id": name, "tier": "pro", "models": ["*"]}))
            .await
            .expect(201);
        self.post(&format!("/v1/orgs/{name}/projects"), json!({"id": "search"}))
            .await
            .expect(201);
    }

    /// A token with a role.
    pub(crate) async fn token(&self, role: &str, orgs: Option<&[&str]>) -> String {
        let mut body = json!({"role": role});
        if let Some(orgs) = orgs {
            body["orgs"] = json!(orgs);
        }
        self.post("/v1/tokens", body).await.expect(201).text("secret")
    }

    /// What a look through the whole trail finds wrong.
    pub(crate) async fn faults(&self) -> Vec<String> {
        let verdict = self.store.verify(&[], None).await.unwrap();
        verdict
            .faults
            .iter()
            .map(|fault| format!("{}: {}", fault.seq, fault.problem))
            .collect()
    }
}

impl Answer {
    /// It has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }

    /// A problem that says this.
    #[track_caller]
    pub(crate) fn says(&self, part: &str) {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let detail = self.body["detail"].as_str().unwrap();
        assert!(detail.contains(part), "{detail}");
    }

    pub(crate) fn text(&self, member: &str) -> String {
        self.body[member]
            .as_str()
            .unwrap_or_else(|| panic!("no {member} in {}", self.body))
            .to_owned()
    }

    /// The directory's version, as a gateway asks what changed after it.
    pub(crate) fn version(&self) -> String {
        self.header("etag").trim_matches('"').to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}
