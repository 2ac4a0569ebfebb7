//! How an answer should differ from a good one. Written as a value by tests, or in a request's header.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use super::random::Random;

/// What to do to an answer. The default does nothing.
///
/// Every field but `raw` can be said in the header [`super::FAULT_HEADER`], as `name=value` parted by commas; the
/// names are in [`Fault::parse`]. An *event* is one server-sent event; the whole body where the answer is
/// not streamed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Answer with this status and an error body in the API's shape.
    pub status: Option<u16>,
    /// Body instead of the API's own (for any status).
    pub body: Option<String>,
    /// The body as bytes, where it is no text; instead of `body`.
    pub raw: Option<Bytes>,
    /// `content-type` of the answer; empty for none.
    pub content_type: Option<String>,
    /// `content-encoding` of the answer; the body is not encoded for it.
    pub content_encoding: Option<String>,
    /// `retry-after` of the answer.
    pub retry_after: Option<String>,
    /// Wait before the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// Close the connection in order (FIN) without an answer.
    pub close: bool,
    /// Reset the connection (RST) without an answer.
    pub reset: bool,
    /// After this many events send nothing more, for [`Fault::stall_for`].
    pub stall: Option<u64>,
    /// How long a stall lasts; `None` is until the peer goes.
    pub stall_for: Option<Duration>,
    /// After this many events send nothing more until [`super::ModelServer::release`].
    pub hold: Option<u64>,
    /// After this many events reset the connection.
    pub cut: Option<u64>,
    /// After this many events send half of the next one, then reset the connection.
    pub tear: Option<u64>,
    /// Wait between writes: one write an event, unless [`Fault::chunking`] says otherwise.
    pub pace: Option<Duration>,
    /// How events are laid into writes.
    pub chunking: Chunking,
    /// What the usage object says.
    pub usage: Usage,
    /// Input tokens reported as read from a cache.
    pub cached: u64,
    /// Output tokens reported as reasoning.
    pub reasoning: u64,
    /// Output tokens, whatever the request's cap.
    pub tokens: Option<u64>,
}

/// How events are laid into writes to the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chunking {
    /// One write an event.
    #[default]
    Events,
    /// Writes of this many bytes, across event boundaries and inside UTF-8 characters.
    Bytes(usize),
    /// Writes of 1 to 64 bytes, drawn from this seed: the same seed, the same splits.
    Random(Random),
    /// This many events in one write.
    Batch(usize),
}

/// What the usage object of an answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    /// The true counts.
    #[default]
    Right,
    /// No usage object at all.
    Missing,
    /// These counts instead.
    Says {
        /// Input tokens reported.
        input: u64,
        /// Output tokens reported.
        output: u64,
    },
}

/// Why a fault could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultError(String);

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FaultError {}

