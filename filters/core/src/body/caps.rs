//! How long an answer may get, by every name that some server has for it.

use crate::endpoint::Endpoint;

/// Most tokens that an answer may have, by the names that APIs have for it; `None` where not given.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// `max_tokens`: of chat, where it is the older name, of completions and Anthropic's messages.
    pub max_tokens: Option<u64>,
    /// `max_completion_tokens`: of chat.
    pub max_completion_tokens: Option<u64>,
    /// `max_output_tokens`: of responses.
    pub max_output_tokens: Option<u64>,
    /// The largest under any name that some server knows, and the member that has it.
    pub elsewhere: Option<(&'static str, u64)>,
    /// The member by which some server is told to go on for ever.
    pub endless: Option<&'static str>,
    /// How long may be thought, which some servers don't count against the cap, and the member that says so.
    pub thinking: Option<(&'static str, u64)>,
    /// Tokens that may be charged on top.
    pub on_top: u64,
}

impl Caps {
    /// The cap that the client asks for by a name that the endpoint has, and the name; of two the larger, since model
    /// servers differ in which they keep to. `None` where it is the model's own: a name that the endpoint does not have
    /// caps nothing, as model servers pass over it.
    pub fn asked(&self, endpoint: Endpoint) -> Option<(&'static str, u64)> {
        let [old, new, responses] = self.named();
        let names: &[_] = match endpoint {
            Endpoint::Chat => &[old, new],
            Endpoint::Completions | Endpoint::Messages => &[old],
            Endpoint::Responses => &[responses],
            Endpoint::Embeddings
            | Endpoint::Moderations
            | Endpoint::ImagesGenerations
            | Endpoint::ImagesEdits
            | Endpoint::Speech
            | Endpoint::Transcriptions
            | Endpoint::Translations
            | Endpoint::Models => &[],
        };
        names.iter().copied().flatten().max_by_key(|(_, cap)| *cap)
    }

    /// The largest cap that some server may obey, where it is beyond `most`, and the member that has it.
    pub fn beyond(&self, most: u64) -> Option<(&'static str, u64)> {
        self.all()
            .filter(|(_, cap)| *cap > most)
            .max_by_key(|(_, cap)| *cap)
    }

    /// The member by which some server is told to write as much as it can. Zero is no cap to some.
    pub fn lifted(&self) -> Option<&'static str> {
        let zero = || self.named().into_iter().flatten().find(|(_, cap)| *cap == 0);
        self.endless.or_else(|| zero().map(|(name, _)| name))
    }

    /// Most tokens that an answer at an endpoint may have, whichever server answers; `None` where nothing is said that
    /// each keeps to. `most` is where servers cap an answer that asks for no cap, `window` what a model can hold at all.
    pub fn at(&self, endpoint: Endpoint, most: Option<u64>, window: Option<u64>) -> Option<u64> {
        if self.lifted().is_some() {
            // What servers do for requests without a cap says nothing of one that tells them to go on.
            return most.map(|most| window.map_or(most, |window| window.max(most)));
        }
        let Some((_, asked)) = self.asked(endpoint) else {
            return most;
        };
        let others = self.named().into_iter().chain([self.elsewhere]).flatten();
        let cap = others.map(|(_, cap)| cap).fold(asked, u64::max);
        let thinking = self.thinking.map_or(0, |(_, budget)| budget);
        Some(cap.saturating_add(thinking).saturating_add(self.on_top))
    }

    /// Takes what a member other than the three says.
    pub(super) fn take(&mut self, member: &'static str, name: &str, said: Length) {
        match said {
            Length::Negative => self.endless = Some(member),
            Length::Whole(0) if CAPS.contains(&name) => self.endless = Some(member),
            Length::Whole(cap) => {
                let largest = if THINKING.contains(&name) {
                    &mut self.thinking
                } else {
                    &mut self.elsewhere
                };
                if largest.is_none_or(|(_, most)| cap > most) {
                    *largest = Some((member, cap));
                }
            }
        }
    }

    /// Takes a field of a form.
    pub(super) fn name(&mut self, field: &'static str, cap: u32) {
        let cap = u64::from(cap);
        match field {
            "max_tokens" => self.max_tokens = Some(cap),
            "max_completion_tokens" => self.max_completion_tokens = Some(cap),
            "max_output_tokens" => self.max_output_tokens = Some(cap),
            _ => self.take(field, field, Length::Whole(cap)),
        }
    }

    fn named(&self) -> [Option<(&'static str, u64)>; 3] {
        [
            self.max_tokens.map(|cap| ("max_tokens", cap)),
            self.max_completion_tokens
                .map(|cap| ("max_completion_tokens", cap)),
            self.max_output_tokens.map(|cap| ("max_output_tokens", cap)),
        ]
    }

    fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let others = [self.elsewhere, self.thinking];
        self.named().into_iter().chain(others).flatten()
    }
}

/// A number as far as a cap needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// Rounded up.
    Whole(u64),
    Negative,
}

/// The names that APIs have.
const NAMED: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];

/// Names by which some servers are told how long an answer may be. Others pass over them: they raise a cap, and are none
/// by themselves.
pub(super) const CAPS: [&str; 6] = [
    "n_predict",
    "num_predict",
    "max_new_tokens",
    "max_length",
    "max_gen_len",
    "max_tokens_to_sample",
];

/// The same of how long it must be.
const FLOORS: [&str; 3] = ["min_tokens", "min_new_tokens", "min_length"];

/// The same of how long may be thought.
const THINKING: [&str; 8] = [
    "thinking_budget",
    "thinking_budget_tokens",
    "thinking_token_budget",
    "reasoning_budget",
    "reasoning_budget_tokens",
    "reasoning_tokens",
    "max_thinking_tokens",
    "max_reasoning_tokens",
];

/// Objects in which any of these may stand.
pub(super) const OBJECTS: [&str; 4] = ["thinking", "reasoning", "options", "chat_template_kwargs"];

/// The member of this name that says how long an answer may get, beside those that APIs have for it.
pub(super) fn member(name: &str) -> Option<&'static str> {
    members().find(|member| *member == name)
}

/// All of them.
pub(super) fn members() -> impl Iterator<Item = &'static str> {
    CAPS.into_iter().chain(FLOORS).chain(THINKING).chain(OBJECTS)
}

/// All that may stand in a form.
pub(super) fn fields() -> impl Iterator<Item = &'static str> {
    NAMED.into_iter().chain(CAPS).chain(FLOORS).chain(THINKING)
}

/// The name of a number in one of [`OBJECTS`] that says how long an answer may get.
pub(super) fn inner(name: &str) -> Option<&'static str> {
    fields().chain(["budget_tokens"]).find(|number| *number == name)
}
