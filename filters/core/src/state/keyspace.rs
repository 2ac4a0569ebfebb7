//! Every kind of shared value, and how its keys begin.

/// Where the values of one kind are. A key is the kind's prefix, and a name behind it.
///
/// The number in a prefix is that of the values' layout: raise it with each change, and what another version of the module
/// wrote is not found, instead of being misread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyspace(&'static str);

impl Keyspace {
    /// Which directory is in force: one value.
    pub const DIRECTORY: Self = Self("dir-1-");
    /// Which tenants the directory in force has: one value.
    pub const TENANTS: Self = Self("tenants-1-");
    /// A tenant's profile, by its id.
    pub const PROFILE: Self = Self("tnt-1-");
    /// A bucket of keys, by its number.
    pub const KEYS: Self = Self("key-1-");
    /// Failed authentications, by a slot of addresses.
    pub const FAILED_AUTH: Self = Self("fail-1-");
    /// Refused requests, by a slot of keys or addresses.
    pub const REFUSALS: Self = Self("refused-1-");
    /// A breaker, by target and model, and where one organization has its own, by that.
    pub const BREAKER: Self = Self("breaker-1-");
    /// How long a target is left alone at most: one value.
    pub const BREAKER_POLICY: Self = Self("longest-1-");
    /// What is in upload: one value.
    pub const UPLOADS: Self = Self("uploads-1-");
    /// Levels of the limits, by subject.
    pub const LIMITS: Self = Self("lim-1-");
    /// Requests in flight of a model with a capacity, by model.
    pub const CAPACITY: Self = Self("fair-1-");
    /// What is learned of an organization's requests to a model, by slot.
    pub const ESTIMATES: Self = Self("est-2-");
    /// Which workers live: one value.
    pub const WORKERS: Self = Self("workers-1-");

    /// How its keys begin.
    pub const fn prefix(self) -> &'static [u8] {
        self.0.as_bytes()
    }

    /// The key of a name.
    pub fn key(self, name: impl AsRef<[u8]>) -> Vec<u8> {
        [self.prefix(), name.as_ref()].concat()
    }
}

/// All of them.
pub const KEYSPACES: [Keyspace; 13] = [
    Keyspace::DIRECTORY,
    Keyspace::TENANTS,
    Keyspace::PROFILE,
    Keyspace::KEYS,
    Keyspace::FAILED_AUTH,
    Keyspace::REFUSALS,
    Keyspace::BREAKER,
    Keyspace::BREAKER_POLICY,
    Keyspace::UPLOADS,
    Keyspace::LIMITS,
    Keyspace::CAPACITY,
    Keyspace::ESTIMATES,
    Keyspace::WORKERS,
];
