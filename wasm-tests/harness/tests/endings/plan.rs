//! What is asked, and how each request is to end: drawn from a seed, the same requests for the same seed.

use serde_json::{Value, json};
use tollgate_harness::models::random::Random;

/// The model that is asked unless an ending needs another; it has a capacity.
pub(crate) const SWIFT: &str = "swift";
/// One more, whose name holds what metrics and stores part names by.
pub(crate) const DEEP: &str = "deep/v1.5";
/// Its answers must begin within 150 ms.
pub(crate) const HASTY: &str = "hasty";
/// Its answers must be whole within 300 ms.
pub(crate) const BRIEF: &str = "brief";
/// Its first target always fails, the second serves.
pub(crate) const PAIR: &str = "pair";
/// Its only target always fails; another model stands in once that is known.
pub(crate) const LOST: &str = "lost";
/// What it reports is not so, and must teach nobody about other models.
pub(crate) const LIAR: &str = "liar";

/// How a request is to end, unless a limit or a breaker stops it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// A whole answer, however it is laid into writes.
    Whole,
    /// A whole answer without usage.
    Unreported,
    /// A whole answer that reports other numbers than were counted, cached and reasoning tokens too.
    Misreported,
    /// An answer of this status from the model server.
    Status(u16),
    /// The model server closes or resets the connection in place of an answer.
    Lost,
    /// The model server breaks off in the middle of the answer.
    BrokenOff,
    /// No first byte in time.
    Late,
    /// Not whole in time.
    TooLong,
    /// The client leaves before the answer begins.
    LeftBefore,
    /// The client leaves after so many events, when the model server has sent no more than those.
    LeftAfter(usize),
    /// The client leaves at the last event, before the connection says that it was the last.
    LeftAtEnd,
    /// The first target fails, the next one serves.
    NextTarget,
    /// All targets fail, and another model may serve.
    Fallback,
    /// A filter behind the limits refuses it.
    RefusedLater,
    /// There is no such model.
    UnknownModel,
    /// The body is no JSON.
    BrokenBody,
    /// Nobody knows the key.
    Stranger,
}

/// The customers' APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Completions,
    Responses,
    Messages,
    Embeddings,
}

impl Api {
    const ALL: [Self; 5] = [
        Self::Chat,
        Self::Completions,
        Self::Responses,
        Self::Messages,
        Self::Embeddings,
    ];

    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::Embeddings => "/v1/embeddings",
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Embeddings => "embeddings",
        }
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) number: usize,
    /// Whose key, of those the stage has.
    pub(crate) caller: usize,
    pub(crate) ending: Ending,
    pub(crate) api: Api,
    pub(crate) stream: bool,
    pub(crate) http2: bool,
    pub(crate) model: &'static str,
    /// What the model server is told to do.
    pub(crate) fault: String,
    /// What it is told to report in place of its counts: input, output, cached, reasoning.
    pub(crate) says: Option<[u64; 4]>,
    pub(crate) body: Value,
}

impl Plan {
    pub(crate) fn draw(number: usize, callers: usize, dice: &mut Random) -> Self {
        let ending = ending(dice);
        let api = match ending {
            // Embeddings are no stream, and only the first byte of one has a limit.
            Ending::LeftAfter(_) | Ending::LeftAtEnd | Ending::TooLong | Ending::Late => {
                *dice.pick(&Api::ALL[..4])
            }
            Ending::NextTarget | Ending::Fallback => Api::Chat,
            _ => *dice.pick(&Api::ALL),
        };
        let must_stream = matches!(
            ending,
            Ending::LeftAfter(_) | Ending::LeftAtEnd | Ending::TooLong | Ending::Late
        );
        let stream = api != Api::Embeddings && (must_stream || dice.once_in(2));
        let model = match ending {
            Ending::Late => HASTY,
            Ending::TooLong => BRIEF,
            Ending::NextTarget => PAIR,
            Ending::Fallback => LOST,
            Ending::Misreported => LIAR,
            Ending::UnknownModel => "nobody",
            _ => *dice.pick(&[SWIFT, DEEP, DEEP]),
        };
        let says = (ending == Ending::Misreported).then(|| {
            let (input, output) = (dice.between(100, 400) as u64, dice.between(50, 300) as u64);
            [input, output, input / 3, output / 2]
        });
        Self {
            number,
            caller: dice.between(0, callers),
            ending,
            api,
            stream,
            http2: dice.once_in(3),
            model,
            fault: fault(ending, stream, says, dice),
            says,
            body: body(api, model, stream, dice),
        }
    }
}

