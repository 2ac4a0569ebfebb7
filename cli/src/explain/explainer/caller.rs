//! Who is calling.

use serde_json::Value;
use tollgate_core::trace::Check;

use super::{AUTH, Explainer, text};

impl Explainer<'_> {
    pub(super) fn passed(&mut self, check: Check) {
        let (key, org) = (&self.request.key, &self.org);
        let owner = match &self.project {
            Some(project) => format!("{org}/{project}"),
            None => org.clone(),
        };
        let (decision, rule, path) = match check {
            Check::Known => {
                let tier = self
                    .directory
                    .value(&["orgs", org, "tier"])
                    .and_then(Value::as_str);
                let tier = tier.map_or("the default tier".to_owned(), |tier| format!("tier {tier}"));
                (
                    "known",
                    format!("key `{key}` of {owner}, {tier}"),
                    self.key_path("id"),
                )
            }
            Check::Time => {
                let member = |name: &str| {
                    let value = self.directory.member(key, name).and_then(Value::as_str)?;
                    Some(format!("{name} {value}"))
                };
                let (from, to) = (member("not_before"), member("expires_at"));
                let path = if to.is_some() { "expires_at" } else { "not_before" };
                let rule: Vec<String> = from.into_iter().chain(to).collect();
                ("in time", rule.join(", "), self.key_path(path))
            }
            Check::Network(at) => {
                let networks = self.directory.member(key, "networks");
                let network = text(networks.and_then(|networks| networks.get(at)));
                let path = self.key_path(&format!("networks[{at}]"));
                ("address allowed", format!("network {network}"), path)
            }
            Check::Organization => ("active", format!("organization `{org}`"), self.org_path("status")),
            Check::Project => (
                "active",
                format!("project `{owner}`"),
                self.project_path("status"),
            ),
            Check::Status => ("active", format!("key `{key}`"), self.key_path("status")),
            Check::Scope => {
                let scope = self.request.endpoint.scope().name();
                let rule = match self.directory.member(key, "scopes") {
                    Some(_) => format!("scope `{scope}`"),
                    None => format!("scope `{scope}`; the key has all"),
                };
                ("in scope", rule, self.key_path("scopes"))
            }
        };
        let at = self.directory_at(&path);
        self.add(AUTH, decision, &rule, Some(at));
    }

    /// Which rule has this reason, in words, and where it stands.
    pub(super) fn of_auth(&self, reason: &str) -> Option<(String, String)> {
        let (key, org) = (&self.request.key, &self.org);
        let says = |name: &str| format!("`{name}` is {}", text(self.directory.member(key, name)));
        let frozen = || {
            let beside = self
                .directory
                .frozen_or_revoked(key, org, self.project.as_deref());
            beside.unwrap_or_else(|| "its `status` says so".to_owned())
        };
        let (why, path) = match reason {
            "unknown_key" => {
                let beside = self.directory.frozen_or_revoked(key, "", None);
                let why = beside.unwrap_or_else(|| format!("the directory has no key `{key}`"));
                (why, self.key_path("id"))
            }
            "revoked" => (says("status"), self.key_path("status")),
            "key_suspended" => (frozen(), self.key_path("status")),
            "organization_suspended" => (frozen(), self.org_path("status")),
            "project_suspended" => (frozen(), self.project_path("status")),
            "not_yet_valid" => (says("not_before"), self.key_path("not_before")),
            "expired" => (says("expires_at"), self.key_path("expires_at")),
            "ip_not_allowed" => {
                let why = match self.request.address {
                    Some(address) => format!("{address} is in none of its `networks`"),
                    None => "it has `networks`, and no --address was said".to_owned(),
                };
                (why, self.key_path("networks"))
            }
            "insufficient_scope" => {
                let scope = self.request.endpoint.scope().name();
                (
                    format!("`{scope}` is not among its `scopes`"),
                    self.key_path("scopes"),
                )
            }
            _ => return None,
        };
        Some((why, self.directory_at(&path)))
    }
}