impl Fault {
    /// Reads `name=value` parted by commas:
    ///
    /// | name | value |
    /// |---|---|
    /// | `status` | 100–599 |
    /// | `retry-after`, `content-type`, `content-encoding` | the header's value |
    /// | `first-byte`, `pace`, `stall-for` | `50ms`, `2s` |
    /// | `close`, `reset` | none |
    /// | `stall`, `hold`, `cut`, `tear` | events before it |
    /// | `chunk` | bytes a write, or `random:SEED` |
    /// | `batch` | events a write |
    /// | `usage` | `missing`, or `INPUT/OUTPUT` |
    /// | `cached`, `reasoning`, `tokens` | a number |
    /// | `body` | last: all the rest of the line |
    ///
    /// # Errors
    /// Names the part that could not be read.
    pub fn parse(text: &str) -> Result<Self, FaultError> {
        let mut fault = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            if let Some(body) = rest.strip_prefix("body=") {
                fault.body = Some(body.to_owned());
                break;
            }
            let (part, after) = rest.split_once(',').unwrap_or((rest, ""));
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            fault
                .set(name.trim(), value.trim())
                .ok_or_else(|| FaultError(format!("fault `{}` cannot be read", part.trim())))?;
            rest = after.trim_start();
        }
        Ok(fault)
    }

    /// An answer with `status` and an error in the API's shape.
    pub fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            ..Self::default()
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "status" => self.status = Some(number(value).filter(|s| (100..600).contains(s))?),
            "retry-after" => self.retry_after = Some(value.to_owned()),
            "content-type" => self.content_type = Some(value.to_owned()),
            "content-encoding" => self.content_encoding = Some(value.to_owned()),
            "first-byte" => self.first_byte = Some(duration(value)?),
            "close" => self.close = true,
            "reset" => self.reset = true,
            "stall" => self.stall = Some(number(value)?),
            "stall-for" => self.stall_for = Some(duration(value)?),
            "hold" => self.hold = Some(number(value)?),
            "cut" => self.cut = Some(number(value)?),
            "tear" => self.tear = Some(number(value)?),
            "pace" => self.pace = Some(duration(value)?),
            "chunk" => {
                self.chunking = match value.strip_prefix("random:") {
                    Some(seed) => Chunking::Random(Random::new(number(seed)?)),
                    None => Chunking::Bytes(number(value).filter(|n| *n > 0)?),
                }
            }
            "batch" => self.chunking = Chunking::Batch(number(value).filter(|n| *n > 0)?),
            "usage" if value == "missing" => self.usage = Usage::Missing,
            "usage" => {
                let (input, output) = value.split_once('/')?;
                self.usage = Usage::Says {
                    input: number(input)?,
                    output: number(output)?,
                };
            }
            "cached" => self.cached = number(value)?,
            "reasoning" => self.reasoning = number(value)?,
            "tokens" => self.tokens = Some(number(value)?),
            _ => return None,
        }
        Some(())
    }
}

fn number<T: FromStr>(value: &str) -> Option<T> {
    value.parse().ok()
}

fn duration(value: &str) -> Option<Duration> {
    match value.strip_suffix("ms") {
        Some(ms) => Some(Duration::from_millis(number(ms)?)),
        None => Some(Duration::from_secs(number(value.strip_suffix('s')?)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_name() {
        let fault = Fault::parse(
            "first-byte=50ms, stall=1, stall-for=2s, hold=2, cut=3,tear=4, pace=5ms, chunk=6, usage=7/8, \
             cached=9, reasoning=10, tokens=11, close, reset, retry-after=12, content-type=a/b, content-encoding=x, status=503, body={\"a\": 1, \"b\": 2}",
        );
        let expected = Fault {
            status: Some(503),
            body: Some("{\"a\": 1, \"b\": 2}".to_owned()),
            raw: None,
            content_type: Some("a/b".to_owned()),
            content_encoding: Some("x".to_owned()),
            retry_after: Some("12".to_owned()),
            first_byte: Some(Duration::from_millis(50)),
            close: true,
            reset: true,
            stall: Some(1),
            stall_for: Some(Duration::from_secs(2)),
            hold: Some(2),
            cut: Some(3),
            tear: Some(4),
            pace: Some(Duration::from_millis(5)),
            chunking: Chunking::Bytes(6),
            usage: Usage::Says { input: 7, output: 8 },
            cached: 9,
            reasoning: 10,
            tokens: Some(11),
        };
        assert_eq!(fault, Ok(expected));
        assert_eq!(
            Fault::parse("chunk=random:7").map(|f| f.chunking),
            Ok(Chunking::Random(Random::new(7)))
        );
        assert_eq!(
            Fault::parse("batch=7").map(|f| f.chunking),
            Ok(Chunking::Batch(7))
        );
        assert_eq!(Fault::parse("usage=missing").map(|f| f.usage), Ok(Usage::Missing));
        assert_eq!(Fault::parse(""), Ok(Fault::default()));
    }

    #[test]
    fn says_what_it_cannot_read() {
        for wrong in [
            "status=700",
            "status",
            "pace=5",
            "chunk=0",
            "batch=0",
            "usage=many",
            "cutt=3",
        ] {
            let error = Fault::parse(wrong).map_err(|e| e.to_string());
            assert_eq!(error, Err(format!("fault `{wrong}` cannot be read")));
        }
    }
}
