//! What an answer reports, read a second time by whoever has all of it: each document as a tree, events taken apart line by
//! line, and the counts added up as docs/dialects.md says.

use serde::de::IgnoredAny;
use tollgate_core::usage::Usage;

use crate::tree::Tree;

/// Above 2^53 a double no longer says which whole number was meant.
const MAX_COUNT: u64 = 1 << 53;

/// What of an answer can be told by reading it whole.
pub(crate) enum Told {
    /// This is what it reports.
    Usage(Option<Usage>),
    /// It is no JSON that can be read as a tree, or gives a member twice: readers differ.
    Nothing,
}

/// Of JSON, in one document or one a line; where `of_events` is said, each may hold its usage in a `response` or `message`.
pub(crate) fn of_json(answer: &[u8], of_events: bool) -> Told {
    let answer = answer.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(answer);
    let lines = || {
        let lines = answer.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let lines = lines.filter(|line| !line.is_empty());
        lines.map(object).collect::<Option<Vec<Tree>>>()
    };
    let whole = object(answer).map(|tree| vec![tree]);
    match whole.or_else(lines) {
        Some(documents) if !documents.is_empty() => sum(&documents, of_events),
        _ => Told::Nothing,
    }
}

/// Of server-sent events.
pub(crate) fn of_events(answer: &[u8]) -> Told {
    match documents(answer) {
        Some(documents) => sum(&documents, true),
        None => Told::Nothing,
    }
}

/// The JSON objects that events have for data; `None` where one can't be read though it may be one.
pub(crate) fn documents(answer: &[u8]) -> Option<Vec<Tree>> {
    let mut documents = Vec::new();
    for data in data(answer) {
        // A name with escapes is another to those that look for it in the text.
        if data.windows(2).any(|pair| pair == b"\\u") {
            return None;
        }
        match object(&data) {
            Some(tree) => documents.push(tree),
            None if serde_json::from_slice::<IgnoredAny>(&data).is_ok()
                && data.trim_ascii().starts_with(b"{") =>
            {
                return None;
            }
            None => {}
        }
    }
    Some(documents)
}

/// The data of each event, the one too that the stream ends in.
fn data(answer: &[u8]) -> Vec<Vec<u8>> {
    let text = answer.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(answer);
    let mut events = vec![Vec::new()];
    for line in lines(text) {
        let field = [&b"data: "[..], b"data:"]
            .iter()
            .find_map(|name| line.strip_prefix(*name));
        let field = field.or_else(|| (line == b"data").then_some(&[][..]));
        let event = events.last_mut();
        match (field, event) {
            (Some(value), Some(event)) => event.push(value),
            (None, _) if line.is_empty() => events.push(Vec::new()),
            _ => {}
        }
    }
    events.into_iter().map(|lines| lines.join(&b'\n')).collect()
}

/// Lines that end in LF, CR LF or CR.
fn lines(text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.iter().position(|byte| b"\r\n".contains(byte)) {
        let (line, behind) = rest.split_at(end);
        lines.push(line);
        let ending = if behind.starts_with(b"\r\n") { 2 } else { 1 };
        rest = behind.get(ending..).unwrap_or_default();
    }
    lines.push(rest);
    lines
}

fn object(json: &[u8]) -> Option<Tree> {
    let tree = serde_json::from_slice(json).ok()?;
    matches!(tree, Tree::Object(_)).then_some(tree)
}

/// What all documents report, one after the other.
fn sum(documents: &[Tree], of_events: bool) -> Told {
    let mut all = Some(Counts::default());
    for document in documents {
        let Some(usage) = usage_of(document, of_events) else {
            return Told::Nothing;
        };
        all = match (all, Counts::of(usage)) {
            (Some(earlier), Some(next)) => Some(earlier.then(next)),
            // What can't be so undoes what was said before it, and is undone by what is said behind it.
            (None, Some(next)) => (next != Counts::default()).then_some(next),
            (_, None) => None,
        };
    }
    Told::Usage(all.and_then(Counts::usage))
}

/// The usage that stands in a document; `None` where readers differ.
fn usage_of(document: &Tree, of_events: bool) -> Option<&Tree> {
    let own = document.member("usage");
    let [response, message] = ["response", "message"].map(|name| document.member(name));
    let inside = if *response == Tree::Null {
        message
    } else {
        response
    };
    let has_both = *response != Tree::Null && *message != Tree::Null;
    let is_said_twice = *own != Tree::Null && *inside.member("usage") != Tree::Null;
    let differs = of_events && (has_both || is_said_twice || inside.repeats_itself());
    if document.repeats_itself() || differs {
        return None;
    }
    let looks_inside = of_events && *own == Tree::Null;
    Some(if looks_inside { inside.member("usage") } else { own })
}

