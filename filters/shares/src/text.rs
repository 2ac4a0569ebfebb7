//! How numbers that JSON has no room for stand in it: identifiers as hexadecimal digits, buckets' units as decimal ones.
//! A parser that keeps numbers as doubles would round both. In binary formats they are what they are.

/// A `u64` that names something: 16 hexadecimal digits.
pub(crate) mod id {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::bytes;

    pub(crate) fn serialize<S: Serializer>(id: &u64, to: S) -> Result<S::Ok, S::Error> {
        match to.is_human_readable() {
            true => bytes::serialize(&id.to_be_bytes(), to),
            false => id.serialize(to),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        match from.is_human_readable() {
            true => bytes::deserialize(from).map(u64::from_be_bytes),
            false => u64::deserialize(from),
        }
    }
}

/// Bytes that name something: two hexadecimal digits each.
pub(crate) mod bytes {
    use core::fmt;
    use serde::de::{Error, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<const N: usize, S>(bytes: &[u8; N], to: S) -> Result<S::Ok, S::Error>
    where
        [u8; N]: Serialize,
        S: Serializer,
    {
        if !to.is_human_readable() {
            return bytes.serialize(to);
        }
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
        to.serialize_str(&digits.collect::<String>())
    }

    pub(crate) fn deserialize<'de, const N: usize, D>(from: D) -> Result<[u8; N], D::Error>
    where
        [u8; N]: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        match from.is_human_readable() {
            true => from.deserialize_str(Digits),
            false => <[u8; N]>::deserialize(from),
        }
    }

    struct Digits<const N: usize>;

    impl<const N: usize> Visitor<'_> for Digits<N> {
        type Value = [u8; N];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} hexadecimal digits in lower case", 2 * N)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<[u8; N], E> {
            let wrong = || {
                E::custom(format_args!(
                    "expected {} hexadecimal digits in lower case",
                    2 * N
                ))
            };
            if text.len() != 2 * N {
                return Err(wrong());
            }
            let mut bytes = [0; N];
            for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                for digit in pair {
                    let value = match digit {
                        b'0'..=b'9' => digit - b'0',
                        b'a'..=b'f' => digit - b'a' + 10,
                        _ => return Err(wrong()),
                    };
                    *byte = *byte << 4 | value;
                }
            }
            Ok(bytes)
        }
    }
}

/// A `u128` that counts units of a bucket: decimal digits.
pub(crate) mod units {
    use core::fmt;
    use serde::de::{Error, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(units: &u128, to: S) -> Result<S::Ok, S::Error> {
        match to.is_human_readable() {
            true => to.collect_str(units),
            false => units.serialize(to),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        match from.is_human_readable() {
            true => from.deserialize_str(Digits),
            false => u128::deserialize(from),
        }
    }

    struct Digits;

    impl Visitor<'_> for Digits {
        type Value = u128;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("decimal digits, less than 2^128")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u128, E> {
            // `parse` takes a sign too.
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.then(|| text.parse().ok()).flatten();
            number.ok_or_else(|| E::custom("expected decimal digits, less than 2^128"))
        }
    }
}
