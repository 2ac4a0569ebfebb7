//! What a customer sees of the platform's people: that the platform did something, and not which of them, from where, or
//! what they wrote down of why.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::access::Caller;
use crate::audit::HashedEntry;
use crate::documents::Token;
use crate::entry::Change;
use crate::problem::Problem;
use crate::store::Store;

/// What stands in their place.
const PLATFORM: &str = "platform";
/// Members of a document that say who did something.
const BY: [&str; 3] = ["created_by", "ended_by", "raised_by"];

/// All who are not confined to organizations: tokens, commands on the server's machine, the server. They are hidden from a
/// confined caller, and from nobody else.
pub(super) struct Staff<'s> {
    store: &'s Store,
    caller: &'s Caller,
    known: BTreeMap<String, bool>,
}

impl<'s> Staff<'s> {
    /// As this caller may see them.
    pub(super) fn seen_by(caller: &'s Caller, store: &'s Store) -> Self {
        Self {
            store,
            caller,
            known: BTreeMap::new(),
        }
    }

    /// Hides them in a document.
    pub(super) async fn hide(&mut self, document: &mut Value) -> Result<(), Problem> {
        if !self.caller.is_confined() {
            return Ok(());
        }
        self.hide_in(document).await?;
        // Gateways' tokens are the platform's.
        if let Some(whose) = document.pointer_mut("/struck/whose") {
            *whose = PLATFORM.into();
        }
        // Of a budget.
        match document.get_mut("raise") {
            Some(raise) => self.hide_in(raise).await,
            None => Ok(()),
        }
    }

    async fn hide_in(&mut self, object: &mut Value) -> Result<(), Problem> {
        for name in BY {
            let Some(Value::String(by)) = object.get_mut(name) else {
                continue;
            };
            if !self.has(by).await? {
                continue;
            }
            *by = PLATFORM.to_owned();
            // Who began it said why, and not who ended it.
            if name != "ended_by"
                && let Some(Value::String(reason)) = object.get_mut("reason")
            {
                reason.clear();
            }
        }
        Ok(())
    }

    /// The same in what was changed.
    pub(super) async fn hide_in_changes(&mut self, changes: &mut [Change]) -> Result<(), Problem> {
        for change in changes {
            for document in [&mut change.before, &mut change.after].into_iter().flatten() {
                self.hide(document).await?;
            }
        }
        Ok(())
    }

    /// The same in entries of the trail.
    pub(super) async fn hide_in_trail(&mut self, entries: &mut [HashedEntry]) -> Result<(), Problem> {
        if !self.caller.is_confined() {
            return Ok(());
        }
        for HashedEntry { entry, hash } in entries {
            // Whoever knows the hashes before and behind an entry tries actors and addresses until they fit.
            *hash = None;
            if self.has(&entry.actor).await? {
                entry.actor = PLATFORM.to_owned();
                entry.address.clear();
                entry.reason = None;
            }
            self.hide_in_changes(&mut entry.changes).await?;
        }
        Ok(())
    }

    async fn has(&mut self, actor: &str) -> Result<bool, Problem> {
        if let Some(known) = self.known.get(actor) {
            return Ok(*known);
        }
        let token = match actor.strip_prefix("token:") {
            Some(id) => self.store.find::<Token>(id).await?,
            None => None,
        };
        let is_staff = token.is_none_or(|token| token.document.orgs.is_none());
        self.known.insert(actor.to_owned(), is_staff);
        Ok(is_staff)
    }
}
