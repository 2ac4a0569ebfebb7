//! Messages and answers as the script reads and writes them: MessagePack, flat, and identifiers as bytes.

use rmp::decode::{self, Bytes};
use rmp::encode::{self, ByteBuf};
use tollgate_shares::{Answer, EXACT, Epoch, Grant, Key, Limit, Message, Share, SlotTerms, Terms, Want};

use crate::error::Error;

/// What is above this is taken for this: it is more than any limit.
const MOST: u64 = 1 << 52;
/// Items of a message before its wants, and of a want.
const HEAD: usize = 7;
const WANT: usize = 10;

/// Puts values one after another. Writing to memory does not fail.
#[derive(Default)]
pub(crate) struct Writer(ByteBuf);

impl Writer {
    pub(crate) fn list(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let Ok(_) = encode::write_array_len(&mut self.0, length);
    }

    pub(crate) fn number(&mut self, number: u64) {
        let Ok(_) = encode::write_uint(&mut self.0, number);
    }

    /// As text, of any bytes: what Lua calls a string. Redis does not read MessagePack's binary type.
    fn bytes(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let Ok(_) = encode::write_str_len(&mut self.0, length);
        self.0.as_mut_vec().extend_from_slice(bytes);
    }

    fn truth(&mut self, truth: bool) {
        let Ok(()) = encode::write_bool(&mut self.0, truth);
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.0.into_vec()
    }
}

/// A message for the script.
pub(crate) fn write(message: &Message) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::default();
    writer.list(HEAD + WANT * message.wants.len());
    writer.bytes(&message.incarnation.0.to_be_bytes());
    writer.number(within(message.seq, "the number of a message")?);
    writer.number(within(message.answered, "the number of an answer")?);
    match message.epoch {
        Some(epoch) => writer.bytes(&epoch.0.to_be_bytes()),
        None => writer.bytes(&[]),
    }
    writer.number(within(message.version, "the version of the log")?);
    writer.number(u64::from(message.parts));
    writer.truth(message.leaves);
    for want in &message.wants {
        write_want(&mut writer, want)?;
    }
    Ok(writer.into_vec())
}

fn within(number: u64, what: &'static str) -> Result<u64, Error> {
    match number <= EXACT {
        true => Ok(number),
        false => Err(Error::TooLarge { what, found: number }),
    }
}

fn write_want(writer: &mut Writer, want: &Want) -> Result<(), Error> {
    let Limit { rate, period, burst } = want.limit;
    want.limit.check().map_err(|invalid| Error::Limit {
        key: want.key,
        found: invalid.found,
        expected: invalid.expected,
    })?;
    writer.bytes(&want.key.0);
    for number in [rate, period, burst] {
        writer.number(number);
    }
    for number in [want.have.rate, want.have.burst] {
        writer.number(number.min(MOST));
    }
    // Whole tokens and a rest, of no more than the whole limit.
    let returned = want.returned.min(u128::from(burst) * u128::from(period));
    for number in [returned / u128::from(period), returned % u128::from(period)] {
        writer.number(u64::try_from(number).unwrap_or(0));
    }
    for number in [want.demand, want.need] {
        writer.number(number.min(MOST));
    }
    Ok(())
}

/// Takes values one after another.
pub(crate) struct Reader<'bytes>(Bytes<'bytes>);

impl<'bytes> Reader<'bytes> {
    pub(crate) fn new(bytes: &'bytes [u8]) -> Self {
        Self(Bytes::new(bytes))
    }

    fn is_at_end(&self) -> bool {
        self.0.remaining_slice().is_empty()
    }

    fn list(&mut self) -> Result<u32, Error> {
        decode::read_array_len(&mut self.0).map_err(|_| Error::Garbled("list"))
    }

    fn number<N: TryFrom<u64>>(&mut self) -> Result<N, Error> {
        let number: u64 = decode::read_int(&mut self.0).map_err(|_| Error::Garbled("number"))?;
        N::try_from(number).map_err(|_| Error::Garbled("smaller number"))
    }

    fn bytes<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Error> {
        let length = decode::read_str_len(&mut self.0).map_err(|_| Error::Garbled("identifier"))?;
        let slice = self.0.remaining_slice();
        let (Some((bytes, rest)), true) = (
            slice.split_first_chunk::<LENGTH>(),
            usize::try_from(length) == Ok(LENGTH),
        ) else {
            return Err(Error::Garbled("identifier"));
        };
        self.0 = Bytes::new(rest);
        Ok(*bytes)
    }

    fn truth(&mut self) -> Result<bool, Error> {
        decode::read_bool(&mut self.0).map_err(|_| Error::Garbled("truth"))
    }
}

/// The script's answer to a message.
pub(crate) fn read(bytes: &[u8], message: &Message) -> Result<Answer, Error> {
    let mut reader = Reader::new(bytes);
    let epoch = Epoch(u64::from_be_bytes(reader.bytes()?));
    let terms = match reader.is_at_end() {
        true => None,
        false => Some(read_terms(&mut reader)?),
    };
    Ok(Answer {
        incarnation: message.incarnation,
        seq: message.seq,
        epoch,
        terms,
    })
}

fn read_terms(reader: &mut Reader<'_>) -> Result<Terms, Error> {
    let version = reader.number()?;
    let (parts, age) = (reader.number()?, reader.number()?);
    let mut log = Vec::new();
    for _ in 0..reader.list()? / 2 {
        log.push((Key(reader.bytes()?), reader.truth()?));
    }
    let mut grants = Vec::new();
    for _ in 0..reader.list()? / 7 {
        grants.push(read_grant(reader)?);
    }
    Ok(Terms {
        slot: (parts > 0).then_some(SlotTerms { parts, age }),
        version,
        log,
        grants,
    })
}

fn read_grant(reader: &mut Reader<'_>) -> Result<Grant, Error> {
    let key = Key(reader.bytes()?);
    let (rate, burst) = (reader.number()?, reader.number()?);
    let (tokens, rest, period): (u64, u64, u64) = (reader.number()?, reader.number()?, reader.number()?);
    Ok(Grant {
        key,
        share: Share { rate, burst },
        units: u128::from(tokens) * u128::from(period) + u128::from(rest),
        waiting: reader.truth()?,
    })
}
