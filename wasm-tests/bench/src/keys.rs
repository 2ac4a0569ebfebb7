//! Keys, and the directory that knows them.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};
use tollgate_harness::directory::mint;

/// A project for each hundred keys, two projects an organization.
const KEYS_A_PROJECT: usize = 100;

/// A directory document, and the keys of it that requests carry.
pub(crate) struct Keys {
    /// The document, as JSON.
    pub(crate) document: String,
    /// Keys in clear, spread evenly over the document.
    pub(crate) used: Vec<String>,
}

impl Keys {
    /// Mints a directory of `count` keys, of which requests use `used`.
    pub(crate) fn mint(count: usize, used: usize) -> Result<Self> {
        let projects = count.div_ceil(KEYS_A_PROJECT);
        let orgs: Value = (0..projects.div_ceil(2))
            .map(|org| (format!("org-{org}"), organization()))
            .collect();
        // Written by hand: a million rows as values would take more memory than all Envoys together.
        let mut document = format!("{{\"version\":1,\"orgs\":{orgs},\"keys\":[");
        let mut clear = Vec::with_capacity(used);
        for at in 0..count {
            let key = mint();
            let (project, comma) = (at / KEYS_A_PROJECT, if at == 0 { "" } else { "," });
            write!(
                document,
                "{comma}\n{{\"id\":\"{}\",\"sha256\":\"{}\",\"org\":\"org-{}\",\"project\":\"project-{}\",\
                 \"name\":\"service {at}\",\"scopes\":[\"chat\",\"embeddings\",\"models\"]}}",
                key.id(),
                key.sha256_hex(),
                project / 2,
                project % 2,
            )?;
            if at % (count / used) == 0 {
                clear.push(key.reveal().to_owned());
            }
        }
        document.push_str("]}");
        Ok(Self {
            document,
            used: clear,
        })
    }
}

fn organization() -> Value {
    let project = json!({"models": ["llama-*"], "labels": {"cost_center": "42"}});
    json!({
        "tier": "pro",
        "models": ["llama-*", "gpt-oss-120b"],
        "projects": {"project-0": project, "project-1": project},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_used_key_is_in_the_document() {
        let keys = Keys::mint(300, 30).unwrap();
        let document: Value = serde_json::from_str(&keys.document).unwrap();
        let rows = document["keys"].as_array().unwrap();
        assert_eq!((rows.len(), keys.used.len()), (300, 30));
        for key in &keys.used {
            let id = &key["sk-tg-".len()..][..12];
            let row = rows.iter().find(|row| row["id"] == id).unwrap();
            let (org, project) = (row["org"].as_str().unwrap(), row["project"].as_str().unwrap());
            assert!(document["orgs"][org]["projects"][project].is_object());
        }
    }
}
