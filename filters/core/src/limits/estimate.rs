//! How many tokens a request will cost, learned for each model from what its requests did cost.
//!
//! *Input* is the tokens that came as numbers, a constant (the chat template), so many tokens a byte of text and so many
//! for each picture or sound. *Output* is what the client or the catalogue caps it at: nothing less may be reserved, or
//! a parallel burst could pass a token limit. Only where there is no cap it is what nine of ten answers stay below.
//! Before anything is known a prior stands in for both; nobody is refused for its absence.
//!
//! A model's estimator is taught by all its tenants, so no sample is trusted far: it counts by its ratio to the prior,
//! not by its size; one that is far off counts as half or twice what was expected; and what is learned stays within
//! bounds that text of any language keeps. A tenant whose text has far fewer tokens than others' (pages of spaces) takes
//! the estimate of the others down to not quite half the prior, at worst, and a few hundred ordinary requests bring it
//! back. What each is charged in the end is what the model server reports.
//!
//! Error of the input after 50 requests, as a part of all tokens of requests not seen before: below 1% beyond what the
//! text itself scatters. (The tests' tokenizers scatter evenly by up to a fifth either way, which is 10%; prose and code
//! by turns, 24%.) The expectation of output settles where between 85% and 95% of answers are below it.

mod fit;
#[cfg(test)]
mod tests;

use fit::{Bounds, Fit};

use crate::body::Input;

/// Tokens by bytes of text and a constant. A tokenizer of bytes never makes more tokens than there are bytes, and
/// ordinary text has fewer than eight bytes a token.
const TEXT: Bounds = Bounds {
    prior: [0.27, 8.0],
    off: [0.1, 100.0],
    least: [0.125, 0.0],
    most: [1.0, 512.0],
};
/// Tokens by events and bytes of a stream. At first an event of 200 bytes, most of them its envelope, is one token.
const STREAM: Bounds = Bounds {
    prior: [0.5, 0.0025],
    off: [1.0, 0.01],
    least: [0.0, 0.0],
    most: [64.0, 1.0],
};
/// Tokens of a picture or sound: the prior and the bounds.
const MEDIA: (f64, f64, f64) = (800.0, 16.0, 65_536.0);
/// Tokens of an answer without a cap: the prior and the bounds.
const OUTPUT: (f64, f64, f64) = (1_024.0, 64.0, 32_768.0);
/// The part of answers that are longer than expected.
const LONGER: f64 = 0.1;
/// The most times by which a sample may differ from what was expected; what is beyond counts as this.
const SURPRISE: f64 = 2.0;

/// What is known of a request before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// What there is to read.
    pub input: Input,
    /// Most tokens of one answer, as the client or the catalogue says; zero for an endpoint that has no output in
    /// tokens; `None` if nobody says.
    pub max_output: Option<u64>,
    /// How many answers; at least one.
    pub answers: u32,
}

/// What a request is expected to cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Of what there is to read.
    pub input: u64,
    /// Of all answers: their cap, or the expectation where there is none.
    pub output: u64,
}

/// What a request did cost, as the model server reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Tokens read, cached ones too.
    pub input: u64,
    /// Tokens of all answers.
    pub output: u64,
    /// Events and bytes of the answer, if it was streamed to its end.
    pub streamed: Option<(u64, u64)>,
}

/// What is known of one model. `Default` is the prior.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimator {
    /// Requests learned from.
    samples: u64,
    text: Fit,
    stream: Fit,
    /// Tokens of a picture or sound.
    media: f64,
    /// Tokens of an answer that nine of ten stay below.
    output: f64,
    /// Answers without a cap, of which that is learned.
    uncapped: u64,
}

impl Default for Estimator {
    fn default() -> Self {
        Self {
            samples: 0,
            text: Fit::default(),
            stream: Fit::default(),
            media: MEDIA.0,
            output: OUTPUT.0,
            uncapped: 0,
        }
    }
}

/// The shared-store key of a model's estimator. It holds the number of the layout.
pub fn store_key(model: &str) -> Vec<u8> {
    [b"est-1-", model.as_bytes()].concat()
}

impl Estimator {
    /// What to reserve for a request.
    pub fn estimate(&self, asked: &Asked) -> Estimate {
        let Input { text, numbers, media } = asked.input;
        let learned = self.text.predict(&TEXT, [text as f64, 1.0]) + self.media * media as f64;
        let answers = u64::from(asked.answers.max(1));
        Estimate {
            input: numbers.saturating_add(whole(learned)),
            output: answers.saturating_mul(asked.max_output.unwrap_or(whole(self.output))),
        }
    }

