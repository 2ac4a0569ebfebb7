//! The API key: `sk-tg-{id}-{secret}{checksum}`.
//!
//! The id is public and may be logged. The checksum lets the gateway, or a scanner that looks for leaked
//! keys, tell a mistyped key from a real one without a look-up. What is stored is the SHA-256 of the whole
//! key: the secret is 256 random bits, so nothing is gained by a slow hash.

use core::fmt;

use sha2::{Digest as _, Sha256};
use siphasher::sip128::SipHasher13;
use subtle::ConstantTimeEq as _;

/// What every key of ours begins with.
pub const PREFIX: &str = "sk-tg-";
/// Characters of the public id, `[a-z0-9]`.
pub const ID_LEN: usize = 12;
/// Characters of the secret: 256 bits in base 62.
pub const SECRET_LEN: usize = 43;
/// Characters of the checksum: a CRC-32 in base 62.
pub const CHECKSUM_LEN: usize = 6;
/// Characters of a whole key.
pub const KEY_LEN: usize = PREFIX.len() + ID_LEN + 1 + SECRET_LEN + CHECKSUM_LEN;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A whole key in clear: held only where one is minted or presented. Its `Debug` shows nothing.
pub struct ApiKey(String);

impl ApiKey {
    /// Makes a key from 40 random bytes: 8 for the id, 32 for the secret.
    pub fn mint(random: &[u8; 40]) -> Self {
        let (id, secret) = random.split_at(8);
        let mut key = String::with_capacity(KEY_LEN);
        key.push_str(PREFIX);
        // 12 characters of base 36 take 62 bits.
        push_digits(&mut key, id, 36, ID_LEN);
        key.push('-');
        push_digits(&mut key, secret, 62, SECRET_LEN);
        let checksum = checksum(key.as_bytes());
        key.extend(checksum.iter().copied().map(char::from));
        Self(key)
    }

    /// The public id.
    pub fn id(&self) -> &str {
        self.0
            .get(PREFIX.len()..PREFIX.len() + ID_LEN)
            .unwrap_or_default()
    }

    /// The key in clear, to be shown to its owner once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the directory holds of this key: 64 hexadecimal digits.
    pub fn sha256_hex(&self) -> String {
        KeyHash::of(self.0.as_bytes()).to_string()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([redacted])")
    }
}

/// What the form of a presented credential tells before any look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One of our keys, and its checksum holds.
    Ours,
    /// Begins as ours do, but the length, an alphabet or the checksum is wrong: a typo, or a guess.
    Broken,
    /// Some other system's key: only a look-up can tell.
    Foreign,
}

/// Reads the form of a presented credential.
pub fn form(key: &[u8]) -> Form {
    let Some(rest) = key.strip_prefix(PREFIX.as_bytes()) else {
        return Form::Foreign;
    };
    let intact = key.len() == KEY_LEN
        && rest.get(ID_LEN) == Some(&b'-')
        && rest
            .iter()
            .take(ID_LEN)
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        && rest.iter().skip(ID_LEN + 1).all(u8::is_ascii_alphanumeric)
        && key
            .split_last_chunk::<CHECKSUM_LEN>()
            .is_some_and(|(body, sum)| checksum(body) == *sum);
    if intact { Form::Ours } else { Form::Broken }
}

/// The SHA-256 of a key: the only form in which a directory knows it.
#[derive(Clone, Copy, PartialOrd, Ord, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes a presented key.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Wraps 32 bytes that are a hash already.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses 64 hexadecimal digits of either case; `None` for anything else.
    pub fn parse(hex: &str) -> Option<Self> {
        let digits: &[u8; 64] = hex.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
        }
        Some(Self(bytes))
    }
}

/// In constant time, so that a comparison tells nothing of how much was right.
impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash([redacted])")
    }
}

/// What stands for a key that was found before: a 128-bit SipHash under a seed that differs from worker to worker.
///
/// It is no proof as a [`KeyHash`] is; it does not have to be. To be taken for another key, a guess must meet one of
/// a few thousand 128-bit values that depend on secrets of 256 bits and are never shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTag(u64, u64);

impl KeyTag {
    /// The tag of a presented key.
    pub fn of(key: &[u8], seed: u64) -> Self {
        let hash = SipHasher13::new_with_keys(seed, SIP_KEY).hash(key);
        Self(hash.h1, hash.h2)
    }

