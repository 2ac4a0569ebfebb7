//! JSON Schemas of what operators write, made of the types that read it. For editors: what only shows where values are
//! held against each other they don't say.

use schemars::transform::{Transform as _, transform_subschemas};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};

use crate::{adapt, auth, directory, fleet, limiter, route};

/// The name of each schema.
pub const NAMES: [&str; 7] = [
    "directory",
    "fetcher",
    "fleet",
    "key-auth",
    "rate-limit",
    "tenant-router",
    "upstream-adapter",
];

/// The schema of this name.
pub fn of(name: &str) -> Option<Schema> {
    Some(match name {
        "directory" => schema::<directory::Document<'_>>("a directory document"),
        "fetcher" => schema::<directory::fetch::Config>("the configuration of the fetcher of the directory"),
        "fleet" => schema::<fleet::Config>("the configuration of the member of the fleet"),
        "key-auth" => schema::<auth::Config>("the configuration of key-auth"),
        "rate-limit" => schema::<limiter::Config>("the configuration of rate-limit"),
        "tenant-router" => schema::<route::Config>("the configuration of tenant-router"),
        "upstream-adapter" => schema::<adapt::Providers>("the configuration of upstream-adapter"),
        _ => return None,
    })
}

fn schema<T: JsonSchema>(title: &str) -> Schema {
    let mut schema = SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<T>();
    schema.insert("title".into(), format!("Tollgate: {title}").into());
    let mut transform = |schema: &mut Schema| no_null(schema);
    transform.transform(&mut schema);
    schema
}

/// A member that may be left out may not be null.
fn no_null(schema: &mut Schema) {
    if let Some(serde_json::Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            schema.insert("type".into(), one);
        }
    }
    if let Some(serde_json::Value::Array(any)) = schema.get_mut("anyOf") {
        any.retain(|one| one.get("type").is_none_or(|kind| kind != "null"));
        if let [one] = any.as_slice() {
            let one = one.clone();
            schema.remove("anyOf");
            schema.insert("allOf".into(), serde_json::Value::Array(vec![one]));
        }
    }
    for name in ["default", "enum"] {
        if name == "default" && schema.get(name).is_some_and(serde_json::Value::is_null) {
            schema.remove(name);
        } else if let Some(serde_json::Value::Array(values)) = schema.get_mut(name) {
            values.retain(|value| !value.is_null());
        }
    }
    transform_subschemas(&mut no_null, schema);
}
