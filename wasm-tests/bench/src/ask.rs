//! What is asked: bodies of chat requests, and how the model server is to answer them.

use crate::model::{LARGE, Pace};

/// One kind of request.
pub(crate) struct Ask {
    /// As a column of a table names it.
    pub(crate) name: &'static str,
    /// Connections at once, each with one request under way.
    pub(crate) connections: usize,
    /// How a streamed answer comes; `None` is an answer that is whole.
    pub(crate) pace: Option<Pace>,
    /// The request's body.
    pub(crate) body: Vec<u8>,
}

impl Ask {
    /// A chat request of 0.7 KB.
    pub(crate) fn chat() -> Self {
        Self {
            name: "0.7 KB",
            connections: 32,
            pace: None,
            body: chat(LARGE, 700, false),
        }
    }

    /// Chat requests of 1 KB to 10 MB. Few at once: each gateway holds them all.
    pub(crate) fn by_size() -> Vec<Self> {
        let sizes = [
            ("1 KB", 1_000),
            ("10 KB", 10_000),
            ("100 KB", 100_000),
            ("1 MB", 1_000_000),
            ("10 MB", 10_000_000),
        ];
        let ask = |(name, size)| Self {
            name,
            connections: 4,
            pace: None,
            body: chat(LARGE, size, false),
        };
        sizes.map(ask).into()
    }

    /// Chat requests whose answers are streams.
    pub(crate) fn by_pace() -> Vec<Self> {
        let paces = [("one by one", Pace::OneByOne), ("coalesced", Pace::Coalesced)];
        let ask = |(name, pace)| Self {
            name,
            connections: 32,
            pace: Some(pace),
            body: chat(LARGE, 700, true),
        };
        paces.map(ask).into()
    }
}

/// A conversation of about `size` bytes, in turns of about 2 KB, with line ends in them as people write.
pub(crate) fn chat(model: &str, size: usize, stream: bool) -> Vec<u8> {
    const SENTENCE: &str = "Summarise for the on-call engineer what changed in the deployment last night, which of the \
                            alerts that followed are explained by it, and what is left to look at.\n";
    let filled = |text: usize| {
        let text: String = SENTENCE.chars().cycle().take(text).collect();
        let turns = text.as_bytes().chunks(2_000).enumerate().map(|(at, turn)| {
            let role = if at % 2 == 0 { "user" } else { "assistant" };
            serde_json::json!({"role": role, "content": String::from_utf8_lossy(turn)})
        });
        let system = "You are a careful assistant for a platform team. Answer in English.";
        let system = serde_json::json!({"role": "system", "content": system});
        serde_json::json!({
            "model": model,
            "messages": std::iter::once(system).chain(turns).collect::<Vec<_>>(),
            "temperature": 0.2,
            "max_tokens": 256,
            "stream": stream,
            // Asked for by the client: so every row passes every event.
            "stream_options": stream.then(|| serde_json::json!({"include_usage": true})),
        })
        .to_string()
        .into_bytes()
    };
    // The text is most of it: what its wrapping took the first time is taken off the second time.
    let first = filled(size);
    filled(size.saturating_sub(first.len() - size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_sizes_the_page_states() {
        let near = |ask: &Ask, size: usize| {
            let got = ask.body.len();
            assert!(got.abs_diff(size) <= size / 20, "{}: {got}", ask.name);
        };
        near(&Ask::chat(), 700);
        for (ask, size) in Ask::by_size()
            .iter()
            .zip([1_000, 10_000, 100_000, 1_000_000, 10_000_000])
        {
            near(ask, size);
        }
    }

    #[test]
    fn a_conversation_is_json_and_names_its_model() {
        let body: serde_json::Value = serde_json::from_slice(&chat("m", 10_000, true)).unwrap();
        assert_eq!((&body["model"], &body["stream"]), (&"m".into(), &true.into()));
        assert!(body["messages"].as_array().unwrap().len() > 4);
    }
}
