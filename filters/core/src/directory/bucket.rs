//! A directory in many small buckets, for a store that workers share and that only gives whole values.
//!
//! A bucket holds the keys whose hash begins with the same 16 bits: a look-up reads one value, of about 1.5 kB
//! at a million keys. Every bucket stands for itself, so a new directory replaces the old one bucket by bucket
//! while requests go on: each key is judged by its old record or by its new one, never by a mix.
//!
//! Layout: for each key its hash (32 bytes), then the length of its record (2 bytes, little-endian), then the
//! record. Store keys hold the number of this layout, 2: what another version of the module wrote is not found, instead
//! of being misread. Raise it with each change of a record.

use core::ops::RangeInclusive;

use super::record::ProfileId;
use super::table::{Compiled, PARTS};
use crate::key::KeyHash;

/// How many buckets there are.
pub const BUCKETS: usize = 1 << 16;
/// How many of them share the first byte of their hashes.
pub const BUCKETS_PER_PART: usize = BUCKETS / PARTS;

const HASH: usize = 32;
const HEAD: usize = HASH + 2;

/// The bucket of a key.
pub fn of(hash: &KeyHash) -> u16 {
    let [first, second, ..] = *hash.as_bytes();
    u16::from_be_bytes([first, second])
}

/// The shared-store key of a bucket.
pub fn store_key(bucket: u16) -> [u8; 10] {
    let [a, b, c, d] = hex(bucket);
    [b'k', b'e', b'y', b'-', b'3', b'-', a, b, c, d]
}

/// The shared-store key of a tenant's profile.
pub fn profile_store_key(id: ProfileId) -> [u8; 22] {
    let mut key = *b"tnt-3-0000000000000000";
    let [a, b, c, d, e, f, g, h] = id.0.to_be_bytes();
    for (digits, pair) in key.iter_mut().skip(6).zip(
        [[a, b], [c, d], [e, f], [g, h]]
            .iter()
            .flat_map(|pair| hex(u16::from_be_bytes(*pair))),
    ) {
        *digits = pair;
    }
    key
}

fn hex(value: u16) -> [u8; 4] {
    let digit = |shift: u32| match (value >> shift & 0xf) as u8 {
        digit @ 0..10 => b'0' + digit,
        letter => b'a' + letter - 10,
    };
    [digit(12), digit(8), digit(4), digit(0)]
}

/// The record of `hash` in its bucket; `None` where it isn't there, or where the bucket can't be read.
pub fn find<'a>(bucket: &'a [u8], hash: &KeyHash) -> Option<&'a [u8]> {
    let mut rest = bucket;
    while let Some((head, tail)) = rest.split_first_chunk::<HEAD>() {
        let (found, len) = head.split_first_chunk::<HASH>()?;
        let len = usize::from(u16::from_le_bytes(*len.first_chunk()?));
        let (record, next) = tail.split_at_checked(len)?;
        // Most are told apart by a few bytes. That it shows in time tells nothing: a guesser chooses a key, not
        // its hash.
        if found.first_chunk::<8>() == hash.as_bytes().first_chunk() && KeyHash::from_bytes(*found) == *hash {
            return Some(record);
        }
        rest = next;
    }
    None
}

/// Its keys with their records, in order; `None` in the place of what can't be read.
pub fn rows(bucket: &[u8]) -> impl Iterator<Item = Option<(KeyHash, &[u8])>> {
    let mut rest = bucket;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let row = row(rest);
        rest = row.map_or(&[], |(_, _, behind)| behind);
        Some(row.map(|(hash, record, _)| (hash, record)))
    })
}

/// The first key, its record, and what is behind it.
fn row(bucket: &[u8]) -> Option<(KeyHash, &[u8], &[u8])> {
    let (hash, rest) = bucket.split_first_chunk::<HASH>()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (record, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    Some((KeyHash::from_bytes(*hash), record, rest))
}

/// A bucket of these keys, which are in order.
pub fn of_rows<'a>(rows: impl IntoIterator<Item = (KeyHash, &'a [u8])>) -> Vec<u8> {
    let mut bucket = Vec::new();
    for (hash, record) in rows {
        push(&mut bucket, &hash, record);
    }
    bucket
}

/// The lowest and the highest hash that a bucket may hold.
pub fn bounds(bucket: u16) -> RangeInclusive<KeyHash> {
    let [first, second] = bucket.to_be_bytes();
    let filled = |rest| {
        let mut hash = [rest; HASH];
        hash.iter_mut()
            .zip([first, second])
            .for_each(|(byte, is)| *byte = is);
        KeyHash::from_bytes(hash)
    };
    filled(0)..=filled(u8::MAX)
}

fn push(bucket: &mut Vec<u8>, hash: &KeyHash, record: &[u8]) {
    // No record is longer: it was checked when it was made.
    let len = u16::try_from(record.len()).unwrap_or(u16::MAX);
    bucket.extend_from_slice(hash.as_bytes());
    bucket.extend_from_slice(&len.to_le_bytes());
    bucket.extend_from_slice(record);
}

/// The non-empty buckets of one part of a directory (`0..256`), in order.
pub fn of_part(directory: &Compiled, part: u8) -> Vec<(u16, Vec<u8>)> {
    let mut buckets: Vec<(u16, Vec<u8>)> = Vec::with_capacity(BUCKETS_PER_PART);
    for entry in directory.parts.get(usize::from(part)).into_iter().flatten() {
        let Some(record) = directory.record_of(entry) else {
            continue;
        };
        let bucket = of(&entry.hash);
        if buckets.last().is_none_or(|(last, _)| *last != bucket) {
            buckets.push((bucket, Vec::new()));
        }
        if let Some((_, bytes)) = buckets.last_mut() {
            push(bytes, &entry.hash, record);
        }
    }
    buckets
}
