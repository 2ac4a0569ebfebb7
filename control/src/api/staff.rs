//! What a customer sees of the platform's people: that the platform did something, and not which of them, from where.

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
const BY: [&str; 2] = ["created_by", "ended_by"];

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
        for name in BY {
            if let Some(Value::String(by)) = document.get_mut(name)
                && self.has(by).await?
            {
                *by = PLATFORM.to_owned();
            }
        }
        // Gateways' tokens are the platform's.
        if let Some(whose) = document.pointer_mut("/struck/whose") {
            *whose = PLATFORM.into();
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
        for HashedEntry { entry, .. } in entries {
            if self.caller.is_confined() && self.has(&entry.actor).await? {
                entry.actor = PLATFORM.to_owned();
                entry.address.clear();
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
