//! Content codings: a compressed body is read, and forwarded, as what it says once it is decoded. Nothing that two
//! servers could decode differently goes on.

use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::io::Read as _;

use super::Malformed;
use crate::inflate::{Frame, Inflate};

/// What a decoded body may grow to whatever its size before: small bodies of much the same text compress well.
const FREE: usize = 1024 * 1024;
/// Beyond that, how many times its size before. JSON of honest text shrinks to a tenth.
const RATIO: usize = 100;
/// What a block holds on average, at least, in bytes: compressors begin a new one every 16 KiB or more.
const BLOCK: usize = 4 * 1024;
/// Blocks of zstd that there may be whatever they hold.
const FREE_BLOCKS: usize = 1024;

/// How a body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Why a coded body can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecoded {
    /// It is not what its header says.
    Malformed(Malformed),
    /// It grows beyond so many bytes.
    TooLarge(u64),
    /// It grows too much for its size.
    TooDense,
}

impl Coding {
    /// Reads the values of `content-encoding`; `Ok(None)` for a body that is as it stands. `Err` is what can't be decoded
    /// here: another coding, or several.
    pub fn read<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Option<Self>, String> {
        let values: Vec<&[u8]> = values.collect();
        let all = values.join(&b", "[..]);
        match all.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Ok(None),
            b"gzip" | b"x-gzip" => Ok(Some(Self::Gzip)),
            b"zstd" => Ok(Some(Self::Zstd)),
            _ => Err(crate::key::shown(&String::from_utf8_lossy(&all), 64)),
        }
    }

    /// The body, which may have up to `most` bytes.
    pub fn decode(self, coded: &[u8], most: u64) -> Result<Vec<u8>, Undecoded> {
        let limit = usize::try_from(most).unwrap_or(usize::MAX);
        let dense = coded.len().saturating_mul(RATIO).max(FREE);
        let allowed = limit.min(dense);
        let body = match self {
            Self::Gzip => gzip(coded, allowed),
            Self::Zstd => zstd(coded, allowed),
        }?;
        match body {
            Some(body) if body.len() <= allowed => Ok(body),
            _ if limit <= dense => Err(Undecoded::TooLarge(most)),
            _ => Err(Undecoded::TooDense),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    fn malformed(self) -> Undecoded {
        let name = self.name();
        Undecoded::Malformed(Malformed::new(format!(
            "The body can't be decoded: `content-encoding` says {name}, and it is not whole and valid {name}."
        )))
    }
}

/// At most one piece more than is allowed. One member, since servers differ in what they make of more.
fn gzip(coded: &[u8], allowed: usize) -> Result<Option<Vec<u8>>, Undecoded> {
    let mut body = Vec::new();
    let mut inflate = Inflate::new(Frame::Gzip, BLOCK as u64);
    let rest = inflate.push(coded, |part| {
        body.extend_from_slice(part);
        body.len() <= allowed
    });
    let whole = rest == Ok(&[]) && inflate.is_done();
    if whole || body.len() > allowed {
        Ok(Some(body))
    } else {
        Err(Coding::Gzip.malformed())
    }
}

/// Whether a frame has so many blocks that their tables, rather than what they hold, are what it costs to read them.
fn has_many_blocks(frame: &[u8]) -> bool {
    blocks(frame, FREE_BLOCKS + frame.len() / BLOCK).is_some_and(|left| left == 0)
}

/// How many of `most` blocks a frame leaves over; `None` where it ends too early.
fn blocks(frame: &[u8], mut most: usize) -> Option<usize> {
    let head = usize::from(*frame.get(4)?);
    let single = head >> 5 & 1;
    let dictionary = *[0, 1, 2, 4].get(head & 3)?;
    let content = *[single, 2, 4, 8].get(head >> 6)?;
    let mut at = 5 + (1 - single) + dictionary + content;
    while most > 0 {
        let [a, b, c] = *frame.get(at..)?.first_chunk()?;
        let block = u32::from_le_bytes([a, b, c, 0]);
        if block & 1 == 1 {
            break;
        }
        // One byte that is repeated, or as many as it says.
        let len = if block >> 1 & 3 == 1 { 1 } else { block >> 3 };
        at = at.checked_add(3)?.checked_add(usize::try_from(len).ok()?)?;
        most -= 1;
    }
    Some(most)
}

/// At most one piece more than is allowed; `None` where the frame says itself that it is too large. One frame, since
/// servers differ in what they make of more.
fn zstd(coded: &[u8], allowed: usize) -> Result<Option<Vec<u8>>, Undecoded> {
    /// What RFC 8878 has every decoder support; a frame in one segment may say as much as its content.
    const WINDOW: u64 = 8 * 1024 * 1024;
    let malformed = |_| Coding::Zstd.malformed();
    if has_many_blocks(coded) {
        return Err(Coding::Zstd.malformed());
    }
    let window = WINDOW.max(allowed as u64);
    let mut decoder = match StreamingDecoder::new_with_max_window_size(coded, window) {
        Ok(decoder) => decoder,
        Err(FrameDecoderError::WindowSizeTooBig { .. }) => return Ok(None),
        Err(_) => return Err(Coding::Zstd.malformed()),
    };
    let mut body = Vec::new();
    let mut piece = vec![0; 128 * 1024];
    loop {
        let read = decoder.read(&mut piece).map_err(malformed)?;
        if read == 0 {
            break;
        }
        body.extend_from_slice(piece.get(..read).unwrap_or_default());
        if body.len() > allowed {
            return Ok(Some(body));
        }
    }
    let rest = decoder.into_inner();
    if rest.is_empty() {
        Ok(Some(body))
    } else {
        Err(Coding::Zstd.malformed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write as _;

    const LIMIT: u64 = 32 * 1024 * 1024;

    fn gz(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zst(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn read(values: &[&str]) -> Result<Option<Coding>, String> {
        Coding::read(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn one_coding_is_read_and_lists_are_not() {
        for plain in [&[][..], &[""], &["identity"], &[" Identity "]] {
            assert_eq!(read(plain), Ok(None), "{plain:?}");
        }
        assert_eq!(read(&["GZip"]), Ok(Some(Coding::Gzip)));
        assert_eq!(read(&["x-gzip"]), Ok(Some(Coding::Gzip)));
        assert_eq!(read(&["zstd"]), Ok(Some(Coding::Zstd)));
        for other in [
            "br",
            "deflate",
            "compress",
            "gzip, gzip",
            "gzip,identity",
            "gzip;q=1",
            "none",
        ] {
            assert_eq!(read(&[other]), Err(other.to_owned()));
        }
        assert_eq!(read(&["gzip", "zstd"]), Err("gzip, zstd".to_owned()));
        assert_eq!(read(&[&"x ".repeat(1_000)]), Err("x ".repeat(32)));
    }

    #[test]
    fn what_grows_too_much_is_refused() {
        let most = vec![b' '; 1024 * 1024];
        for (coding, coded) in [(Coding::Gzip, gz(&most)), (Coding::Zstd, zst(&most))] {
            assert_eq!(coding.decode(&coded, LIMIT), Ok(most.clone()));
            assert_eq!(
                coding.decode(&coded, 1024 * 1024 - 1),
                Err(Undecoded::TooLarge(1024 * 1024 - 1))
            );
        }
        let bomb = vec![0; 40 * 1024 * 1024];
        assert_eq!(Coding::Gzip.decode(&gz(&bomb), LIMIT), Err(Undecoded::TooDense));
        assert_eq!(Coding::Zstd.decode(&zst(&bomb), LIMIT), Err(Undecoded::TooDense));
    }

    #[test]
    fn what_is_not_what_it_says_is_refused() {
        let text = br#"{"model":"m","messages":[]}"#;
        for (coding, whole) in [(Coding::Gzip, gz(text)), (Coding::Zstd, zst(text))] {
            assert_eq!(coding.decode(&whole, LIMIT), Ok(text.to_vec()));
            let wrong = [&whole[..whole.len() - 1], &[&whole[..], b"x"].concat(), text, b""];
            for wrong in wrong {
                let refused = coding.decode(wrong, LIMIT);
                assert!(
                    matches!(refused, Err(Undecoded::Malformed(_))),
                    "{coding:?} {wrong:?}"
                );
            }
        }
    }

    /// A second member or frame may be read or not; blocks without content cost more than they say.
    #[test]
    fn one_stream_of_few_blocks() {
        let text = br#"{"model":"m","messages":[]}"#;
        let stored = [0, 0, 0, 0xff, 0xff].repeat(100_000);
        let gz_stored = [
            &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..],
            &stored,
            &[1, 0, 0, 0xff, 0xff],
            &[0; 8],
        ]
        .concat();
        let zst_raw = [
            &[0x28, 0xb5, 0x2f, 0xfd, 0, 0x58][..],
            &[0; 3].repeat(100_000),
            &[1, 0, 0],
        ]
        .concat();
        for (coding, coded) in [
            (Coding::Gzip, [gz(b""), gz(text)].concat()),
            (Coding::Gzip, [gz(text), gz(b"")].concat()),
            (Coding::Zstd, [zst(text), zst(b"")].concat()),
            (Coding::Gzip, gz_stored),
            (Coding::Zstd, zst_raw),
        ] {
            let refused = coding.decode(&coded, LIMIT);
            assert!(matches!(refused, Err(Undecoded::Malformed(_))), "{coding:?}");
        }
    }

    /// Three bytes of a frame's head ask for a window of gigabytes.
    #[test]
    fn a_window_is_not_given_because_it_is_asked_for() {
        let head = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00];
        assert_eq!(Coding::Zstd.decode(&head, LIMIT), Err(Undecoded::TooDense));
        // One segment of 40 MiB, as compressors write it that know the size.
        let head = [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &(40_u32 << 20).to_le_bytes()].concat();
        assert_eq!(Coding::Zstd.decode(&head, LIMIT), Err(Undecoded::TooDense));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_bytes_panic(
            text in "([a-z]{1,9} ){0,200}",
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            for (coding, mut coded) in [(Coding::Gzip, gz(text.as_bytes())), (Coding::Zstd, zst(text.as_bytes()))] {
                prop_assert_eq!(coding.decode(&coded, LIMIT), Ok(text.clone().into_bytes()));
                for (at, byte) in &changes {
                    *at.get_mut(&mut coded) = *byte;
                }
                let _ = coding.decode(&coded, LIMIT);
                let _ = coding.decode(&coded[..cut.index(coded.len())], LIMIT);
            }
        }
    }
}
