//! `uploads` as an operator writes them.

use core::num::NonZeroU64;

use serde::Deserialize;

use super::{Bounds, Policy};
use crate::config::{ByteRate, ByteSize, ConfigError, Number, Object, Span};

/// The most requests in upload that an operator may allow: the shared count lists them, and is read with each change.
const MAX_REQUESTS: u64 = 4_096;

/// The section as it is written; what is left out is as by default.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct RawPolicy {
    requests: Object<RawBounds<Number>>,
    bytes: Object<RawBounds<ByteSize>>,
    least_rate: Option<ByteRate>,
    grace: Option<Span>,
    body: Option<ByteSize>,
}

#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, bound(deserialize = "T: Deserialize<'de>"))]
struct RawBounds<T> {
    key: Option<T>,
    organization: Option<T>,
    total: Option<T>,
}

// Derived it would ask for a default of `T`.
impl<T> Default for RawBounds<T> {
    fn default() -> Self {
        Self {
            key: None,
            organization: None,
            total: None,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            requests: Bounds {
                key: 100,
                organization: 400,
                total: 1600,
            },
            bytes: Bounds {
                key: 256 * MIB,
                organization: 512 * MIB,
                total: 1024 * MIB,
            },
            least_rate: 16 * 1024,
            grace: 10_000_000_000,
            body: 32 * MIB,
        }
    }
}

impl TryFrom<RawPolicy> for Policy {
    type Error = Vec<ConfigError>;

    fn try_from(raw: RawPolicy) -> Result<Self, Self::Error> {
        let mut errors = Vec::new();
        let default = Self::default();
        let requests = bounds(
            raw.requests.0,
            default.requests,
            "requests",
            &mut errors,
            requests,
        );
        let bytes = bounds(raw.bytes.0, default.bytes, "bytes", &mut errors, |size, _| {
            Ok(size.bytes())
        });
        let policy = Self {
            requests,
            bytes,
            least_rate: raw.least_rate.map_or(default.least_rate, ByteRate::per_second),
            grace: raw.grace.map_or(default.grace, Span::nanos),
            body: raw.body.map_or(default.body, |size| size.bytes().get()),
        };
        if raw.body.is_some() && policy.body > policy.bytes.key {
            let problem = "is more than bytes.key: no key could send it";
            errors.push(ConfigError::new("body", problem));
        }
        if raw.grace.is_some_and(|grace| grace.millis() < 1_000) {
            errors.push(ConfigError::new("grace", "expected at least `1s`"));
        }
        if errors.is_empty() {
            Ok(policy)
        } else {
            Err(errors)
        }
    }
}

fn requests(number: Number, path: &str) -> Result<NonZeroU64, ConfigError> {
    let whole = number.whole(path, 1..=MAX_REQUESTS)?;
    Ok(NonZeroU64::new(whole).unwrap_or(NonZeroU64::MIN))
}

/// Each bound as given, or as by default but no wider than the next one.
fn bounds<T>(
    raw: RawBounds<T>,
    default: Bounds,
    name: &str,
    errors: &mut Vec<ConfigError>,
    read: impl Fn(T, &str) -> Result<NonZeroU64, ConfigError>,
) -> Bounds {
    let mut given = |value: Option<T>, member: &str| {
        let path = format!("{name}.{member}");
        let read = value.map(|value| read(value, &path)).transpose();
        read.unwrap_or_else(|error| {
            errors.push(error);
            None
        })
    };
    let (key, organization, total) = (
        given(raw.key, "key"),
        given(raw.organization, "organization"),
        given(raw.total, "total"),
    );
    let total = total.map_or(default.total, NonZeroU64::get);
    let organization = organization.map_or(default.organization.min(total), NonZeroU64::get);
    let key = key.map_or(default.key.min(organization), NonZeroU64::get);
    for (narrow, bound, wide, most) in [
        ("key", key, "organization", organization),
        ("organization", organization, "total", total),
    ] {
        if bound > most {
            let problem = format!("is more than {name}.{wide}, so it never counts");
            errors.push(ConfigError::new(format!("{name}.{narrow}"), problem));
        }
    }
    Bounds {
        key,
        organization,
        total,
    }
}
