//! What clients are sending, and the gateway holds until it is whole. Envoy keeps each body in memory up to the size
//! that one request may have; here all of them together are bounded: by key, by organization and for the whole Envoy,
//! and one that comes too slowly is ended.

mod document;
mod ledger;
mod pace;
mod worker;

pub use document::RawPolicy;
pub use ledger::{Ledger, Mine};
pub use pace::Pace;
pub use worker::{Upload, Uploads};

use core::fmt::Write as _;

use crate::error::{ApiError, Retry};
use crate::key::KeyTag;

/// From this size on a body counts until its request is answered: Envoy keeps it for a retry. Smaller ones count only
/// while they come.
pub const KEPT_FROM: u64 = 64 * 1024;
/// Bytes that are counted ahead of what has come, so that not each piece of a large body is a change of the count.
const AHEAD: u64 = 256 * 1024;

/// How much may be in upload at once, and how slow one upload may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Requests whose body is not whole yet.
    pub requests: Bounds,
    /// Bytes of bodies.
    pub bytes: Bounds,
    /// Bytes a second that each upload has to move, measured over each span of `grace`.
    pub least_rate: u64,
    /// Nanoseconds over which the rate is measured, the first of them from the request's beginning.
    pub grace: u64,
    /// Most bytes of one body, as it comes and once it is decoded.
    pub body: u64,
}

/// A bound for each of those who share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Of one key.
    pub key: u64,
    /// Of all keys of an organization.
    pub organization: u64,
    /// Of everybody at this Envoy.
    pub total: u64,
}

/// Whose upload it is: hashes of the names, which are all that is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Who {
    org: u64,
    key: u64,
}

impl Who {
    /// A key of an organization.
    pub fn of(org: &str, key: &str) -> Self {
        let hash = |name: &str| KeyTag::of(name.as_bytes(), 0).number();
        Self {
            org: hash(org),
            key: hash(key),
        }
    }
}

/// What uploads take of the bounds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hold {
    /// How many requests.
    pub requests: u32,
    /// How many bytes.
    pub bytes: u64,
}

/// What a piece of a body takes of Envoy's memory: it puts small ones together, and gives each other one pages of its own.
/// (A body in pieces of 600 bytes takes seven times its size.)
pub const fn weight(piece: u64) -> u64 {
    const SMALL: u64 = 512;
    const PAGE: u64 = 4096;
    if piece <= SMALL {
        piece
    } else {
        piece.div_ceil(PAGE).saturating_mul(PAGE)
    }
}

impl Hold {
    /// What an upload should take of which so many bytes count, and `whole` are to come where its client said so. Some are
    /// counted ahead.
    pub fn coming(counted: u64, whole: Option<u64>) -> Self {
        let ahead = counted.saturating_add(AHEAD);
        Self {
            requests: 1,
            bytes: whole.map_or(ahead, |whole| ahead.min(whole)).max(counted),
        }
    }

    /// What a body takes once it is whole.
    pub const fn whole(counted: u64) -> Self {
        Self {
            requests: 0,
            bytes: if counted < KEPT_FROM { 0 } else { counted },
        }
    }

    /// What this takes beyond `other`.
    pub const fn beyond(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// The same without what was counted ahead.
    pub const fn exactly(self, counted: u64) -> Self {
        Self {
            bytes: counted,
            ..self
        }
    }
}

/// The uploads of a key, of its organization, and of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    pub(crate) key: Hold,
    pub(crate) organization: Hold,
    pub(crate) total: Hold,
}

/// The bound that an upload would pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// Whose.
    pub scope: Scope,
    /// Of what.
    pub unit: Unit,
    /// How much.
    pub limit: u64,
}

/// Who shares a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The requests of a key.
    Key,
    /// Those of an organization.
    Organization,
    /// All.
    Total,
}

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Requests whose body is not whole yet.
    Requests,
    /// Bytes of bodies.
    Bytes,
}

/// Why a body may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It has more than so many bytes.
    TooLarge(u64),
    /// Too much is in upload.
    Over(Over),
    /// It comes too slowly.
    TooSlow(TooSlow),
    /// It comes in far more pieces than its size needs, each of which is as much work as a large one.
    Fragmented,
}

impl Policy {
    /// Whether an upload may take `more` than it has, where `sums` is what all take without that.
    pub fn admit(&self, sums: &Sums, more: Hold) -> Result<(), Over> {
        let scopes = [
            (Scope::Key, sums.key, self.requests.key, self.bytes.key),
            (
                Scope::Organization,
                sums.organization,
                self.requests.organization,
                self.bytes.organization,
            ),
            (Scope::Total, sums.total, self.requests.total, self.bytes.total),
        ];
        for (scope, held, requests, bytes) in scopes {
            let wanted = u64::from(held.requests).saturating_add(u64::from(more.requests));
            if more.requests > 0 && wanted > requests {
                return Err(Over {
                    scope,
                    unit: Unit::Requests,
                    limit: requests,
                });
            }
            if more.bytes > 0 && held.bytes.saturating_add(more.bytes) > bytes {
                return Err(Over {
                    scope,
                    unit: Unit::Bytes,
                    limit: bytes,
                });
            }
        }
        Ok(())
    }

    /// What is wrong with a slow upload.
    pub const fn too_slow(&self) -> TooSlow {
        TooSlow {
            least_rate: self.least_rate,
            grace: self.grace,
        }
    }
}

/// An upload that did not move enough: bytes a second, and nanoseconds over which they are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow {
    least_rate: u64,
    grace: u64,
}

impl TooSlow {
    /// What the client is told.
    pub fn answer(&self) -> ApiError {
        ApiError {
            status: 408,
            kind: "invalid_request_error",
            code: "request_timeout",
            param: None,
            message: format!(
                "The request's body came too slowly: at least {} bytes a second are needed, measured over {} seconds.",
                self.least_rate,
                self.grace.div_ceil(1_000_000_000)
            )
            .into(),
            retry: Retry::Unsaid,
        }
    }
}

impl Over {
    /// What the client is told.
    pub fn answer(&self) -> ApiError {
        let mut message = String::from(match self.unit {
            Unit::Requests => "Too many requests in upload at once ",
            Unit::Bytes => "Too many bytes of request bodies at once ",
        });
        message += match self.scope {
            Scope::Key => "from this key",
            Scope::Organization => "from this organization",
            Scope::Total => "at this gateway, from all of its callers",
        };
        let unit = match self.unit {
            Unit::Requests => "requests",
            Unit::Bytes => "bytes",
        };
        // Writing to a string can't fail.
        let _ = write!(
            message,
            ": the limit is {} {unit}. Please send fewer at once, and try again shortly.",
            self.limit
        );
        ApiError {
            status: 429,
            kind: "requests",
            code: "rate_limit_exceeded",
            param: None,
            message: message.into(),
            retry: Retry::AfterMillis(1_000),
        }
    }
}

#[cfg(test)]
mod tests;
