//! What a request costs, and which part of it a row counts.

use serde::Deserialize;

/// What a row counts.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Requests.
    #[default]
    Requests,
    /// Tokens of input and output.
    Tokens,
    /// Tokens of input.
    InputTokens,
    /// Tokens of output.
    OutputTokens,
    /// Requests in flight.
    Concurrent,
    /// Cost, in millionths of the currency of the prices.
    Cost,
}

impl Count {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Concurrent => "concurrent",
            Self::Cost => "cost",
        }
    }

    /// Whether it counts tokens of some kind.
    pub const fn is_tokens(self) -> bool {
        matches!(self, Self::Tokens | Self::InputTokens | Self::OutputTokens)
    }
}

/// What one request takes: as estimated when it is reserved, as reported when it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// Tokens of input.
    pub input: u64,
    /// Tokens of output.
    pub output: u64,
    /// Cost, in millionths of the currency of the prices.
    pub cost: u64,
}

impl Amounts {
    /// What a row with this `count` takes; a request is one request.
    pub const fn of(&self, count: Count) -> u64 {
        match count {
            Count::Requests | Count::Concurrent => 1,
            Count::Tokens => self.input.saturating_add(self.output),
            Count::InputTokens => self.input,
            Count::OutputTokens => self.output,
            Count::Cost => self.cost,
        }
    }
}
