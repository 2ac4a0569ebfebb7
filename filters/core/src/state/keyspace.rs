//! Every kind of shared value, and how its keys begin.

/// Where the values of one kind are. A key is the kind's prefix, and a name behind it.
///
/// The number in a prefix is that of the values' layout: raise it with each change, and what another version of the module
/// wrote is not found, instead of being misread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keyspace(&'static str);

/// Lists the kinds once, for their names and all of them.
macro_rules! keyspaces {
    ($($(#[$doc:meta])* $name:ident $prefix:literal,)*) => {
        impl Keyspace {
            $($(#[$doc])* pub const $name: Self = Self($prefix);)*
        }

        /// All of them.
        pub const KEYSPACES: &[Keyspace] = &[$(Keyspace::$name),*];
    };
}

keyspaces! {
    /// Which directory is in force: one value.
    DIRECTORY "dir-3-",
    /// Which tenants the directory in force has: one value.
    TENANTS "tenants-3-",
    /// A tenant's profile, by its id.
    PROFILE "tnt-3-",
    /// A bucket of keys, by its number.
    KEYS "key-3-",
    /// What is out of use: one value.
    TRAFFIC "traffic-1-",
    /// Budgets as the directory has them: one value.
    BUDGETS "budgets-1-",
    /// Failed authentications, by a slot of addresses.
    FAILED_AUTH "fail-1-",
    /// Refused requests, by a slot of keys or addresses.
    REFUSALS "refused-1-",
    /// A breaker, by target and model, and where one organization has its own, by that.
    BREAKER "breaker-2-",
    /// How long a target is left alone at most: one value.
    BREAKER_POLICY "longest-1-",
    /// What is in upload: one value.
    UPLOADS "uploads-1-",
    /// Levels of the limits, by subject.
    LIMITS "lim-3-",
    /// What this Envoy has of the fleet's limits, and until when: one value.
    LEASE "lease-1-",
    /// Its share of one of them for one subject.
    SHARES "share-2-",
    /// Which share is in force for a row and a subject.
    NUMBERS "numbers-1-",
    /// Of which its member should know: one value of what it should ask for more of, and one of what is in use.
    SHORT "short-2-",
    /// What this Envoy may spend of a budget and has spent of it, by the budget's id. Its number is also that of [`HOLDER`]:
    /// who does not find what it was granted has to be another holder.
    ///
    /// [`HOLDER`]: Self::HOLDER
    SPENDING "spending-1-",
    /// By which name this Envoy holds it: one value.
    HOLDER "holder-1-",
    /// Budgets of which something is spent here: one value.
    SPENT_HERE "spenthere-1-",
    /// Of which budgets this Envoy should ask soon: one value.
    ASK_SOON "asksoon-1-",
    /// Requests in flight of a model with a capacity, by model.
    CAPACITY "fair-1-",
    /// What is learned of an organization's requests to a model, by slot.
    ESTIMATES "est-2-",
    /// Which workers live: one value.
    WORKERS "workers-1-",
}

impl Keyspace {
    /// How its keys begin.
    pub const fn prefix(self) -> &'static [u8] {
        self.0.as_bytes()
    }

    /// The key of a name.
    pub fn key(self, name: impl AsRef<[u8]>) -> Vec<u8> {
        [self.prefix(), name.as_ref()].concat()
    }
}
