//! Whether what a model server reports can be so. A report is taken at its word within bounds that no honest one leaves:
//! beyond them an estimate is charged, so that a slip of a server's (10^15 tokens, or none) neither locks a key out for
//! years nor gives an answer away.

use super::{Usage, Volume};
use crate::limits::estimate::{Demand, Estimator};

/// How many times more than by its bytes the input may be: a byte of text is at most a token, a picture 6,400.
const DENSER: u64 = 8;
/// Context that a request may bring along unseen, in windows: system prompts, templates, what the server's own tools
/// found in several turns.
const UNSEEN_WINDOWS: u64 = 4;
/// The same in tokens, of a model whose window is not known.
const UNSEEN: u64 = 1 << 20;
/// Beyond its cap an answer may have this many tokens, where the window is not known: not every server counts reasoning.
const BEYOND_CAP: u64 = 1 << 18;
/// At most so many events carry a token, and as many carry none. Of bytes this can't be said: an answer may repeat its
/// instructions, and hold pictures.
const EVENTS_A_TOKEN: u64 = 64;

/// What is known of a request whose usage is reported.
#[derive(Debug, Clone, Copy)]
pub struct Plausible<'a> {
    /// What was asked for.
    pub demand: &'a Demand,
    /// Tokens of output as they were reserved.
    pub reserved_output: u64,
    /// Tokens of input and output together that the model can take, if known.
    pub context_window: Option<u64>,
    /// What of an answer went by before it was reported.
    pub volume: Volume,
}

impl Plausible<'_> {
    /// Whether the report can be so.
    pub fn is(&self, usage: &Usage) -> bool {
        let answers = u64::from(self.demand.answers.max(1));
        let windows = |times: u64| {
            let window = self.context_window?;
            Some(window.saturating_mul(times).saturating_mul(answers))
        };
        let estimate = Estimator::default().estimate(self.demand).input;
        let most_input = estimate
            .saturating_mul(DENSER)
            .saturating_add(windows(UNSEEN_WINDOWS).unwrap_or(UNSEEN));
        let most_output = self
            .reserved_output
            .saturating_add(windows(1).unwrap_or(BEYOND_CAP.saturating_mul(answers)));
        (1..=most_input).contains(&usage.input)
            && (usage.output <= most_output)
            && (!self.writes() || self.is_enough(usage.output))
    }

    /// Whether its answer is text.
    fn writes(&self) -> bool {
        self.demand.max_output != Some(0)
    }

    /// Whether so many tokens may be all that went by.
    fn is_enough(&self, output: u64) -> bool {
        self.volume.events <= output.saturating_add(1).saturating_mul(EVENTS_A_TOKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Input;

    fn demand(text: u64, max_output: Option<u64>) -> Demand {
        Demand {
            input: Input {
                text,
                ..Input::default()
            },
            max_output,
            answers: 1,
            context_window: None,
        }
    }

    fn said(input: u64, output: u64) -> Usage {
        Usage {
            input,
            output,
            ..Usage::default()
        }
    }

    fn is(demand: &Demand, window: Option<u64>, volume: (u64, u64), usage: Usage) -> bool {
        let plausible = Plausible {
            demand,
            reserved_output: demand.max_output.unwrap_or(1_024),
            context_window: window,
            volume: Volume {
                events: volume.0,
                bytes: volume.1,
                text: 0,
                least: 0,
            },
        };
        plausible.is(&usage)
    }

    #[test]
    fn what_no_model_can_have_read_or_written() {
        let chat = demand(400, Some(100));
        for absurd in [10_u64.pow(15), 1 << 53, 1 << 31, 10_000_000] {
            assert!(!is(&chat, None, (0, 500), said(absurd, 10)), "{absurd}");
            assert!(!is(&chat, None, (0, 500), said(100, absurd)), "{absurd}");
        }
        assert!(!is(&chat, Some(8_192), (0, 500), said(40_000, 10)));
        assert!(!is(&chat, Some(8_192), (0, 500), said(100, 9_000)));
        assert!(!is(&chat, None, (0, 500), said(0, 10)), "something was read");
    }

    #[test]
    fn honest_extremes() {
        let chat = demand(400, Some(100));
        // A hidden system prompt, cached; reasoning that the cap does not count; tools of the server's.
        for (window, usage) in [
            (Some(131_072), said(131_000, 100)),
            (Some(8_192), said(30_000, 100)),
            (Some(131_072), said(100, 60_000)),
            (None, said(900_000, 200_000)),
            (None, said(1, 0)),
        ] {
            assert!(is(&chat, window, (10, 2_000), usage), "{usage:?}");
        }
        // One token each byte.
        assert!(is(
            &demand(2_000_000, None),
            Some(8_192),
            (0, 500),
            said(2_000_000, 1)
        ));
        // Vectors are many bytes and no tokens; so are pictures and sound.
        assert!(is(&demand(40, Some(0)), None, (0, 10_000_000), said(10, 0)));
        // An answer that repeats its instructions and writes nothing.
        assert!(is(
            &demand(200_000, Some(100)),
            None,
            (3, 900_000),
            said(50_000, 0)
        ));
        // A token with all that can be said of it.
        assert!(is(&chat, None, (1_000, 5_000_000), said(100, 1_000)));
    }

    #[test]
    fn what_is_too_little_for_what_went_by() {
        let chat = demand(400, Some(100_000));
        assert!(is(&chat, None, (60, 15_000), said(100, 0)));
        assert!(!is(&chat, None, (2_000, 400_000), said(100, 0)));
        assert!(!is(&chat, None, (2_000, 400_000), said(100, 10)));
        assert!(is(&chat, None, (2_000, 400_000), said(100, 1_900)));
        // A whole body is believed, whatever its size.
        assert!(is(&chat, None, (0, 1_000_000), said(100, 0)));
    }
}
