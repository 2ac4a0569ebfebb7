//! How many tokens a request will cost, learned for each organization and model from what their requests did cost.
//!
//! *Input* is the tokens that came as numbers, a constant (the chat template), so many tokens a byte of text, so many for
//! each picture, a byte of sound or of a file, and for what only the model server sees. *Output* is what the client or the catalogue caps it at: nothing less may be reserved, or
//! a parallel burst could pass a token limit. Only where there is no cap it is what nine of ten answers stay below.
//! Before anything is known a prior stands in for both; nobody is refused for its absence.
//!
//! Nothing is learned across organizations: what one sends and gets changes nobody else's estimates. Nor is any sample
//! trusted far, as one key of an organization teaches the estimates of the others: it counts by its ratio to the prior,
//! not by its size; one that is far off counts as half or twice what was expected; and what is learned stays within
//! bounds that text of any language keeps. What is reserved for text is never less than the prior says, whatever was
//! learned. What is charged in the end is what the model server reports.
//!
//! Error of the input after 50 requests, as a part of all tokens of requests not seen before: below 1% beyond what the
//! text itself scatters. (The tests' tokenizers scatter evenly by up to a fifth either way, which is 10%; prose and code
//! by turns, 24%.) The expectation of output settles where between 85% and 95% of answers are below it.

mod fit;
#[cfg(test)]
mod tests;

use fit::{Bounds, Fit};

use crate::body::Input;
use crate::key::KeyTag;
use crate::state::Keyspace;

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
/// Tokens of a picture, of a byte of sound, of a byte of a file or video, and of what only the model server sees: the
/// prior and the bounds. A second of sound is some 30 tokens, and in 64 kbit/s 8,000 bytes; a page of a document is some
/// 2,000 tokens, and 20 KB or more. What is learned falls only to a quarter of the prior, so that nobody teaches it small
/// things to send large ones.
const MEDIA: [(f64, f64, f64); 4] = [
    (800.0, 200.0, 65_536.0),
    (1.0 / 256.0, 1.0 / 1_024.0, 1.0 / 16.0),
    (1.0 / 12.0, 1.0 / 48.0, 1.0),
    (2_000.0, 500.0, 262_144.0),
];
/// Tokens of an answer without a cap: the prior and the bounds.
const OUTPUT: (f64, f64, f64) = (1_024.0, 64.0, 32_768.0);
/// The part of answers that are longer than expected.
const LONGER: f64 = 0.1;
/// The most times by which a sample may differ from what was expected; what is beyond counts as this.
const SURPRISE: f64 = 2.0;

/// What is known of a request before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// What there is to read.
    pub input: Input,
    /// Most tokens of one answer, as the client or the catalogue says; zero for an endpoint that has no output in
    /// tokens; `None` if nobody says.
    pub max_output: Option<u64>,
    /// How many answers; at least one.
    pub answers: u32,
    /// Tokens of input and output together that the model takes; `None` is unknown.
    pub context_window: Option<u64>,
}

/// What a request is expected to cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Of what there is to read.
    pub input: u64,
    /// Of all answers: their cap, or the expectation where there is none.
    pub output: u64,
    /// The part of `input` that is no expectation: text and tokens, but no media and nothing that is unseen.
    pub certain_input: u64,
    /// The part of `output` that is no expectation: caps, and the least that all answers but one have.
    pub certain_output: u64,
}

/// What a request did cost, as the model server reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Tokens read, cached ones too.
    pub input: u64,
    /// Tokens of all answers.
    pub output: u64,
    /// Events and bytes of the answer, if it was streamed to its end.
    pub streamed: Option<(u64, u64)>,
}

/// What is known of an organization's requests to one model. `Default` is the prior.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimator {
    /// Requests learned from.
    samples: u64,
    text: Fit,
    stream: Fit,
    /// Tokens of each kind of [`MEDIA`].
    media: [f64; 4],
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
            media: MEDIA.map(|(prior, ..)| prior),
            output: OUTPUT.0,
            uncapped: 0,
        }
    }
}

