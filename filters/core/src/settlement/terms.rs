//! On what terms a request was let through: what it may take, and what that costs.

use crate::endpoint::Endpoint;
use crate::limits::Amounts;
use crate::limits::estimate::{Demand, Estimator};
use crate::price::Price;
use crate::route::Routed;
use crate::usage::Usage;
use crate::usage::record::{Outcome, Request, Source, Used};
use crate::usage::sound::Sound;

/// What is known of a request from when it was let through until it is settled.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether an attempt that a model server has begun on may be given up and repeated.
    pub repeats: bool,
    /// Whether it is written while nobody waits for it.
    pub background: bool,
    /// Whether its client asked for text alone.
    pub plain: bool,
    /// What its estimate goes by.
    pub demand: Demand,
    /// Seconds of sound that it may have.
    pub sound: Sound,
    /// Tokens of input and output together that the model can take, if known.
    pub context_window: Option<u64>,
    /// What its tokens cost.
    pub price: Option<Price>,
    /// What is reserved for it.
    pub reserved: Amounts,
}

impl Terms {
    /// Those of a request, by what is known of others like it; and the part of what is reserved that is certain: no
    /// expectation, but what the client sent and its cap.
    pub fn of(routed: &Routed<'_>, estimator: &Estimator) -> (Self, Amounts) {
        let demand = Demand {
            input: routed.input,
            max_output: if routed.endpoint.writes() {
                routed.max_output
            } else {
                Some(0)
            },
            answers: routed.answers.max(1),
            context_window: routed.context_window,
        };
        let sound = Sound::of(routed.endpoint, &demand.input);
        let estimate = estimator.estimate(&demand);
        let pictures = pictures(routed.endpoint, routed.answers);
        let amounts = |input, output, seconds| Amounts {
            input,
            output,
            cost: routed
                .price
                .map_or(0, |price| price.max_cost(input, output, pictures, seconds)),
        };
        let terms = Self {
            endpoint: routed.endpoint,
            stream: routed.stream,
            repeats: routed.repeats,
            background: routed.background,
            plain: routed.plain,
            demand,
            sound,
            context_window: routed.context_window,
            price: routed.price,
            reserved: amounts(estimate.input, estimate.output, sound.reserved),
        };
        (terms, amounts(estimate.certain_input, estimate.certain_output, 0))
    }

    /// Tokens of input and output that are reserved.
    pub fn reserved_tokens(&self) -> u64 {
        self.reserved.input.saturating_add(self.reserved.output)
    }

    /// What its record says was asked for.
    pub fn request<'a>(&self, model: &'a str) -> Request<'a> {
        Request {
            endpoint: self.endpoint,
            model,
            stream: self.stream,
            reserved_tokens: self.reserved_tokens(),
        }
    }

    /// Whether an answer is text, or events of it. Pictures and sound may have tokens too, but only their model server
    /// can tell how many.
    pub(super) const fn writes_text(&self) -> bool {
        matches!(
            self.endpoint,
            Endpoint::Chat | Endpoint::Completions | Endpoint::Responses | Endpoint::Messages
        )
    }

    /// Pictures of a whole answer.
    pub(super) fn pictures(&self) -> u64 {
        pictures(self.endpoint, self.demand.answers)
    }

    /// What one attempt has read, where nobody says: as estimated, and no less than the bytes make it by themselves, as
    /// what was learned of other requests may be less.
    pub(super) fn input(&self) -> u64 {
        let by_bytes = Estimator::default().estimate(&self.demand).input;
        self.reserved.input.max(by_bytes)
    }

    /// Seconds of sound that a model server has heard, where it is paid by them and does not say.
    pub(super) fn heard(&self) -> u64 {
        match self.price {
            Some(price) if price.audio_second > 0 => self.sound.usual,
            _ => 0,
        }
    }

    /// No answer is longer than what caps it, whatever its bytes look like.
    pub(super) fn capped(&self, tokens: u64) -> u64 {
        match self.demand.max_output {
            Some(_) => tokens.min(self.reserved.output),
            None => tokens,
        }
    }

    /// What a request that used this much may come to: all the output and sound that was reserved.
    pub(super) fn max(&self, usage: &Usage) -> Amounts {
        let usage = Usage {
            output: usage.output.max(self.reserved.output),
            audio_seconds: usage.audio_seconds.max(self.sound.reserved),
            ..*usage
        };
        self.used(&usage, Source::Estimated).amounts()
    }

    /// Usage with its cost.
    pub(super) fn used(&self, usage: &Usage, source: Source) -> Used {
        Used {
            input_tokens: usage.input,
            output_tokens: usage.output,
            cached_tokens: usage.cached,
            reasoning_tokens: usage.reasoning,
            cache_written_tokens: usage.cache_written,
            cache_written_1h_tokens: usage.cache_written_1h,
            audio_seconds: usage.audio_seconds,
            pictures: usage.pictures,
            cost_micros: self.price.map(|price| price.cost(usage)),
            source,
            distrusted: false,
        }
    }

    /// What it is charged. Of what is written in the background nobody learns how long it became: it is charged what it
    /// may become.
    pub(super) fn charged(&self, outcome: Outcome, used: Used) -> Used {
        if !self.background || matches!(outcome, Outcome::Failed | Outcome::Refused) {
            return used;
        }
        Used {
            input_tokens: used.input_tokens.max(self.reserved.input),
            output_tokens: used.output_tokens.max(self.reserved.output),
            cost_micros: self
                .price
                .map(|_| used.cost_micros.unwrap_or(0).max(self.reserved.cost)),
            source: Source::Estimated,
            ..used
        }
    }
}

/// As many as are asked for, where pictures are made.
fn pictures(endpoint: Endpoint, answers: u32) -> u64 {
    match endpoint {
        Endpoint::ImagesGenerations | Endpoint::ImagesEdits => u64::from(answers),
        _ => 0,
    }
}