/// Counts by what they are; `None` where nothing is said.
#[derive(Clone, Copy, Default, PartialEq)]
struct Counts {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    reasoning: Option<u64>,
    /// What `input` leaves out.
    apart: [Option<u64>; 2],
    written: Option<u64>,
    written_1h: Option<u64>,
    seconds: Option<u64>,
}

impl Counts {
    /// `None` where something can't be so.
    fn of(usage: &Tree) -> Option<Self> {
        if *usage == Tree::Null {
            return Some(Self::default());
        }
        let Tree::Object(_) = usage else { return None };
        let inputs = details(usage, ["prompt_tokens_details", "input_tokens_details"])?;
        let outputs = details(usage, ["completion_tokens_details", "output_tokens_details"])?;
        let count = |name| whole(last(usage, name));
        let prompt = count("prompt_tokens")?;
        let (read, written) = (
            count("cache_read_input_tokens")?,
            count("cache_creation_input_tokens")?,
        );
        let anthropic = prompt.is_none() && *inputs == Tree::Null;
        let hour = match last(usage, "cache_creation") {
            parts @ Tree::Object(_) => whole(last(parts, "ephemeral_1h_input_tokens"))?,
            _ => None,
        };
        Some(Self {
            input: prompt.or(count("input_tokens")?),
            output: count("completion_tokens")?.or(count("output_tokens")?),
            total: count("total_tokens")?,
            cached: whole(last(inputs, "cached_tokens"))?.or(read),
            reasoning: whole(last(outputs, "reasoning_tokens"))?,
            apart: [read, written].map(|count| count.filter(|_| anthropic)),
            written,
            written_1h: hour,
            seconds: seconds(last(usage, "seconds"))?,
        })
    }

    /// What is said again replaces what was.
    fn then(self, next: Self) -> Self {
        let [read, written] = self.apart;
        let [next_read, next_written] = next.apart;
        Self {
            input: next.input.or(self.input),
            output: next.output.or(self.output),
            total: next.total.or(self.total),
            cached: next.cached.or(self.cached),
            reasoning: next.reasoning.or(self.reasoning),
            apart: [next_read.or(read), next_written.or(written)],
            written: next.written.or(self.written),
            written_1h: next.written_1h.or(self.written_1h),
            seconds: next.seconds.or(self.seconds),
        }
    }

    /// `None` unless both directions are known.
    fn usage(self) -> Option<Usage> {
        let input = self.input? + self.apart.into_iter().flatten().sum::<u64>();
        let beyond = self.total.map(|total| total.saturating_sub(input));
        let output = match (self.output, self.total) {
            (Some(output), _) => output.max(beyond.unwrap_or(0)),
            (None, Some(total)) if total >= input => total - input,
            _ => return None,
        };
        let cached = input.min(self.cached.unwrap_or(0));
        let written = (input - cached).min(self.written.unwrap_or(0));
        Some(Usage {
            input,
            output,
            cached,
            reasoning: output.min(self.reasoning.unwrap_or(0)),
            cache_written: written,
            cache_written_1h: written.min(self.written_1h.unwrap_or(0)),
            audio_seconds: self.seconds.unwrap_or(0),
            pictures: 0,
        })
    }
}

/// Of several members of one name the last.
fn last<'t>(tree: &'t Tree, name: &str) -> &'t Tree {
    let found = tree.members().iter().rfind(|(other, _)| other == name);
    found.map_or(&Tree::Null, |(_, value)| value)
}

/// The first of two members that is there; `None` if it is neither an object nor null.
fn details<'t>(usage: &'t Tree, names: [&str; 2]) -> Option<&'t Tree> {
    let [chat, responses] = names;
    let has_chat = usage.members().iter().any(|(name, _)| name == chat);
    let found = last(usage, if has_chat { chat } else { responses });
    matches!(found, Tree::Null | Tree::Object(_)).then_some(found)
}

/// A count, null being none; the outer `None` if it is neither.
fn whole(value: &Tree) -> Option<Option<u64>> {
    match *value {
        Tree::Null => Some(None),
        Tree::Whole(count) => (count <= MAX_COUNT).then_some(Some(count)),
        Tree::Real(count) if count.fract() == 0.0 && (0.0..=MAX_COUNT as f64).contains(&count) => {
            Some(Some(count as u64))
        }
        _ => None,
    }
}

/// Seconds, begun ones whole; the outer `None` if no sound has so many.
fn seconds(value: &Tree) -> Option<Option<u64>> {
    let seconds = match *value {
        Tree::Null => return Some(None),
        Tree::Whole(seconds) => seconds as f64,
        Tree::Negative(seconds) => seconds as f64,
        Tree::Real(seconds) => seconds,
        _ => return None,
    };
    (0.0..=1e6)
        .contains(&seconds)
        .then_some(Some(seconds.ceil() as u64))
}
