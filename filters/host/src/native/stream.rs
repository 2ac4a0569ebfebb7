//! What Envoy tells a dynamic module of a stream, and what it does with one.

use std::borrow::Cow;

use super::Handle;
use super::abi::{self, AttributeId, Buffer};
use crate::attribute::Attribute;
use crate::status::{Result, Status};

/// A stream needs no name here: what is about it says so by its [`Handle`].
#[derive(Debug)]
pub(crate) struct StreamId;

/// Every stream can be told apart at any time.
pub(crate) const fn enter(_id: &StreamId) -> bool {
    true
}

pub(crate) fn attribute(handle: Handle, attribute: Attribute) -> Result<Vec<u8>> {
    match handle {
        Handle::Answered(_, answer) if attribute == Attribute::Details => {
            // SAFETY: it is there for the callback.
            Ok(unsafe { &*answer }.details.as_bytes().to_vec())
        }
        Handle::Stream(filter) | Handle::Answered(filter, _) => of_stream(filter, attribute),
        Handle::Logger(logger) => of_logger(logger, attribute),
        _ => Err(Status::BadArgument),
    }
}

fn of_stream(filter: abi::Filter, attribute: Attribute) -> Result<Vec<u8>> {
    text(|value| {
        // SAFETY: the filter is good for the callback, and the names for the call.
        unsafe {
            match attribute {
                Attribute::ClientAddress => {
                    abi::get_attribute_string(filter, AttributeId::SourceAddress, value)
                }
                Attribute::UpstreamLocalAddress => {
                    abi::get_attribute_string(filter, AttributeId::UpstreamLocalAddress, value)
                }
                Attribute::Details => {
                    abi::get_attribute_string(filter, AttributeId::ResponseCodeDetails, value)
                }
                Attribute::Cluster => abi::get_cluster_name(filter, value),
                Attribute::Provider => {
                    let (namespace, key) = (Buffer::of(b"tollgate"), Buffer::of(b"provider"));
                    abi::get_metadata_string(filter, abi::HOST_METADATA, namespace, key, value)
                }
                _ => false,
            }
        }
    })
}

fn of_logger(logger: abi::Logger, attribute: Attribute) -> Result<Vec<u8>> {
    let mut port = 0;
    let text = text(|value| {
        // SAFETY: what the logger is told of is there for the callback.
        unsafe {
            match attribute {
                Attribute::Cluster => abi::logger_get_cluster(logger, value),
                Attribute::Details => abi::logger_get_details(logger, value),
                Attribute::UpstreamLocalAddress => {
                    abi::logger_get_upstream_local_address(logger, value, &raw mut port)
                }
                _ => false,
            }
        }
    })?;
    if attribute != Attribute::UpstreamLocalAddress {
        return Ok(text);
    }
    // As a stream's is written.
    let address = String::from_utf8_lossy(&text);
    let address = if address.contains(':') {
        Cow::from(format!("[{address}]"))
    } else {
        address
    };
    Ok(format!("{address}:{port}").into_bytes())
}

pub(crate) fn number(handle: Handle, wanted: Attribute) -> Option<u64> {
    if let Handle::Logger(logger) = handle
        && let Some(number) = of_ending(logger, wanted)
    {
        return Some(number);
    }
    let id = match wanted {
        Attribute::Attempts => AttributeId::RequestAttemptCount,
        Attribute::Status => AttributeId::ResponseCode,
        Attribute::Flags => AttributeId::ResponseFlags,
        _ => return None,
    };
    match handle {
        Handle::Answered(_, answer) if wanted == Attribute::Status => {
            // SAFETY: it is there for the callback.
            unsafe { &*answer }.status().map(u64::from)
        }
        Handle::Stream(filter) | Handle::Answered(filter, _) => {
            let mut value = 0;
            // SAFETY: the filter is good for the callback; the value is a live local.
            unsafe { abi::get_attribute_int(filter, id, &raw mut value) }.then_some(value)
        }
        // SAFETY: what the logger is told of is there for the callback.
        Handle::Logger(logger) => Some(unsafe {
            match wanted {
                Attribute::Attempts => abi::logger_get_attempts(logger).into(),
                Attribute::Status => abi::logger_get_response_code(logger).into(),
                _ => abi::logger_get_flags(logger),
            }
        }),
        _ => None,
    }
}

