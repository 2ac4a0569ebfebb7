//! Finds credentials: in the configuration's own directory, or in the one that all workers share.

use std::rc::Rc;

use tollgate_core::auth::Refusal;
use tollgate_core::directory::{Credential, ProfileId, bucket};
use tollgate_core::key::KeyHash;
use tollgate_host::{now_nanos, shared};

use crate::cache::Cache;
use crate::config::{OnStale, Source};
use crate::publish::Published;

/// A [`Source`] with what was found in it lately.
pub(crate) struct Lookup {
    source: Source,
    cache: Cache,
    /// What is known of the shared directory since the last [`Lookup::refresh`].
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In force, in this generation.
    Good(u64),
    /// Never loaded, or too old.
    Unavailable,
}

impl Lookup {
    pub(crate) fn new(source: Source) -> Self {
        let mut lookup = Self {
            source,
            cache: Cache::new(),
            state: State::Good(0),
        };
        lookup.refresh();
        lookup
    }

    /// Looks for a new generation of the shared directory, and at its age. A credential that was withdrawn is
    /// forgotten here, so the time between two calls is part of the bound on revocation.
    pub(crate) fn refresh(&mut self) {
        let Source::Http { max_stale, on_stale } = self.source else {
            return;
        };
        let state = match (Published::read(), now_nanos()) {
            (Some(published), Ok(now)) => {
                let stale = now.saturating_sub(published.confirmed_at) > max_stale;
                if stale && on_stale == OnStale::Deny {
                    State::Unavailable
                } else {
                    State::Good(published.generation)
                }
            }
            _ => State::Unavailable,
        };
        if state != self.state {
            self.cache.clear();
            self.state = state;
        }
    }

    /// The credential of a key; `None` for one that the directory does not hold.
    pub(crate) fn key(&mut self, hash: &KeyHash) -> Result<Option<Rc<Credential>>, Refusal> {
        self.available()?;
        if let Some(credential) = self.cache.get(hash) {
            return Ok(Some(credential));
        }
        let found = match &self.source {
            Source::Inline(directory) => directory.find(hash),
            Source::Http { .. } => find_shared(hash)?,
        };
        let found = found.map(Rc::new);
        if let Some(credential) = &found {
            self.cache.put(*hash, Rc::clone(credential));
        }
        Ok(found)
    }

    /// The credential of a caller with a verified token; `None` where the directory has no such tenant.
    pub(crate) fn token(
        &mut self,
        id: &str,
        org: &str,
        project: Option<&str>,
    ) -> Result<Option<Credential>, Refusal> {
        self.available()?;
        let profile = ProfileId::of(org, project);
        let credential = match &self.source {
            Source::Inline(directory) => directory
                .profile(profile)
                .and_then(|profile| Credential::of_token(id, profile)),
            Source::Http { .. } => {
                shared_profile(profile).and_then(|profile| Credential::of_token(id, &profile))
            }
        };
        Ok(credential)
    }

    fn available(&self) -> Result<(), Refusal> {
        match self.state {
            State::Good(_) => Ok(()),
            State::Unavailable => Err(Refusal::DirectoryUnavailable),
        }
    }
}

fn find_shared(hash: &KeyHash) -> Result<Option<Credential>, Refusal> {
    let bucket = match shared(&bucket::store_key(bucket::of(hash))) {
        Ok(Some((bucket, _))) => bucket,
        Ok(None) => return Ok(None),
        Err(_) => return Err(Refusal::DirectoryUnavailable),
    };
    match bucket::find(&bucket, hash) {
        None => Ok(None),
        // A record without its profile is a directory in the making: the tenant is just being withdrawn.
        Some(record) => Ok(Credential::from_records(record, shared_profile)),
    }
}

fn shared_profile(id: ProfileId) -> Option<Vec<u8>> {
    let (profile, _) = shared(&bucket::profile_store_key(id)).ok()??;
    Some(profile).filter(|profile| !profile.is_empty())
}
