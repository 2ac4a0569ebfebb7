//! Finds credentials: in the configuration's own directory, or in the one that all workers share.

use std::rc::Rc;

use tollgate_core::auth::Refusal;
use tollgate_core::directory::{Credential, ProfileId, Tenant, bucket};
use tollgate_core::key::KeyTag;
use tollgate_core::request::Secret;
use tollgate_host::{now_nanos, shared};

use crate::cache::Cache;
use crate::config::{OnStale, Source};
use crate::publish::Published;

/// Keys that a worker keeps at hand: 16 MB when all are filled. What is not at hand costs a look into shared data.
const MOST_KEYS: usize = 32_768;
/// Organizations and projects likewise.
const MOST_TENANTS: usize = 4_096;

/// A [`Source`] with what was found in it lately.
pub(crate) struct Lookup {
    source: Source,
    keys: Cache<KeyTag, Credential>,
    /// Of the tags.
    seed: u64,
    tenants: Cache<ProfileId, Tenant>,
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
        let keys = match &source {
            Source::Inline(directory) => (directory.keys() * 2).min(MOST_KEYS),
            Source::Http { .. } => MOST_KEYS,
        };
        let (keys, tenants) = (Cache::new(keys), Cache::new(keys.min(MOST_TENANTS)));
        let mut lookup = Self {
            source,
            keys,
            seed: now_nanos().unwrap_or_default(),
            tenants,
            state: State::Good(0),
        };
        lookup.refresh();
        lookup
    }

    /// Whether the directory is the one that all workers share.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self.source, Source::Http { .. })
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
            self.keys.clear();
            self.tenants.clear();
            self.state = state;
        }
    }

    /// The credential of a key; `None` for one that the directory does not hold.
    pub(crate) fn key(&mut self, key: Secret<'_>) -> Result<Option<Rc<Credential>>, Refusal> {
        self.available()?;
        let Self {
            source,
            keys,
            seed,
            tenants,
            ..
        } = self;
        let source = &*source;
        let mut join = |record: Option<&[u8]>| match record {
            Some(record) => Credential::from_record(record, |id| tenant(tenants, source, id)),
            None => Ok(None),
        };
        keys.get(key.tag(*seed), || {
            let hash = key.hash().ok_or_else(|| Refusal::Malformed(key.masked()))?;
            match source {
                Source::Inline(directory) => join(directory.record(&hash)),
                Source::Http { .. } => match shared(&bucket::store_key(bucket::of(&hash))) {
                    // A record without its tenant's belongs to a tenant that is just being withdrawn.
                    Ok(Some((bucket, _))) => join(bucket::find(&bucket, &hash)),
                    Ok(None) => Ok(None),
                    Err(_) => Err(Refusal::DirectoryUnavailable),
                },
            }
        })
    }

    /// The credential of a caller with a verified token; `None` where the directory has no such tenant.
    pub(crate) fn token(
        &mut self,
        id: &str,
        org: &str,
        project: Option<&str>,
    ) -> Result<Option<Credential>, Refusal> {
        self.available()?;
        let tenant = tenant(&mut self.tenants, &self.source, ProfileId::of(org, project))?;
        Ok(tenant.and_then(|tenant| Credential::of_token(id, tenant)))
    }

    fn available(&mut self) -> Result<(), Refusal> {
        if self.state == State::Unavailable {
            // It may have come since the last tick.
            self.refresh();
        }
        match self.state {
            State::Good(_) => Ok(()),
            State::Unavailable => Err(Refusal::DirectoryUnavailable),
        }
    }
}

fn tenant(
    tenants: &mut Cache<ProfileId, Tenant>,
    source: &Source,
    id: ProfileId,
) -> Result<Option<Rc<Tenant>>, Refusal> {
    tenants.get(id, || match source {
        Source::Inline(directory) => Ok(directory.profile(id).and_then(Tenant::from_record)),
        // An empty record is a tenant's that is gone.
        Source::Http { .. } => match shared(&bucket::profile_store_key(id)) {
            Ok(record) => Ok(record.and_then(|(record, _)| Tenant::from_record(&record))),
            Err(_) => Err(Refusal::DirectoryUnavailable),
        },
    })
}