    /// Learns from a request that came to its end, with what the model server reported.
    pub fn learn(&mut self, asked: &Asked, settled: &Settled) {
        self.samples = self.samples.saturating_add(1);
        self.learn_input(&asked.input, settled.input);
        // What a cap cuts off says nothing about answers without one.
        if asked.max_output.is_none() {
            self.learn_output(settled.output as f64 / f64::from(asked.answers.max(1)));
        }
        if let (Some((events, bytes)), 1..) = (settled.streamed, settled.output) {
            self.stream
                .learn(&STREAM, [events as f64, bytes as f64], settled.output as f64);
        }
    }

    fn learn_input(&mut self, input: &Input, reported: u64) {
        let Some(tokens @ 1..) = reported.checked_sub(input.numbers) else {
            return;
        };
        let features = [input.text as f64, 1.0];
        if input.media == 0 {
            self.text.learn(&TEXT, features, tokens as f64);
            return;
        }
        let (_, least, most) = MEDIA;
        let each = (tokens as f64 - self.text.predict(&TEXT, features)) / input.media as f64;
        let each = each.clamp(self.media / SURPRISE, self.media * SURPRISE);
        self.media = (self.media + (each - self.media) / 16.0).clamp(least, most);
    }

    /// Moves the expectation up by nine parts where the answer is longer, else down by one: it rests where one of ten
    /// is longer. A part is a factor, larger while little is known, and the same however far off the answer is.
    fn learn_output(&mut self, tokens: f64) {
        let (_, least, most) = OUTPUT;
        let part = (32.0 / (16.0 + self.uncapped as f64)).max(0.1);
        let longer = f64::from(u8::from(tokens > self.output));
        self.output = (self.output * (part * (longer - LONGER)).exp2()).clamp(least, most);
        self.uncapped = self.uncapped.saturating_add(1);
    }

    /// Tokens that a stream has produced which broke off after so many events and bytes.
    pub fn produced(&self, events: u64, bytes: u64) -> u64 {
        whole(self.stream.predict(&STREAM, [events as f64, bytes as f64]))
    }

    /// Tokens of an answer that is no stream and says nothing of them, by the bytes of its body: all of it counts as
    /// text, what stands around the text too, so it is rather too much.
    pub fn written(&self, bytes: u64) -> u64 {
        whole(self.text.predict(&TEXT, [bytes as f64, 0.0]))
    }

    /// Of two workers' estimators the one that has seen more.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if other.samples > self.samples { other } else { self }
    }

    /// Bytes of a stored estimator.
    pub const SIZE: usize = 8 * Self::NUMBERS;
    const NUMBERS: usize = 16;

    /// The estimator as it is stored: sixteen numbers, little-endian.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let counts = [self.samples, self.uncapped].map(u64::to_le_bytes);
        let single = [self.media, self.output].map(f64::to_le_bytes);
        let sums = [self.text.0, self.stream.0].map(|sums| sums.map(f64::to_le_bytes));
        let numbers = counts.iter().chain(&single).chain(sums.iter().flatten());
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(number);
        }
        bytes
    }

    /// Reads a stored estimator; the prior for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::decode(bytes).unwrap_or_default()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let [samples, uncapped, media, output, sums @ ..] = numbers.first_chunk::<{ Self::NUMBERS }>()?;
        if numbers.len() != Self::NUMBERS || !rest.is_empty() {
            return None;
        }
        let within = |bytes: [u8; 8], (_, least, most): (f64, f64, f64)| {
            let number = f64::from_le_bytes(bytes);
            (least..=most).contains(&number).then_some(number)
        };
        let (text, stream) = sums.split_first_chunk()?;
        Some(Self {
            samples: u64::from_le_bytes(*samples),
            uncapped: u64::from_le_bytes(*uncapped),
            media: within(*media, MEDIA)?,
            output: within(*output, OUTPUT)?,
            text: Fit::checked(text.map(f64::from_le_bytes))?,
            stream: Fit::checked(stream.first_chunk()?.map(f64::from_le_bytes))?,
        })
    }
}

/// Rounded up; what is too large becomes the largest, and what is no number zero.
fn whole(tokens: f64) -> u64 {
    tokens.ceil() as u64
}