/// Where the workers share an estimator: in one of [`SLOTS`](Self::SLOTS) values, so that their number is bounded. One
/// that others have in use is left to them, and then a worker knows what it learned itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    number: u64,
    owner: u64,
}

impl Slot {
    /// How many there are.
    pub const SLOTS: u64 = 8_192;
    /// Seconds after which a slot that was not written is free for others.
    const IDLE: u64 = 3_600;
    /// Bytes of a slot's value: whose it is, the second since 1970 at which it was written, the estimator.
    pub const SIZE: usize = 16 + Estimator::SIZE;

    /// The slot for an organization's requests to a model.
    pub fn of(org: &str, model: &str) -> Self {
        let name = [org.as_bytes(), b"\0", model.as_bytes()].concat();
        let tag = KeyTag::of(&name, 0);
        Self {
            number: u64::from(tag.low_bits()) % Self::SLOTS,
            owner: tag.number(),
        }
    }

    /// Its key in the shared store.
    pub fn store_key(self) -> Vec<u8> {
        Keyspace::ESTIMATES.key(self.number.to_string())
    }

    /// What is known by the slot's value; the prior where it is another's.
    pub fn read(self, value: &[u8]) -> Estimator {
        match self.split(value) {
            Some((owner, _, known)) if owner == self.owner => Estimator::from_bytes(known),
            _ => Estimator::default(),
        }
    }

    /// The value that takes the place of `value`; `None` where others have it in use.
    pub fn write(self, value: Option<&[u8]>, estimator: Estimator, now: u64) -> Option<[u8; Self::SIZE]> {
        let taken = value.and_then(|value| self.split(value));
        if taken.is_some_and(|(owner, at, _)| owner != self.owner && now.saturating_sub(at) < Self::IDLE) {
            return None;
        }
        let mut bytes = [0; Self::SIZE];
        let (head, known) = bytes.split_at_mut_checked(16)?;
        let (owner, at) = head.split_at_mut_checked(8)?;
        owner.copy_from_slice(&self.owner.to_le_bytes());
        at.copy_from_slice(&now.to_le_bytes());
        known.copy_from_slice(&estimator.to_bytes());
        Some(bytes)
    }

    /// Whose a value is, when it was written, and the estimator.
    fn split(self, value: &[u8]) -> Option<(u64, u64, &[u8])> {
        let (owner, rest) = value.split_first_chunk()?;
        let (at, known) = rest.split_first_chunk()?;
        Some((u64::from_le_bytes(*owner), u64::from_le_bytes(*at), known))
    }
}

impl Estimator {
    /// What to reserve for a request.
    pub fn estimate(&self, demand: &Demand) -> Estimate {
        let Input { text, numbers, .. } = demand.input;
        let features = [text as f64, 1.0];
        // What was learned of other requests says nothing certain of this one: nobody sends pages of spaces to have dense
        // text pass for them.
        let text = self
            .text
            .predict(&TEXT, features)
            .max(fit::prior(&TEXT, features));
        let answers = u64::from(demand.answers.max(1));
        Estimate {
            input: numbers.saturating_add(whole(text + self.media(&demand.input))),
            output: answers.saturating_mul(self.output(demand)),
            certain_input: numbers.saturating_add(whole(text)),
            certain_output: match demand.max_output {
                Some(cap) => answers.saturating_mul(cap),
                // One may be of any length. Thousands at once are surely more than nothing.
                None => (answers - 1).saturating_mul(OUTPUT.1 as u64),
            },
        }
    }

    /// Tokens of one answer to expect. A cap is kept to, but by servers that run tools: some lift it for what is written
    /// behind a tool's result.
    fn output(&self, demand: &Demand) -> u64 {
        let window = demand.context_window.unwrap_or(OUTPUT.2 as u64);
        match demand.max_output {
            Some(cap @ 1..) if demand.input.hosted_tools > 0 => cap.max(window),
            Some(cap) => cap,
            None => whole(self.output),
        }
    }

