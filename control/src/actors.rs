//! Whether who is named in the trail's entries could do that: a token was made in an entry before, was good then, and its
//! role allows it.

use std::collections::BTreeMap;

use crate::access::{Caller, Permission, is_valid};
use crate::documents::{Kind, Token};
use crate::entry::Change;

/// The tokens as the trail has made them so far.
#[derive(Default)]
pub(crate) struct Actors {
    tokens: BTreeMap<String, Token>,
}

impl Actors {
    /// What is wrong with who did an entry; the entry's own changes are taken after that.
    pub(crate) fn judge(&self, actor: &str, action: &str, org: &str, time: i64) -> Option<String> {
        let Some(id) = actor.strip_prefix("token:") else {
            let known = match actor {
                "local" => true,
                "system" => matches!(action, "token.first" | "budget.reached") || action.ends_with(".over"),
                _ => false,
            };
            return (!known).then(|| format!("`{actor}` does no `{action}`"));
        };
        let Some(token) = self.tokens.get(id) else {
            return Some(format!(
                "it is by `{actor}`, which was made in no entry before it"
            ));
        };
        if !is_valid(token, time) {
            return Some(format!("it is by `{actor}`, which had expired or was revoked"));
        }
        let Some(permission) = permission(action) else {
            return Some(format!("`{actor}` does no `{action}`"));
        };
        let caller = Caller::from_token(token.clone(), None);
        let allowed = match caller.is_confined() {
            true => caller.authorize_in(permission, org),
            false => caller.authorize(permission),
        };
        let forbidden = allowed.is_err();
        forbidden.then(|| format!("it is by `{actor}`, whose role does not allow `{action}`"))
    }

    /// Takes what an entry makes of a token.
    pub(crate) fn take(&mut self, change: &Change) {
        if change.kind != Kind::Token {
            return;
        }
        let token = change.after.clone().map(serde_json::from_value);
        match token {
            Some(Ok(token)) => self.tokens.insert(change.id.clone(), token),
            // One that can't be read is good for nothing.
            _ => self.tokens.remove(&change.id),
        };
    }
}

/// What an action needs; `None` for one that no token does.
fn permission(action: &str) -> Option<Permission> {
    Some(match action {
        "org.create" | "org.change" | "org.remove" | "key.import" => Permission::ManageOrgs,
        "project.create" | "project.change" | "project.remove" | "key.create" | "key.change"
        | "key.revoke" | "key.rotate" | "key.undo_rotation" => Permission::ManageKeys,
        "freeze.begin" | "freeze.end" | "cap.begin" | "cap.end" | "restriction.begin" | "restriction.end" => {
            Permission::Freeze
        }
        "budget.create" | "budget.change" | "budget.remove" | "budget.raise" | "budget.raise_end" => {
            Permission::ManageBudgets
        }
        "budget.strike" => Permission::StrikeHolders,
        "token.create" | "token.revoke" => Permission::ManageTokens,
        _ => return None,
    })
}
