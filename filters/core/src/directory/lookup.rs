//! Finds credentials: in the configuration's own directory, or in the one that all workers share.

use std::rc::Rc;
use std::sync::Arc;

use super::cache::Cache;
use super::publication::{ONE, Published};
use super::record::{Credential, ProfileId, Tenant};
use super::{OnStale, Source, bucket};
use crate::budget::Budgets;
use crate::key::KeyTag;
use crate::request::Secret;
use crate::state::{self, Clock, Store, StoreError};
use crate::traffic::Traffic;

/// Keys that a worker keeps at hand: 16 MB when all are filled. What is not at hand costs a look into shared data.
const MAX_KEYS: usize = 32_768;
/// Organizations and projects likewise.
const MAX_TENANTS: usize = 4_096;

/// Why nothing was found, and not because it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// There is no directory, or it is too old, or it can't be read.
    Unavailable,
    /// What was presented is no key; holds it masked.
    Malformed(String),
}

/// A [`Source`] with what was found in it lately.
pub struct Lookup {
    source: Arc<Source>,
    keys: Cache<KeyTag, Credential>,
    /// Of the tags.
    seed: u64,
    tenants: Cache<ProfileId, Tenant>,
    /// What the shared directory has for all.
    common: Common,
    /// What is known of the shared directory since the last [`Lookup::refresh`].
    state: State,
}

/// What a directory has for all tenants.
#[derive(Debug, Default)]
struct Common {
    /// What is out of use.
    traffic: Traffic,
    budgets: Budgets,
}

impl Common {
    fn read(host: &mut impl Store) -> Result<Self, StoreError> {
        Ok(Self {
            traffic: state::read(host, ONE)?.unwrap_or_default(),
            budgets: state::read(host, ONE)?.unwrap_or_default(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In force, in this generation.
    Good(u64),
    /// Never loaded, or too old.
    Unavailable,
}

impl Lookup {
    /// Looks up in this source from now on.
    pub fn new(source: Arc<Source>, host: &mut (impl Store + Clock)) -> Self {
        let keys = match &*source {
            Source::Inline(directory) => (directory.keys() * 2).min(MAX_KEYS),
            Source::Http { .. } => MAX_KEYS,
        };
        let (keys, tenants) = (Cache::new(keys), Cache::new(keys.min(MAX_TENANTS)));
        let mut lookup = Self {
            source,
            keys,
            seed: host.now().unwrap_or_default(),
            tenants,
            common: Common::default(),
            state: State::Good(0),
        };
        lookup.refresh(host);
        lookup
    }

    /// Whether the directory is the one that all workers share.
    pub fn is_shared(&self) -> bool {
        matches!(*self.source, Source::Http { .. })
    }

    /// Looks for a new generation of the shared directory, and at its age. A credential that was withdrawn is
    /// forgotten here, so the time between two calls is part of the bound on revocation.
    pub fn refresh(&mut self, host: &mut (impl Store + Clock)) {
        let Source::Http { max_stale, on_stale } = *self.source else {
            return;
        };
        let state = match (Published::read(host), host.now()) {
            (Some(published), Some(now)) => {
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
            self.state = match state {
                State::Good(_) => match Common::read(host) {
                    Ok(common) => {
                        self.common = common;
                        state
                    }
                    Err(_) => State::Unavailable,
                },
                State::Unavailable => state,
            };
        }
    }

    /// The credential of a key; `None` for one that the directory does not hold.
    pub fn key(
        &mut self,
        key: Secret<'_>,
        host: &mut (impl Store + Clock),
    ) -> Result<Option<Rc<Credential>>, Failure> {
        self.available(host)?;
        let Self {
            source,
            keys,
            seed,
            tenants,
            common,
            ..
        } = self;
        let source = &**source;
        let budgets = match source {
            Source::Inline(directory) => directory.budgets(),
            Source::Http { .. } => &common.budgets,
        };
        keys.get(key.tag(*seed), || {
            let hash = key.hash().ok_or_else(|| Failure::Malformed(key.masked()))?;
            let bucket;
            let record = match source {
                Source::Inline(directory) => directory.record(&hash),
                Source::Http { .. } => {
                    let stored = host.get(&bucket::store_key(bucket::of(&hash)));
                    bucket = stored.map_err(|_| Failure::Unavailable)?;
                    bucket
                        .as_ref()
                        .and_then(|(bucket, _)| bucket::find(bucket, &hash))
                }
            };
            match record {
                // A record without its tenant's belongs to a tenant that is just being withdrawn.
                Some(record) => {
                    Credential::from_record(record, budgets, |id| tenant(tenants, (source, common), id, host))
                }
                None => Ok(None),
            }
        })
    }

    /// The credential of a caller with a verified token; `None` where the directory has no such tenant.
    pub fn token(
        &mut self,
        id: &str,
        org: &str,
        project: Option<&str>,
        host: &mut (impl Store + Clock),
    ) -> Result<Option<Credential>, Failure> {
        self.available(host)?;
        let id_of_tenant = ProfileId::of(org, project);
        let from = (&*self.source, &self.common);
        let tenant = tenant(&mut self.tenants, from, id_of_tenant, host)?;
        Ok(tenant.and_then(|tenant| Credential::of_token(id, tenant)))
    }

    fn available(&mut self, host: &mut (impl Store + Clock)) -> Result<(), Failure> {
        if self.state == State::Unavailable {
            // It may have come since the last tick.
            self.refresh(host);
        }
        match self.state {
            State::Good(_) => Ok(()),
            State::Unavailable => Err(Failure::Unavailable),
        }
    }
}

fn tenant(
    tenants: &mut Cache<ProfileId, Tenant>,
    (source, common): (&Source, &Common),
    id: ProfileId,
    host: &mut impl Store,
) -> Result<Option<Rc<Tenant>>, Failure> {
    tenants.get(id, || match source {
        Source::Inline(directory) => {
            let profile = directory.profile(id);
            Ok(profile
                .and_then(|profile| Tenant::from_record(profile, directory.traffic(), directory.budgets())))
        }
        // An empty record is a tenant's that is gone.
        Source::Http { .. } => {
            match host.get(&bucket::profile_store_key(id)) {
                Ok(record) => Ok(record
                    .and_then(|(record, _)| Tenant::from_record(&record, &common.traffic, &common.budgets))),
                Err(_) => Err(Failure::Unavailable),
            }
        }
    })
}