    /// Tokens of input to expect, as learned: what is reserved is no less than the prior.
    pub fn expected_input(&self, input: &Input) -> u64 {
        let text = self.text.predict(&TEXT, [input.text as f64, 1.0]);
        input.numbers.saturating_add(whole(text + self.media(input)))
    }

    /// Learns from a request that came to its end, with what the model server reported.
    pub fn learn(&mut self, demand: &Demand, sample: &Sample) {
        self.samples = self.samples.saturating_add(1);
        self.learn_input(&demand.input, sample.input);
        // What a cap cuts off says nothing about answers without one.
        if demand.max_output.is_none() {
            self.learn_output(sample.output as f64 / f64::from(demand.answers.max(1)));
        }
        if let (Some((events, bytes)), 1..) = (sample.streamed, sample.output) {
            self.stream
                .learn(&STREAM, [events as f64, bytes as f64], sample.output as f64);
        }
    }

    fn learn_input(&mut self, input: &Input, reported: u64) {
        let Some(tokens @ 1..) = reported.checked_sub(input.numbers) else {
            return;
        };
        let features = [input.text as f64, 1.0];
        if !input.has_media() {
            self.text.learn(&TEXT, features, tokens as f64);
            return;
        }
        // By how much all of it together was misjudged is put down to each kind of it.
        let found = tokens as f64 - self.text.predict(&TEXT, features);
        let times = (found / self.media(input)).clamp(1.0 / SURPRISE, SURPRISE);
        for ((each, (_, least, most)), there) in self.media.iter_mut().zip(MEDIA).zip(media(input)) {
            if there > 0 {
                *each = (*each * (1.0 + (times - 1.0) / 16.0)).clamp(least, most);
            }
        }
    }

    /// Tokens of what is neither text nor tokens.
    fn media(&self, input: &Input) -> f64 {
        let each = self.media.iter().zip(media(input));
        each.map(|(each, there)| each * there as f64).sum()
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
    const NUMBERS: usize = 19;

    /// The estimator as it is stored: nineteen numbers, little-endian.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let counts = [self.samples, self.uncapped].map(u64::to_le_bytes);
        let output = [self.output.to_le_bytes()];
        let media = self.media.map(f64::to_le_bytes);
        let sums = [self.text.0, self.stream.0].map(|sums| sums.map(f64::to_le_bytes));
        let numbers = counts
            .iter()
            .chain(&output)
            .chain(&media)
            .chain(sums.iter().flatten());
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
        let [samples, uncapped, output, rates @ ..] = numbers.first_chunk::<{ Self::NUMBERS }>()?;
        if numbers.len() != Self::NUMBERS || !rest.is_empty() {
            return None;
        }
        let within = |bytes: [u8; 8], (_, least, most): (f64, f64, f64)| {
            let number = f64::from_le_bytes(bytes);
            (least..=most).contains(&number).then_some(number)
        };
        let (rates, sums) = rates.split_first_chunk::<4>()?;
        let (text, stream) = sums.split_first_chunk()?;
        let mut media = [0.0; 4];
        for ((place, bytes), bounds) in media.iter_mut().zip(rates).zip(MEDIA) {
            *place = within(*bytes, bounds)?;
        }
        Some(Self {
            samples: u64::from_le_bytes(*samples),
            uncapped: u64::from_le_bytes(*uncapped),
            media,
            output: within(*output, OUTPUT)?,
            text: Fit::checked(text.map(f64::from_le_bytes))?,
            stream: Fit::checked(stream.first_chunk()?.map(f64::from_le_bytes))?,
        })
    }
}

/// How much there is of each kind of [`MEDIA`].
const fn media(input: &Input) -> [u64; 4] {
    [input.pictures, input.audio, input.files, input.unseen]
}

/// Rounded up; what is too large becomes the largest, and what is no number zero.
fn whole(tokens: f64) -> u64 {
    tokens.ceil() as u64
}