    /// Half of it, where it is kept among few.
    pub const fn number(self) -> u64 {
        self.1
    }

    /// Bits that spread keys over the slots of a cache.
    pub const fn low_bits(self) -> u16 {
        self.0 as u16
    }
}

/// The seed's other half: any number does.
const SIP_KEY: u64 = 0x746f_6c6c_6761_7465;

/// A credential as an error message may show it: `sk-tg-ab***yz`, or `***` where so much would tell it.
pub fn masked(key: &[u8]) -> String {
    let shown = |part: &[u8]| {
        part.iter()
            .all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
    };
    // Eight characters of twenty or more leave too many unknown to guess. A shorter one is shown not at all.
    match (
        key.len() >= 20,
        key.split_first_chunk::<8>(),
        key.split_last_chunk::<2>(),
    ) {
        (true, Some((head, _)), Some((_, tail))) if shown(head) && shown(tail) => {
            format!("{}***{}", head.escape_ascii(), tail.escape_ascii())
        }
        _ => "***".to_owned(),
    }
}

/// How credentials of ours and of providers begin, in lower case; and what stands before others.
const STARTS: [&[u8]; 26] = [
    b"sk-",
    b"sk_",
    b"pk-",
    b"pk_",
    b"rk-",
    b"rk_",
    b"aiza",
    b"akia",
    b"asia",
    b"basic ",
    b"bearer ",
    b"fw_",
    b"ghp_",
    b"gho_",
    b"ghs_",
    b"github_pat_",
    b"glpat-",
    b"gsk_",
    b"hf_",
    b"nvapi-",
    b"pplx-",
    b"r8_",
    b"xai-",
    b"xoxb-",
    b"xoxp-",
    b"ya29.",
];

/// A client's text as an error may repeat it: up to `most` characters of it, or [masked] where it may be a credential
/// that was sent in the wrong place.
pub fn shown(text: &str, most: usize) -> String {
    /// Beyond that nothing is shown.
    const LONGEST: usize = 1024;
    let looked_at = text.as_bytes().get(..LONGEST).unwrap_or(text.as_bytes());
    if may_be_credential(looked_at) {
        masked(looked_at)
    } else {
        text.chars().take(most.min(LONGEST / 4)).collect()
    }
}

