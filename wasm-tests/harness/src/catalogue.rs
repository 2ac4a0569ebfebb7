//! A catalogue for a test: the whole configuration of tenant-router.

use serde_json::{Value, json};

use crate::config;

/// Targets that are asked in this order: the first has all the weight, the others are for retries.
pub fn in_order(clusters: &[&str]) -> Value {
    let targets = clusters.iter().enumerate();
    targets
        .map(|(at, cluster)| json!({"cluster": cluster, "weight": u8::from(at == 0)}))
        .collect()
}

/// Models, their targets, and what else tenant-router is told.
#[derive(Debug, Clone)]
pub struct Catalogue(Value);

impl Default for Catalogue {
    fn default() -> Self {
        Self::new()
    }
}

impl Catalogue {
    /// The repository's own `envoy/filters/tenant-router.yaml`.
    pub fn new() -> Self {
        Self(config::router_configuration())
    }

    /// No model at all, and nothing else said.
    pub fn empty() -> Self {
        Self(json!({"catalogue": {"models": {}}}))
    }

    /// Adds or replaces a model.
    pub fn model(&mut self, name: &str, model: Value) -> &mut Self {
        self.0["catalogue"]["models"][name] = model;
        self
    }

    /// Adds or replaces a model that is asked for chats, served by these clusters.
    pub fn chat(&mut self, name: &str, clusters: &[&str]) -> &mut Self {
        let targets: Vec<Value> = clusters
            .iter()
            .map(|cluster| json!({"cluster": cluster}))
            .collect();
        self.model(
            name,
            json!({"endpoints": ["chat", "messages"], "targets": targets}),
        )
    }

    /// Sets fields of a model: `json!({"canary": {"target": "llama-next", "percent": 5}})`.
    ///
    /// # Panics
    /// There is no such model.
    pub fn change(&mut self, name: &str, fields: Value) -> &mut Self {
        let model = self.0["catalogue"]["models"][name]
            .as_object_mut()
            .expect("the model is there");
        model.extend(fields.as_object().expect("a model's fields are a map").clone());
        self
    }

    /// Sets a field beside the catalogue: `breaker`, `priorities`, `allow_fallback`.
    pub fn set(&mut self, field: &str, value: Value) -> &mut Self {
        self.0[field] = value;
        self
    }

    /// The filter's configuration.
    pub fn configuration(&self) -> Value {
        self.0.clone()
    }

    /// The filter's configuration, to change it in ways this type has no word for.
    pub fn configuration_mut(&mut self) -> &mut Value {
        &mut self.0
    }
}
