//! Proxy-wasm's serialised map: a count, then every pair's two lengths, then every name and value, each
//! ended by a zero byte. Numbers are little-endian `u32`.

/// Name and value of one entry.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// The bytes of `pairs`. An empty map is the four bytes of its count.
pub(crate) fn encode<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Vec<u8> {
    let mut bytes = length(pairs.clone().count()).to_vec();
    for (name, value) in pairs.clone() {
        bytes.extend(length(name.len()));
        bytes.extend(length(value.len()));
    }
    for part in pairs.flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(part);
        bytes.push(0);
    }
    bytes
}

/// The pairs in `bytes`, or `None` where a length points outside of them. No bytes at all is an empty map.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Pair>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut lengths = Reader(bytes);
    let count = lengths.number()?;
    let mut sizes = Vec::new();
    for _ in 0..count {
        sizes.push((lengths.number()?, lengths.number()?));
    }
    let mut text = lengths;
    sizes
        .into_iter()
        .map(|(name, value)| Some((text.part(name)?, text.part(value)?)))
        .collect()
}

fn length(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("a map smaller than 4 GiB").to_le_bytes()
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<usize> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        usize::try_from(u32::from_le_bytes(*head)).ok()
    }

    fn part(&mut self, size: usize) -> Option<Vec<u8>> {
        let (part, rest) = self.0.split_at_checked(size)?;
        self.0 = rest.split_first()?.1;
        Some(part.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn lengths_come_first_and_every_part_ends_with_a_zero() {
        let pairs: [(&[u8], &[u8]); 2] = [(b":path", b"/v1"), (b"x", b"")];
        let bytes = encode(pairs.iter().copied());
        assert_eq!(
            bytes,
            b"\x02\0\0\0\x05\0\0\0\x03\0\0\0\x01\0\0\0\0\0\0\0:path\0/v1\0x\0\0"
        );
        assert_eq!(
            decode(&bytes).unwrap(),
            [(b":path".to_vec(), b"/v1".to_vec()), (b"x".to_vec(), vec![])]
        );
    }

    #[test]
    fn a_length_beyond_the_end_is_no_map() {
        assert_eq!(decode(b"\x01\0\0\0\xff\0\0\0\0\0\0\0abc\0\0"), None);
        assert_eq!(decode(b"\xff\xff\xff\xff"), None);
        assert_eq!(decode(b""), Some(vec![]));
    }
}
