//! The two forms of the chain: three modules, or one that does what they do.
//!
//! Tests are written for the files of the three. In the other form these still hold the settings, and the one file that
//! Envoy reads is made of them anew whenever one changes: so every test runs against both.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// How the filters are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `tollgate-key-auth.wasm`, `tollgate-tenant-router.wasm`, `tollgate-rate-limit.wasm`.
    Chain,
    /// `tollgate-gateway.wasm`.
    Gateway,
}

/// The file of the one module, and its section for each file of the three.
pub(crate) const FILE: &str = "filters/gateway.yaml";
const SECTIONS: [(&str, &str); 3] = [
    ("key-auth", "key_auth"),
    ("tenant-router", "tenant_router"),
    ("rate-limit", "rate_limit"),
];

impl Form {
    /// What `TOLLGATE_FORM` says: `gateway`, or by default the chain.
    ///
    /// # Panics
    /// It says something else.
    pub(crate) fn of_environment() -> Self {
        match std::env::var("TOLLGATE_FORM").as_deref() {
            Ok("gateway") => Self::Gateway,
            Ok("chain" | "") | Err(_) => Self::Chain,
            Ok(other) => panic!("TOLLGATE_FORM is `{other}`, expected `gateway` or `chain`"),
        }
    }

    /// The name by which Envoy knows what `filter` became.
    pub(crate) fn filter(self, filter: &str) -> &str {
        if self == Self::Gateway && SECTIONS.iter().any(|(one, _)| *one == filter) {
            "gateway"
        } else {
            filter
        }
    }

    /// Whether the file of the one module is made of this one.
    pub(crate) fn is_made_of(self, file: &str) -> bool {
        let is_it = |(filter, _): &(&str, &str)| file == format!("filters/{filter}.yaml");
        self == Self::Gateway && SECTIONS.iter().any(is_it)
    }
}

/// The file of the one module, with the configurations that `of` gives for each of the three.
pub(crate) fn joined(mut file: Value, at: &str, of: impl Fn(&str) -> Result<Value>) -> Result<Value> {
    let place = file
        .pointer_mut(at)
        .context("gateway.yaml has no configuration")?;
    for (filter, section) in SECTIONS {
        place[section] = of(filter)?;
    }
    Ok(file)
}

/// `listener.yaml` with one filter in the place of three; comments and the rest stay.
pub(crate) fn one_filter(listener: &str) -> Result<String> {
    let mut kept = String::new();
    let mut dropping = false;
    let mut found = 0;
    for line in listener.lines() {
        if let Some(name) = line.strip_prefix("        - name: ") {
            let of_ours = SECTIONS
                .iter()
                .position(|(filter, _)| name == format!("tollgate.{filter}"));
            found += usize::from(of_ours.is_some());
            dropping = of_ours.is_some_and(|at| at > 0);
        } else if line.starts_with("        #") {
            dropping = false;
        }
        if !dropping {
            let line = line
                .replace("- name: tollgate.key-auth", "- name: tollgate.gateway")
                .replace("envoy/filters/key-auth.yaml", "envoy/filters/gateway.yaml");
            kept += &line;
            kept.push('\n');
        }
    }
    anyhow::ensure!(
        found == SECTIONS.len(),
        "listener.yaml has {found} of the three filters"
    );
    Ok(kept)
}
