//! What a stand-in model says, and how it counts: one token a word.

/// Tokens of `text`: its words, parted by white space.
pub fn tokens(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// The words of an answer: it says who speaks and repeats what it was told.
///
/// Its natural length is [`Speech::natural`]; asked for more words, it starts over.
#[derive(Clone, Debug)]
pub(super) struct Speech {
    text: String,
    /// Where each word ends in `text`; it begins, with its space, where the one before ends.
    ends: Vec<usize>,
}

/// An answer repeats so many words of its request and no more.
const TOLD: usize = 64;

impl Speech {
    pub(super) fn new(model: &str, told: &str) -> Self {
        let mut speech = Self {
            text: String::with_capacity(512),
            ends: Vec::with_capacity(TOLD + 2),
        };
        for word in [model, "heard:"]
            .into_iter()
            .chain(told.split_whitespace().take(TOLD))
        {
            if !speech.text.is_empty() {
                speech.text.push(' ');
            }
            speech.text.push_str(word);
            speech.ends.push(speech.text.len());
        }
        speech
    }

    /// Words of the answer when nobody asks for a length.
    pub(super) fn natural(&self) -> u64 {
        self.ends.len() as u64
    }

    /// The first `n` of the natural words.
    fn begin(&self, n: u64) -> &str {
        let end = n
            .checked_sub(1)
            .and_then(|last| self.ends.get(last as usize))
            .copied()
            .unwrap_or(0);
        self.text.get(..end).unwrap_or_default()
    }

    /// Word `i` of an answer of any length, with the space before it.
    pub(super) fn word(&self, i: u64) -> String {
        let nth = i % self.natural();
        let word = self
            .begin(nth + 1)
            .get(self.begin(nth).len()..)
            .unwrap_or_default();
        if nth == 0 && i > 0 {
            format!(" {word}")
        } else {
            word.to_owned()
        }
    }

    /// The first `n` words, as one text.
    pub(super) fn say(&self, n: u64) -> String {
        let rounds = vec![self.text.as_str(); (n / self.natural()) as usize];
        let rest = self.begin(n % self.natural());
        let all: Vec<&str> = rounds
            .into_iter()
            .chain((!rest.is_empty()).then_some(rest))
            .collect();
        all.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_who_speaks_and_what_it_was_told() {
        let speech = Speech::new("llama-70b", "Grüß  Gott");
        assert_eq!(speech.say(speech.natural()), "llama-70b heard: Grüß Gott");
        assert_eq!(speech.say(6), "llama-70b heard: Grüß Gott llama-70b heard:");
        assert_eq!(tokens(&speech.say(6)), 6);
        assert_eq!(speech.say(0), "");
        for n in 0..10 {
            assert_eq!((0..n).map(|i| speech.word(i)).collect::<String>(), speech.say(n));
        }
    }
}
