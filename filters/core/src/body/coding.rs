//! Content codings: a compressed body is read, and forwarded, as what it says once it is decoded. Nothing that two
//! servers could decode differently goes on.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::io::Read as _;

use super::Malformed;

/// What a decoded body may grow to whatever its size before: small bodies of much the same text compress well.
const FREE: usize = 1024 * 1024;
/// Beyond that, how many times its size before. JSON of honest text shrinks to a tenth.
const RATIO: usize = 100;

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

/// At most one byte more than is allowed.
fn gzip(coded: &[u8], allowed: usize) -> Result<Option<Vec<u8>>, Undecoded> {
    let mut body = Vec::new();
    let mut decoder = MultiGzDecoder::new(coded).take(allowed as u64 + 1);
    decoder
        .read_to_end(&mut body)
        .map_err(|_| Coding::Gzip.malformed())?;
    Ok(Some(body))
}

/// At most one piece more than is allowed; `None` where the frame says itself that it is too large. One frame, since
/// servers differ in what they make of more.
fn zstd(coded: &[u8], allowed: usize) -> Result<Option<Vec<u8>>, Undecoded> {
    /// What RFC 8878 has every decoder support; a frame in one segment may say as much as its content.
    const WINDOW: u64 = 8 * 1024 * 1024;
    let malformed = |_| Coding::Zstd.malformed();
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