/// What only an access logger is told.
fn of_ending(logger: abi::Logger, wanted: Attribute) -> Option<u64> {
    let (mut timing, mut bytes) = (abi::Timing::default(), abi::Bytes::default());
    // SAFETY: what the logger is told of is there for the callback; the structs are live locals.
    unsafe {
        match wanted {
            Attribute::Began | Attribute::Duration => abi::logger_get_timing(logger, &raw mut timing),
            Attribute::BytesIn | Attribute::BytesOut => abi::logger_get_bytes(logger, &raw mut bytes),
            _ => return None,
        }
    }
    match wanted {
        Attribute::Began => u64::try_from(timing.began).ok(),
        Attribute::Duration => u64::try_from(timing.duration).ok(),
        Attribute::BytesIn => Some(bytes.received),
        _ => Some(bytes.sent),
    }
}

/// Under the same name as in the other form, so that one access log reads both.
fn state_key(name: &str) -> String {
    // `format!` takes several times as long.
    ["wasm.", name].concat()
}

pub(crate) fn state(handle: Handle, name: &str) -> Result<Vec<u8>> {
    read_state(handle, &state_key(name))
}

fn read_state(handle: Handle, key: &str) -> Result<Vec<u8>> {
    let (Handle::Stream(filter) | Handle::Answered(filter, _)) = handle else {
        return Err(Status::BadArgument);
    };
    // SAFETY: the filter is good for the callback, and the key for the call.
    text(|value| unsafe { abi::get_filter_state(filter, Buffer::of(key.as_bytes()), value) })
}

pub(crate) fn set_state(handle: Handle, name: &str, value: &[u8]) -> Result<()> {
    let (Handle::Stream(filter) | Handle::Answered(filter, _)) = handle else {
        return Err(Status::BadArgument);
    };
    let key = state_key(name);
    // SAFETY: the filter is good for the callback, and both slices for the call.
    if unsafe { abi::set_filter_state(filter, Buffer::of(key.as_bytes()), Buffer::of(value)) } {
        Ok(())
    } else {
        Err(Status::BadArgument)
    }
}

/// A claim of a verified token. A dynamic module can't read what `jwt_authn` leaves (a value within a value), so a
/// `set_filter_state` filter behind that one says it: `tollgate.claim.TOKEN.NAME`.
pub(crate) fn claim(handle: Handle, token: &str, name: &str) -> Result<Vec<u8>> {
    read_state(handle, &format!("tollgate.claim.{token}.{name}"))
}

pub(crate) fn clear_route_cache(handle: Handle) -> Result<()> {
    let Handle::Stream(filter) = handle else {
        return Err(Status::BadArgument);
    };
    // SAFETY: the filter is good for the callback.
    unsafe { abi::clear_route_cache(filter) };
    Ok(())
}

pub(crate) fn tick_every(handle: Handle, millis: u32) -> Result<()> {
    // SAFETY: they are there for the callback.
    unsafe {
        match handle {
            Handle::Worker(period) => (*period).set(millis),
            Handle::Extension(clockwork) => (*clockwork).period.set(millis),
            _ => return Err(Status::BadArgument),
        }
    }
    Ok(())
}

/// A text of Envoy's, copied.
fn text(call: impl FnOnce(*mut Buffer) -> bool) -> Result<Vec<u8>> {
    let mut value = Buffer::EMPTY;
    if call(&raw mut value) {
        // SAFETY: Envoy's bytes are good until the callback ends or something is changed; here they are copied.
        Ok(unsafe { value.bytes() }.to_vec())
    } else {
        Err(Status::NotFound)
    }
}