fn ending(dice: &mut Random) -> Ending {
    match dice.between(0, 100) {
        0..36 => Ending::Whole,
        36..42 => Ending::Unreported,
        42..48 => Ending::Misreported,
        48..54 => Ending::Status(*dice.pick(&[400, 404, 429, 500, 502, 503])),
        54..58 => Ending::Lost,
        58..64 => Ending::BrokenOff,
        64..66 => Ending::Late,
        66..68 => Ending::TooLong,
        68..74 => Ending::LeftBefore,
        74..82 => Ending::LeftAfter(dice.between(3, 120)),
        82..85 => Ending::LeftAtEnd,
        85..88 => Ending::NextTarget,
        88..91 => Ending::Fallback,
        91..94 => Ending::RefusedLater,
        94..96 => Ending::UnknownModel,
        96..98 => Ending::BrokenBody,
        _ => Ending::Stranger,
    }
}

fn fault(ending: Ending, stream: bool, says: Option<[u64; 4]>, dice: &mut Random) -> String {
    match ending {
        Ending::Whole | Ending::Unreported => {
            let tokens = dice.between(1, 40);
            let wait = dice.between(0, 30);
            let writes = match dice.between(0, 5) {
                0 => ", pace=1ms".to_owned(),
                1 => format!(", chunk={}", dice.between(3, 300)),
                2 => format!(", chunk=random:{}", dice.draw()),
                3 => format!(", batch={}", dice.between(2, 9)),
                _ => String::new(),
            };
            let usage = if ending == Ending::Unreported {
                ", usage=missing"
            } else {
                ""
            };
            format!("first-byte={wait}ms, tokens={tokens}{writes}{usage}")
        }
        Ending::Misreported => {
            let [input, output, cached, reasoning] = says.unwrap();
            format!("tokens=5, usage={input}/{output}, cached={cached}, reasoning={reasoning}")
        }
        Ending::Status(status) => format!("status={status}"),
        Ending::Lost => (*dice.pick(&["close", "reset", "first-byte=20ms, reset"])).to_owned(),
        Ending::BrokenOff if stream => {
            let (how, after) = (*dice.pick(&["cut", "tear"]), dice.between(1, 12));
            format!("tokens=40, pace=2ms, {how}={after}")
        }
        Ending::BrokenOff => "tokens=40, tear=0".to_owned(),
        Ending::Late => "first-byte=1s".to_owned(),
        Ending::TooLong => "tokens=1000, pace=4ms".to_owned(),
        Ending::LeftBefore => "first-byte=5s".to_owned(),
        Ending::LeftAfter(events) => format!("tokens=200, stall={events}"),
        Ending::LeftAtEnd => format!("tokens={}", dice.between(1, 20)),
        _ => String::new(),
    }
}

fn body(api: Api, model: &str, stream: bool, dice: &mut Random) -> Value {
    const WORDS: [&str; 8] = ["tell", "me", "of", "gateways", "and", "their", "many", "endings"];
    let words: Vec<&str> = (0..dice.between(3, 40)).map(|_| *dice.pick(&WORDS)).collect();
    let text = words.join(" ");
    let cap = dice.between(60, 120);
    let mut body = match api {
        Api::Chat => {
            json!({"model": model, "messages": [{"role": "user", "content": text}], "max_completion_tokens": cap})
        }
        Api::Completions => json!({"model": model, "prompt": text, "max_tokens": cap}),
        Api::Responses => json!({"model": model, "input": text, "max_output_tokens": cap}),
        Api::Messages => {
            json!({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": cap})
        }
        Api::Embeddings => json!({"model": model, "input": text}),
    };
    if stream {
        body["stream"] = json!(true);
        if matches!(api, Api::Chat | Api::Completions) && dice.once_in(2) {
            body["stream_options"] = json!({"include_usage": dice.once_in(2)});
        }
    }
    body
}