/// Whether a credential may stand in a text: by how it begins, or as it is as long and mixed as no name is. A name that
/// is taken for one is shown in part, so in doubt it is one.
pub fn may_be_credential(text: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric();
    let begins = |at: usize| {
        let rest = text.get(at..).unwrap_or_default();
        let start = STARTS.iter().find(|start| {
            rest.get(..start.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(start))
        });
        start.is_some_and(|start| {
            rest.iter()
                .skip(start.len())
                .take_while(|byte| byte.is_ascii_graphic())
                .count()
                >= 4
        })
    };
    let word = |at: usize| at == 0 || !text.get(at - 1).is_some_and(plain);
    // Keys of other systems are digests, UUIDs, or letters of both cases and digits.
    let mixed = |run: &[u8]| {
        let some = |is: fn(&u8) -> bool| run.iter().any(is);
        let cases = some(u8::is_ascii_uppercase) && some(u8::is_ascii_lowercase);
        run.len() >= 32 || (run.len() >= 16 && (cases || some(u8::is_ascii_digit)))
    };
    let hex = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    (0..text.len()).any(|at| word(at) && begins(at))
        || text.split(|byte| !plain(byte)).any(mixed)
        || text.split(|byte| !hex(byte)).any(|run| run.len() >= 32)
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [b'0'; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits
}

/// Appends `len` digits of the big-endian number `bytes`, the least significant ones where it has more.
fn push_digits(out: &mut String, bytes: &[u8], base: u32, len: usize) {
    let mut number = bytes.to_vec();
    let digits = if base == 36 {
        b"0123456789abcdefghijklmnopqrstuvwxyz".as_slice()
    } else {
        BASE62
    };
    for _ in 0..len {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest << 8 | u32::from(*byte);
            *byte = (value / base) as u8;
            rest = value % base;
        }
        out.push(digits.get(rest as usize).copied().map_or('0', char::from));
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = ApiKey> {
        proptest::array::uniform32(any::<u8>()).prop_flat_map(|secret| {
            any::<[u8; 8]>().prop_map(move |id| {
                let mut random = [0; 40];
                random[..8].copy_from_slice(&id);
                random[8..].copy_from_slice(&secret);
                ApiKey::mint(&random)
            })
        })
    }

    proptest! {
        #[test]
        fn a_minted_key_is_ours(key in any_key()) {
            prop_assert_eq!(key.reveal().len(), KEY_LEN);
            prop_assert_eq!(form(key.reveal().as_bytes()), Form::Ours);
            prop_assert_eq!(KeyHash::parse(&key.sha256_hex()), Some(KeyHash::of(key.reveal().as_bytes())));
        }

        #[test]
        fn one_wrong_character_breaks_it(key in any_key(), at in 0..KEY_LEN, with in "[a-zA-Z0-9-]") {
            let mut typo = key.reveal().to_owned();
            typo.replace_range(at..=at, &with);
            prop_assume!(typo != key.reveal());
            prop_assert_ne!(form(typo.as_bytes()), Form::Ours);
        }

        #[test]
        fn different_randomness_gives_different_keys(a in any_key(), b in any_key()) {
            prop_assert_ne!(a.reveal(), b.reveal());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = form(&bytes);
            let mask = masked(&bytes);
            prop_assert!(mask.len() <= 13 && mask.contains("***") && mask.is_ascii());
        }
    }

    #[test]
    fn a_tag_depends_on_every_byte_and_on_the_seed() {
        let key = ApiKey::mint(&[7; 40]).reveal().as_bytes().to_vec();
        let tag = KeyTag::of(&key, 1);
        assert_eq!(tag, KeyTag::of(&key, 1));
        assert_ne!(tag, KeyTag::of(&key, 2));
        for at in 0..key.len() {
            let mut other = key.clone();
            other[at] ^= 1;
            assert_ne!(tag, KeyTag::of(&other, 1), "{at}");
        }
        assert_ne!(tag, KeyTag::of(&key[..key.len() - 1], 1));
    }

    #[test]
    fn a_key_is_never_printed() {
        let key = ApiKey::mint(&[7; 40]);
        assert_eq!(
            format!("{key:?} {:?}", KeyHash::of(b"x")),
            "ApiKey([redacted]) KeyHash([redacted])"
        );
        assert_eq!(masked(key.reveal().as_bytes()).len(), 8 + 3 + 2);
        assert_eq!(masked(b"hunter2"), "***");
    }

    #[test]
    fn what_may_be_a_credential_is_not_repeated() {
        let key = ApiKey::mint(&[7; 40]).reveal().to_owned();
        let upper = key.to_uppercase();
        for text in [
            key.as_str(),
            upper.as_str(),
            key.trim_start_matches(PREFIX),
            "sk-proj-1234",
            "meta/sk-ant-abcd",
            "Bearer hunter2",
            "AIzaSyD-9tSrke72PouQMnMX-a7eZ",
            "AKIAIOSFODNN7EXAMPLE",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "0f8fad5b-d9cb-469f-a165-70867728950e",
            "0123456789abcdef0123456789abcdef",
            "x:gsk_abcdefgh",
        ] {
            let shown = shown(text, 64);
            assert!(shown.contains("***") && shown.len() <= 13, "{text}: {shown}");
        }
        for text in [
            "",
            "llama-70b",
            "../llama-70b",
            "meta-llama/Llama-3.3-70B-Instruct-Turbo",
            "accounts/fireworks/models/llama-v3p1-405b-instruct",
            "ft:gpt-4o-mini-2024-07-18:acme::AbCdEf12",
            "anthropic.claude-3-5-sonnet-20241022-v2:0",
            "max_completion_tokens",
            "transcriptions",
            "task-1234",
            "модель",
        ] {
            assert_eq!(shown(text, 64), text);
        }
        assert_eq!(shown("model", 3), "mod");
    }

    #[test]
    fn a_foreign_key_is_told_from_a_broken_one() {
        assert_eq!(form(b"sk-proj-1234567890"), Form::Foreign);
        assert_eq!(form(b"sk-tg-"), Form::Broken);
        assert_eq!(form(b""), Form::Foreign);
    }
}
