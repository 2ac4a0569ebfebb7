//! Responses in, usage out: whole, in pieces, with the extra event taken out, and broken in every way.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const JSON: Option<Kind> = Some(Kind::Text);
const EVENTS: Option<Kind> = Some(Kind::Events);

const CHAT_BODY: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",
"content":"\"{ a \"usage\": {\"prompt_tokens\": 9}\\"},"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,
"total_tokens":29,"prompt_tokens_details":{"cached_tokens":7,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":4}},
"service_tier":"default"}"#;
const RESPONSES_BODY: &str = r#"{"id":"resp_1","object":"response","status":"completed","output":[{"usage":{"input_tokens":1}}],
"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":30},"output_tokens":87,
"output_tokens_details":{"reasoning_tokens":64},"total_tokens":123},"metadata":{"usage":"none"}}"#;
const MESSAGES_BODY: &str = r#"{"id":"msg_1","type":"message","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn",
"usage":{"input_tokens":5,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":12,
"service_tier":"standard"}}"#;
const EMBEDDINGS_BODY: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[-0.1,2.5e-3,[],{}]}],
"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
const TRANSCRIPTION_BODY: &str = r#"{"text":"hello","usage":{"type":"tokens","input_tokens":14,
"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":45,"total_tokens":59}}"#;

const CHAT_STREAM: &str = "\
data: {\"id\":\"c\",\"choices\":[],\"prompt_filter_results\":[],\"usage\":null}\n\n\
data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n\
: ping\n\n\
data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"usage\\\":{} é\"}}],\"usage\":null}\n\n\
data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n\
data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29,\
\"prompt_tokens_details\":{\"cached_tokens\":7},\"completion_tokens_details\":{\"reasoning_tokens\":4}}}\n\n\
data: [DONE]\n\n";
/// Usage grows with each event, and none is extra.
const CONTINUOUS_STREAM: &str = "\
data: {\"choices\":[{\"text\":\"a\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}\r\n\r\n\
data: {\"choices\":[{\"text\":\"b\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\r\n\r\n\
data: [DONE]\r\n\r\n";
const RESPONSES_STREAM: &str = "\
event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\",\"usage\":null}}\n\n\
event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n\
event: response.incomplete\ndata: {\"response\":{\"status\":\"incomplete\",\"output\":[{\"usage\":{\"input_tokens\":1}}],\
\"usage\":{\"input_tokens\":36,\"input_tokens_details\":{\"cached_tokens\":30},\"output_tokens\":87,\
\"output_tokens_details\":{\"reasoning_tokens\":64},\"total_tokens\":123}},\"type\":\"response.incomplete\"}\n\n";
const MESSAGES_STREAM: &str = "\
event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":5,\
\"cache_creation_input_tokens\":100,\"cache_read_input_tokens\":1000,\"output_tokens\":1}}}\n\n\
event: ping\ndata: {\"type\": \"ping\"}\n\n\
event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n\
event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
\"usage\":{\"cache_read_input_tokens\":null,\"output_tokens\":12}}\n\n\
event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const MIXED_ENDS_STREAM: &str = "\u{feff}data: {\"choices\":[{}],\r\ndata: \"usage\":null}\r\r\n\n\n: c\ndata\n\n\
id: 7\rretry: 10\rdata:{\"choices\" : [ ] ,\rdata: \"usage\" : {\"prompt_tokens\":2.0,\rdata:\"completion_tokens\":3}}\r\n\r\n\
datum: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":9}}\n\ndata:[DONE]\r\r";

const CHAT: Usage = usage(19, 10, 7, 4);
const RESPONSES: Usage = usage(36, 87, 30, 64);
const MESSAGES: Usage = written(usage(1105, 12, 1000, 0), 100, 0);

const fn usage(input: u64, output: u64, cached: u64, reasoning: u64) -> Usage {
    Usage {
        input,
        output,
        cached,
        reasoning,
        cache_written: 0,
        cache_written_1h: 0,
        audio_seconds: 0,
        pictures: 0,
    }
}

const fn written(usage: Usage, cache_written: u64, cache_written_1h: u64) -> Usage {
    Usage {
        cache_written,
        cache_written_1h,
        ..usage
    }
}

/// The event of [`CHAT_STREAM`] that only says the usage.
fn extra_event() -> &'static str {
    let events: Vec<&str> = CHAT_STREAM.split_inclusive("\n\n").collect();
    events[events.len() - 2]
}

/// A whole response, each chunk of which came by itself.
struct Read {
    passed: Vec<u8>,
    usage: Option<Usage>,
    volume: Volume,
    finished: bool,
    most_held: usize,
}

fn read_chunks<'c>(
    kind: Option<Kind>,
    extra: UsageEvent,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> Read {
    let mut reader = Reader::new(kind, extra);
    let (mut passed, mut most_held) = (Vec::new(), 0);
    let mut pass = |reader: &mut Reader, chunk: &[u8], end| {
        match reader.push(chunk, end) {
            Chunk::Unchanged => passed.extend_from_slice(chunk),
            Chunk::Replaced(bytes) => passed.extend_from_slice(&bytes),
        }
        most_held = most_held.max(reader.held());
    };
    for chunk in chunks {
        pass(&mut reader, chunk, false);
    }
    pass(&mut reader, b"", true);
    Read {
        passed,
        usage: reader.usage(),
        volume: reader.volume(),
        finished: reader.finished(),
        most_held,
    }
}

fn read(kind: Option<Kind>, extra: UsageEvent, response: impl AsRef<[u8]>) -> Read {
    read_chunks(kind, extra, [response.as_ref()])
}

fn body(json: impl AsRef<[u8]>) -> Option<Usage> {
    read(JSON, UsageEvent::Pass, json).usage
}

fn stream(events: impl AsRef<[u8]>) -> Option<Usage> {
    read(EVENTS, UsageEvent::Pass, events).usage
}

/// Asserts that `response` read in these chunks is the same as read at once.
fn same(
    kind: Option<Kind>,
    extra: UsageEvent,
    response: &[u8],
    chunks: &[&[u8]],
) -> Result<(), TestCaseError> {
    let whole = read(kind, extra, response);
    let split = read_chunks(kind, extra, chunks.iter().copied());
    prop_assert_eq!(
        String::from_utf8_lossy(&split.passed),
        String::from_utf8_lossy(&whole.passed)
    );
    prop_assert_eq!(split.usage, whole.usage);
    prop_assert_eq!(split.volume, whole.volume);
    prop_assert_eq!(split.finished, whole.finished);
    prop_assert!(split.most_held <= Reader::MAX_HELD);
    Ok(())
}

fn split_everywhere(kind: Option<Kind>, response: &[u8]) {
    for extra in [UsageEvent::Pass, UsageEvent::Strip] {
        for at in 0..=response.len() {
            let (one, two) = response.split_at(at);
            same(kind, extra, response, &[one, two]).unwrap();
        }
        let bytes: Vec<&[u8]> = response.chunks(1).collect();
        same(kind, extra, response, &bytes).unwrap();
    }
}

/// Splits `response` at these places, taken modulo its length.
fn split_at<'r>(response: &'r [u8], places: &[usize]) -> Vec<&'r [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place % (response.len() + 1)).collect();
    places.extend([0, response.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &response[pair[0]..pair[1]])
        .collect()
}

#[test]
fn each_endpoints_body() {
    for (json, expected) in [
        (CHAT_BODY, CHAT),
        (RESPONSES_BODY, RESPONSES),
        (MESSAGES_BODY, MESSAGES),
        (EMBEDDINGS_BODY, usage(8, 0, 0, 0)),
        (TRANSCRIPTION_BODY, usage(14, 45, 0, 0)),
    ] {
        let read = read(JSON, UsageEvent::Strip, json);
        assert_eq!((read.usage, read.finished), (Some(expected), true), "{json}");
        assert_eq!(read.passed, json.as_bytes());
        assert_eq!(read.volume.bytes, json.len() as u64);
        split_everywhere(JSON, json.as_bytes());
    }
}

#[test]
fn each_endpoints_stream() {
    for (events, expected, volume) in [
        (CHAT_STREAM, CHAT, 5),
        (CONTINUOUS_STREAM, usage(3, 2, 0, 0), 2),
        (RESPONSES_STREAM, RESPONSES, 3),
        (MESSAGES_STREAM, MESSAGES, 5),
        (MIXED_ENDS_STREAM, usage(2, 3, 0, 0), 2),
    ] {
        let read = read(EVENTS, UsageEvent::Pass, events);
        assert_eq!((read.usage, read.finished), (Some(expected), true), "{events}");
        assert_eq!(read.passed, events.as_bytes());
        assert_eq!(read.volume.events, volume, "{events}");
        split_everywhere(EVENTS, events.as_bytes());
    }
}

#[test]
fn only_the_extra_event_is_taken_out() {
    let chat = read(EVENTS, UsageEvent::Strip, CHAT_STREAM);
    assert_eq!(
        String::from_utf8(chat.passed).unwrap(),
        CHAT_STREAM.replace(extra_event(), "")
    );
    assert_eq!(chat.usage, Some(CHAT));
    for events in [CONTINUOUS_STREAM, RESPONSES_STREAM, MESSAGES_STREAM] {
        assert_eq!(read(EVENTS, UsageEvent::Strip, events).passed, events.as_bytes());
    }
    let mixed = read(EVENTS, UsageEvent::Strip, MIXED_ENDS_STREAM).passed;
    let extra = MIXED_ENDS_STREAM.find("id: 7").unwrap();
    let behind = MIXED_ENDS_STREAM.find("datum").unwrap();
    assert_eq!(
        mixed,
        [&MIXED_ENDS_STREAM[..extra], &MIXED_ENDS_STREAM[behind..]]
            .concat()
            .into_bytes()
    );
}

#[test]
fn whole_events_pass_as_they_are_and_a_part_waits_for_the_rest() {
    let mut reader = Reader::new(EVENTS, UsageEvent::Strip);
    assert_eq!(reader.push(b"data: 1\n\ndata: 2\n\n", false), Chunk::Unchanged);
    assert_eq!(
        reader.push(b"data: 3\n\nda", false),
        Chunk::Replaced(b"data: 3\n\n".to_vec())
    );
    assert_eq!(reader.push(b"ta: 4\n", false), Chunk::Replaced(Vec::new()));
    assert_eq!(reader.held(), "data: 4\n".len());
    assert_eq!(
        reader.push(b"\ndata: 5\n\n", false),
        Chunk::Replaced(b"data: 4\n\ndata: 5\n\n".to_vec())
    );
    assert_eq!(
        reader.push(b"data: 6", true),
        Chunk::Replaced(b"data: 6".to_vec())
    );

    let mut reader = Reader::new(EVENTS, UsageEvent::Pass);
    assert_eq!(reader.push(b"data: 1\n\ndata", false), Chunk::Unchanged);
}

#[test]
fn a_stream_that_breaks_off_says_how_far_it_came() {
    let cut = CHAT_STREAM.find(extra_event()).unwrap();
    let broken = read(EVENTS, UsageEvent::Strip, &CHAT_STREAM[..cut + 30]);
    assert_eq!(
        broken.passed,
        &CHAT_STREAM.as_bytes()[..cut + 30],
        "nothing is lost"
    );
    assert_eq!(
        (broken.usage, broken.finished, broken.volume.events),
        (None, false, 5)
    );
    let text: usize = CHAT_STREAM[..cut + 30]
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(str::len)
        .sum();
    assert_eq!(broken.volume.bytes, text as u64);
}

#[test]
fn a_report_without_its_blank_line_is_read_and_passes() {
    let end = CHAT_STREAM.find("\n\ndata: [DONE]").unwrap();
    let read = read(EVENTS, UsageEvent::Strip, &CHAT_STREAM[..end]);
    assert_eq!(
        (read.usage, read.passed),
        (Some(CHAT), CHAT_STREAM.as_bytes()[..end].to_vec())
    );
}

#[test]
fn every_way_to_end_a_stream_is_known() {
    for end in [
        "data: [DONE]\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{}}\n\n",
        "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{}}}\n\n",
        "data: {\"type\":\"transcript.text.done\",\"usage\":{\"type\":\"tokens\"}}\n\n",
    ] {
        assert!(read(EVENTS, UsageEvent::Pass, end).finished, "{end}");
    }
    for going_on in [
        "data: {\"type\":\"response.created\"}\n\n",
        "event: message_stop\n\n",
        "data: [done]\n\n",
    ] {
        assert!(!read(EVENTS, UsageEvent::Pass, going_on).finished, "{going_on}");
    }
}

#[test]
fn what_can_not_be_so_is_no_report() {
    for bad in [
        "-1",
        "1.5",
        "\"5\"",
        "true",
        "[5]",
        "{}",
        "9007199254740993",
        "1e300",
        "1e999",
        "18446744073709551616",
    ] {
        for json in [
            format!(r#"{{"usage":{{"prompt_tokens":{bad},"completion_tokens":1}}}}"#),
            format!(
                r#"{{"usage":{{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{{"cached_tokens":{bad}}}}}}}"#
            ),
        ] {
            assert_eq!(body(&json), None, "{json}");
            assert_eq!(stream(format!("data: {json}\n\n")), None, "{json}");
        }
    }
    for usage in [
        "null",
        "5",
        "[1,2]",
        "{}",
        r#"{"prompt_tokens":1}"#,
        r#"{"type":"duration","seconds":3}"#,
        r#"{"prompt_tokens":3,"total_tokens":2}"#,
        r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":[1]}"#,
    ] {
        assert_eq!(body(format!(r#"{{"usage":{usage}}}"#)), None, "{usage}");
        assert_eq!(
            stream(format!("data: {{\"usage\":{usage}}}\n\n")),
            None,
            "{usage}"
        );
    }
    let large = r#"{"usage":{"prompt_tokens":9007199254740992,"completion_tokens":1e3}}"#;
    assert_eq!(body(large), Some(usage(1 << 53, 1000, 0, 0)));
}

#[test]
fn a_bad_report_undoes_the_one_before_and_a_good_one_mends_it() {
    let good = r#"data: {"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let bad = r#"data: {"usage":{"prompt_tokens":1,"completion_tokens":-2}}"#;
    assert_eq!(stream(format!("{good}\n\n{bad}\n\n")), None);
    assert_eq!(stream(format!("{bad}\n\n{good}\n\n")), Some(usage(1, 2, 0, 0)));
}

#[test]
fn parts_are_told_from_the_whole() {
    for (counts, expected) in [
        // xAI's reasoning is not in its completion; everyone else's is.
        (
            r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":399,"completion_tokens_details":{"reasoning_tokens":386}}"#,
            usage(12, 387, 0, 386),
        ),
        (
            r#"{"prompt_tokens":12,"completion_tokens":400,"total_tokens":412,"completion_tokens_details":{"reasoning_tokens":386}}"#,
            usage(12, 400, 0, 386),
        ),
        // A translating gateway's: the prompt has the cache in it.
        (
            r#"{"prompt_tokens":100,"completion_tokens":1,"cache_read_input_tokens":40}"#,
            usage(100, 1, 40, 0),
        ),
        (
            r#"{"input_tokens":100,"output_tokens":1,"input_tokens_details":{"cached_tokens":40},"cache_read_input_tokens":40}"#,
            usage(100, 1, 40, 0),
        ),
        // No part is larger than its whole.
        (
            r#"{"prompt_tokens":5,"completion_tokens":6,"prompt_tokens_details":{"cached_tokens":50},"completion_tokens_details":{"reasoning_tokens":60}}"#,
            usage(5, 6, 5, 6),
        ),
        (
            r#"{"prompt_tokens":5,"completion_tokens":6,"prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":null}}"#,
            usage(5, 6, 0, 0),
        ),
    ] {
        assert_eq!(
            body(format!(r#"{{"usage":{counts}}}"#)),
            Some(expected),
            "{counts}"
        );
    }
}

/// As they stand in answers of each; `docs/dialects.md`.
#[test]
fn each_dialects_usage() {
    for (who, counts, expected) in [
        (
            "vLLM",
            r#"{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10,"prompt_tokens_details":null}"#,
            usage(7, 10, 0, 0),
        ),
        (
            "SGLang",
            r#"{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":3},"reasoning_tokens":4}"#,
            usage(7, 10, 3, 0),
        ),
        (
            "llama.cpp",
            r#"{"completion_tokens":10,"prompt_tokens":7,"total_tokens":17}"#,
            usage(7, 10, 0, 0),
        ),
        (
            "TGI",
            r#"{"prompt_tokens":7,"completion_tokens":10,"total_tokens":17}"#,
            usage(7, 10, 0, 0),
        ),
        (
            "LiteLLM for Anthropic",
            r#"{"completion_tokens":10,"prompt_tokens":107,"total_tokens":117,"prompt_tokens_details":{"cached_tokens":60},"cache_creation_input_tokens":40,"cache_read_input_tokens":60}"#,
            written(usage(107, 10, 60, 0), 40, 0),
        ),
        (
            "DeepSeek",
            r#"{"prompt_tokens":100,"completion_tokens":30,"total_tokens":130,"prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":20},"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}"#,
            usage(100, 30, 64, 20),
        ),
        (
            "Mistral",
            r#"{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10,"num_cached_tokens":0}"#,
            usage(7, 10, 0, 0),
        ),
        (
            "Gemini",
            r#"{"completion_tokens":10,"prompt_tokens":7,"total_tokens":30}"#,
            usage(7, 23, 0, 0),
        ),
        (
            "xAI",
            r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94,"audio_tokens":0},"num_sources_used":0}"#,
            usage(32, 103, 0, 94),
        ),
        (
            "OpenRouter",
            r#"{"prompt_tokens":7,"completion_tokens":10,"total_tokens":17,"cost":0.00014,"is_byok":false,"prompt_tokens_details":{"cached_tokens":0},"cost_details":{"upstream_inference_cost":null}}"#,
            usage(7, 10, 0, 0),
        ),
        (
            "Anthropic",
            r#"{"input_tokens":5,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"cache_creation":{"ephemeral_5m_input_tokens":60,"ephemeral_1h_input_tokens":40},"output_tokens":12,"service_tier":"standard","server_tool_use":{"web_search_requests":1}}"#,
            written(usage(1105, 12, 1000, 0), 100, 40),
        ),
        (
            "OpenAI images",
            r#"{"input_tokens":50,"output_tokens":4160,"total_tokens":4210,"input_tokens_details":{"image_tokens":0,"text_tokens":50}}"#,
            usage(50, 4160, 0, 0),
        ),
    ] {
        assert_eq!(
            body(format!(r#"{{"id":"x","usage":{counts}}}"#)),
            Some(expected),
            "{who}"
        );
        let last = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}],\"usage\":{counts}}}\n\ndata: [DONE]\n\n"
        );
        assert_eq!(stream(last), Some(expected), "{who}");
    }
}

#[test]
fn seconds_of_sound_are_read() {
    for (counts, seconds, unusable) in [
        (r#"{"type":"duration","seconds":3}"#, 3, false),
        (r#"{"type":"duration","seconds":3.2}"#, 4, false),
        (r#"{"type":"duration","seconds":null}"#, 0, false),
        (r#"{"type":"duration","seconds":-1}"#, 0, true),
        (r#"{"type":"duration","seconds":1e12}"#, 0, true),
        (r#"{"type":"duration","seconds":"3"}"#, 0, true),
    ] {
        let json = format!(r#"{{"text":"hello","usage":{counts}}}"#);
        for (kind, text) in [(JSON, json.clone()), (EVENTS, format!("data: {json}\n\n"))] {
            let mut reader = Reader::new(kind, UsageEvent::Pass);
            reader.push(text.as_bytes(), true);
            assert_eq!(
                (reader.audio_seconds(), reader.unusable(), reader.usage()),
                (seconds, unusable, None),
                "{counts}"
            );
        }
    }
}

#[test]
fn names_with_escapes_and_repeated_members() {
    let counts = r#"{"prompt_tokens":1,"completion_tokens":2}"#;
    assert_eq!(
        body(format!(r#"{{"\u0075sage":{counts}}}"#)),
        Some(usage(1, 2, 0, 0))
    );
    assert_eq!(body(format!(r#"{{"usage\u0000":{counts}}}"#)), None);
    assert_eq!(
        body(format!(r#"{{"usage":{{}},"usage":{counts}}}"#)),
        Some(usage(1, 2, 0, 0))
    );
    assert_eq!(body(format!(r#"{{"usage":{counts},"usage":null}}"#)), None);
    assert_eq!(
        body(
            r#"{"usage":{"prompt_tokens":7,"prompt_token\u0073":1,"completion_tokens":9,"completion_tokens":2}}"#
        ),
        Some(usage(1, 2, 0, 0))
    );
}

#[test]
fn a_usage_is_found_in_whichever_event_of_a_chunk() {
    let token = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    let null = "data: {\"choices\":[{}],\"usage\":null}\n\n";
    let report = |input: u64| {
        format!(
            "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":2}}}}\n\n"
        )
    };
    let events = [token, &report(1), token, null, &report(5), null, token];
    for shown in 1..=events.len() {
        let text = events.get(..shown).unwrap().concat();
        let expected = match shown {
            1 => None,
            2..=4 => Some(usage(1, 2, 0, 0)),
            _ => Some(usage(5, 2, 0, 0)),
        };
        assert_eq!(stream(&text), expected, "{text}");
        split_everywhere(Some(Kind::Events), text.as_bytes());
    }
}

#[test]
fn two_lines_without_their_blank_one_are_no_single_line() {
    let stream_end = "event: message_delta\ndata: {\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}\n";
    assert_eq!(stream(stream_end), Some(usage(3, 4, 0, 0)));
    assert_eq!(stream(stream_end.replace('\n', "\r\n")), Some(usage(3, 4, 0, 0)));
}

#[test]
fn a_member_behind_usage_and_a_name_that_ends_like_it() {
    let counts = r#"{"prompt_tokens":1,"completion_tokens":2}"#;
    assert_eq!(
        body(format!(r#"{{"usage":{counts},"n":1}}"#)),
        Some(usage(1, 2, 0, 0))
    );
    let long = format!(r#"{{"{}\"usage":{counts}}}"#, "x".repeat(5_000));
    let (one, two) = long.split_at(long.find(r#""usage""#).unwrap());
    assert_eq!(
        read_chunks(JSON, UsageEvent::Pass, [one.as_bytes(), two.as_bytes()]).usage,
        None
    );
}

#[test]
fn a_byte_order_mark_is_skipped_at_the_beginning_only() {
    let report = r#"data: {"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    assert_eq!(stream(format!("\u{feff}{report}\n\n")), Some(usage(1, 2, 0, 0)));
    assert_eq!(stream(format!(":\n\n\u{feff}{report}\n\n")), None);
}

#[test]
fn a_list_is_no_event_of_ours() {
    let list = "data: [null,[],{\"prompt_tokens\":1,\"completion_tokens\":2,\"usage\":1},null,null]\n\n";
    let read = read(EVENTS, UsageEvent::Strip, list);
    assert_eq!((read.usage, read.passed), (None, list.as_bytes().to_vec()));
}

#[test]
fn the_line_feed_of_an_event_too_long_passes_too() {
    let long = format!("data: {}\r\n\r\n", "y".repeat(Reader::MAX_HELD));
    let (one, feed) = long.as_bytes().split_at(long.len() - 1);
    let extra = extra_event().replace('\n', "\r\n");
    let read = read_chunks(EVENTS, UsageEvent::Strip, [extra.as_bytes(), one, feed]);
    assert_eq!(String::from_utf8(read.passed).unwrap(), long);
}

#[test]
fn a_body_cut_short_or_broken_says_nothing() {
    for end in 0..CHAT_BODY.len() {
        assert_eq!(body(&CHAT_BODY[..end]), None);
    }
    for broken in [
        format!("[{CHAT_BODY}]"),
        format!("{CHAT_BODY}{CHAT_BODY}"),
        format!("x{CHAT_BODY}"),
        CHAT_BODY.replace("\"usage\":", "\"usage\" "),
    ] {
        assert_eq!(body(broken), None);
    }
}

#[test]
fn a_byte_order_mark_hides_no_document() {
    assert_eq!(body(format!("\u{feff}{CHAT_BODY}")), body(CHAT_BODY));
    assert!(body(CHAT_BODY).is_some());
    split_everywhere(JSON, format!(" \u{feff}{CHAT_BODY}").as_bytes());
}

#[test]
fn a_document_a_line_is_read_as_a_stream() {
    let delta = "{\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n";
    let report =
        |output: u64| format!("{{\"usage\":{{\"prompt_tokens\":1,\"completion_tokens\":{output}}}}}\n");
    let lines = [delta, &report(1), delta, "\n", &report(3), delta].concat();
    for kind in [Some(Kind::Lines), JSON] {
        let said = read(kind, UsageEvent::Strip, &lines);
        assert_eq!(
            (said.usage, said.passed),
            (Some(usage(1, 3, 0, 0)), lines.clone().into_bytes())
        );
        split_everywhere(kind, lines.as_bytes());
        let marked = format!("\u{feff}{lines}");
        assert_eq!(
            read(kind, UsageEvent::Pass, &marked).usage,
            Some(usage(1, 3, 0, 0))
        );
    }
    let lines = read(Some(Kind::Lines), UsageEvent::Pass, &lines);
    assert_eq!(lines.volume.events, 5);
    // As events have them.
    let start =
        "{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n";
    let end = "{\"type\":\"message_delta\",\"usage\":{\"output_tokens\":7}}\n";
    let said = read(Some(Kind::Lines), UsageEvent::Pass, [start, end].concat());
    assert_eq!(said.usage, Some(usage(5, 7, 0, 0)));
    let sequence = format!("\u{1e}{delta}\u{1e}{}", report(2));
    assert_eq!(
        read(Some(Kind::Lines), UsageEvent::Pass, sequence).usage,
        Some(usage(1, 2, 0, 0))
    );
}

#[test]
fn a_usage_is_believed_only_where_it_can_stand() {
    let at = |endpoint, plain, content_type: &str| Kind::at(endpoint, plain, Some(content_type.as_bytes()));
    for endpoint in [Endpoint::Transcriptions, Endpoint::Translations] {
        for content_type in [
            "text/plain",
            "application/octet-stream",
            "text/vtt",
            "application/x-subrip",
            "",
        ] {
            assert_eq!(at(endpoint, false, content_type), None, "{content_type}");
            assert_eq!(at(endpoint, true, content_type), None, "{content_type}");
        }
        assert_eq!(at(endpoint, true, "application/json"), None);
        assert_eq!(at(endpoint, false, "application/json"), JSON);
        assert_eq!(at(endpoint, true, "text/event-stream"), EVENTS);
        assert_eq!(Kind::at(endpoint, false, None), None);
    }
    for endpoint in [
        Endpoint::Speech,
        Endpoint::ImagesGenerations,
        Endpoint::ImagesEdits,
        Endpoint::Embeddings,
    ] {
        assert_eq!(at(endpoint, false, "application/octet-stream"), None);
        assert_eq!(at(endpoint, false, "audio/pcm"), None);
        assert_eq!(at(endpoint, false, "application/json"), JSON);
        assert_eq!(at(endpoint, false, "text/event-stream"), EVENTS);
    }
    for endpoint in [
        Endpoint::Chat,
        Endpoint::Completions,
        Endpoint::Responses,
        Endpoint::Messages,
    ] {
        assert_eq!(at(endpoint, false, "text/plain"), JSON);
        assert_eq!(Kind::at(endpoint, false, None), JSON);
    }
}

#[test]
fn types() {
    let of = |content_type: &str| Kind::of(Some(content_type.as_bytes()));
    assert_eq!(of("application/json"), JSON);
    assert_eq!(of("Application/JSON ; charset=utf-8"), JSON);
    assert_eq!(of("text/event-stream;charset=utf-8"), EVENTS);
    for unread in ["audio/mpeg", "Image/png", "video/mp4; x", "text/html"] {
        assert_eq!(of(unread), None, "{unread}");
    }
    for other in ["text/plain", "application/octet-stream", "binary", ""] {
        assert_eq!(of(other), Some(Kind::Text), "{other}");
    }
    for lines in ["application/x-ndjson", "Application/JSONL; charset=utf-8"] {
        assert_eq!(of(lines), Some(Kind::Lines), "{lines}");
    }
    assert_eq!(Kind::of(None), Some(Kind::Text));
    let opaque = read(None, UsageEvent::Strip, CHAT_STREAM);
    assert_eq!(
        (opaque.usage, opaque.passed),
        (None, CHAT_STREAM.as_bytes().to_vec())
    );
    assert_eq!(opaque.volume.bytes, CHAT_STREAM.len() as u64);
}

#[test]
fn what_a_label_does_not_say_the_first_byte_does() {
    for (response, expected) in [
        (CHAT_STREAM, CHAT),
        (RESPONSES_STREAM, RESPONSES),
        (MESSAGES_STREAM, MESSAGES),
        (MIXED_ENDS_STREAM, usage(2, 3, 0, 0)),
        (CHAT_BODY, CHAT),
        (MESSAGES_BODY, MESSAGES),
    ] {
        for blank in ["", "\n", "\r\n \n"] {
            let response = format!("{blank}{response}");
            let read = read(JSON, UsageEvent::Pass, &response);
            assert_eq!((read.usage, read.finished), (Some(expected), true), "{response}");
            split_everywhere(JSON, response.as_bytes());
        }
    }
    let stripped = read(JSON, UsageEvent::Strip, format!("\n{CHAT_STREAM}")).passed;
    assert_eq!(
        String::from_utf8(stripped).unwrap(),
        format!("\n{}", CHAT_STREAM.replace(extra_event(), ""))
    );
}

#[test]
fn what_was_asked_for_goes_and_what_is_the_servers_own_stays() {
    let counts = r#"{"prompt_tokens":1,"completion_tokens":2}"#;
    let token = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    let passed = |data: &str| {
        let events = format!("{token}data: {data}\n\ndata: [DONE]\n\n");
        split_everywhere(EVENTS, events.as_bytes());
        let read = read(EVENTS, UsageEvent::Strip, &events);
        assert_eq!(read.usage, Some(usage(1, 2, 0, 0)), "{data}");
        let passed = String::from_utf8(read.passed).unwrap();
        let passed = passed
            .strip_prefix(token)
            .unwrap()
            .strip_suffix("data: [DONE]\n\n")
            .unwrap();
        passed
            .strip_prefix("data: ")
            .map(|data| data.trim_end().to_owned())
    };
    for extra in [
        // LiteLLM's.
        format!(
            r#"{{"id":"c","created":1,"model":"m","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{{}}}}],"usage":{counts}}}"#
        ),
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"role":"assistant","content":""}},"finish_reason":null,"logprobs":null}}],"usage":{counts}}}"#
        ),
        format!(
            r#"{{"choices":[{{"index":0,"text":"","finish_reason":null}}],"usage":{counts},"timings":null}}"#
        ),
        format!(r#"{{"choices": [ ], "usage" : {counts} , "service_tier":"default"}}"#),
    ] {
        assert_eq!(passed(&extra), None, "{extra}");
    }
    for (own, left) in [
        // llama.cpp's.
        (
            format!(r#"{{"choices":[],"object":"x","usage":{counts},"timings":{{"prompt_n":1}}}}"#),
            r#"{"choices":[],"object":"x","timings":{"prompt_n":1}}"#,
        ),
        (
            format!(r#"{{"usage" : {counts} , "choices":[],"timings":{{}}}}"#),
            r#"{ "choices":[],"timings":{}}"#,
        ),
        (
            format!(r#"{{"choices":[],"timings":{{}} , "usage":{counts} }}"#),
            r#"{"choices":[],"timings":{}  }"#,
        ),
    ] {
        assert_eq!(passed(&own).as_deref(), Some(left), "{own}");
    }
    // A choice that says something, and usage with it, is the server's own way.
    for own in [
        format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"stop"}}],"usage":{counts}}}"#),
        format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"x"}}}}],"usage":{counts}}}"#),
        format!(r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{}}]}}}}],"usage":{counts}}}"#),
    ] {
        assert_eq!(passed(&own), Some(own));
    }
}

/// `text` in each coding that is decoded.
fn coded(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write as _;
    let level = Compression::default();
    let mut gzip = GzEncoder::new(Vec::new(), level);
    let mut zlib = ZlibEncoder::new(Vec::new(), level);
    let mut raw = DeflateEncoder::new(Vec::new(), level);
    gzip.write_all(text).unwrap();
    zlib.write_all(text).unwrap();
    raw.write_all(text).unwrap();
    let gzip = gzip.finish().unwrap();
    vec![
        ("gzip", gzip.clone()),
        (" X-GZip", gzip),
        ("deflate", zlib.finish().unwrap()),
        ("deflate", raw.finish().unwrap()),
        (
            "zstd",
            ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest),
        ),
    ]
}

#[test]
fn what_is_compressed_is_read_and_passes_as_it_is() {
    for (kind, response, expected) in [
        (EVENTS, CHAT_STREAM, CHAT),
        (EVENTS, MESSAGES_STREAM, MESSAGES),
        (JSON, CHAT_BODY, CHAT),
        (JSON, RESPONSES_STREAM, RESPONSES),
    ] {
        for (coding, bytes) in coded(response.as_bytes()) {
            for chunk in [1, 7, 100, usize::MAX] {
                let mut reader = Reader::coded(kind, UsageEvent::Strip, Some(coding.as_bytes()));
                for chunk in bytes.chunks(chunk) {
                    assert_eq!(reader.push(chunk, false), Chunk::Unchanged);
                }
                reader.push(b"", true);
                assert_eq!(
                    (reader.usage(), reader.finished()),
                    (Some(expected), true),
                    "{coding}"
                );
            }
            // What came of it is known at any time.
            let mut reader = Reader::coded(kind, UsageEvent::Pass, Some(coding.as_bytes()));
            reader.push(&bytes[..bytes.len() - 30], false);
            assert!(reader.volume().bytes > 20, "{coding}: {:?}", reader.volume());
        }
    }
}

/// Each may fill a window: what is more of them is not decoded, and counts as what can't be.
#[test]
fn few_frames_of_zstd_are_decoded_at_once() {
    let coded = ruzstd::encoding::compress_to_vec(
        &br#"{"usage":{"prompt_tokens":7,"completion_tokens":9}}"#[..],
        ruzstd::encoding::CompressionLevel::Fastest,
    );
    let begin = || {
        let mut reader = Reader::coded(
            Kind::of(Some(b"application/json")),
            UsageEvent::Pass,
            Some(b"zstd"),
        );
        reader.push(&coded[..coded.len() - 1], false);
        reader
    };
    let held: Vec<Reader> = (0..100).map(|_| begin()).collect();
    let readers = held.into_iter().map(|mut reader| {
        reader.push(&coded[coded.len() - 1..], false);
        reader.push(b"", true);
        reader.usage().is_some()
    });
    let read: Vec<bool> = readers.collect();
    assert!(read[0] && !read[99], "{read:?}");
    let mut after = begin();
    after.push(&coded[coded.len() - 1..], true);
    assert!(after.usage().is_some(), "they count no more once they are gone");
}

#[test]
fn what_can_not_be_decoded_counts_as_more_than_its_bytes() {
    let whole = Volume {
        events: 0,
        bytes: 8 * CHAT_BODY.len() as u64,
        text: 0,
        least: 0,
    };
    for coding in ["br", "zstd", "gzip, gzip", "gzip", "zstd, gzip", "compress"] {
        let mut reader = Reader::coded(JSON, UsageEvent::Strip, Some(coding.as_bytes()));
        assert_eq!(reader.push(CHAT_BODY.as_bytes(), false), Chunk::Unchanged);
        reader.push(b"", true);
        assert_eq!((reader.usage(), reader.finished()), (None, false), "{coding}");
        assert_eq!(reader.volume(), whole, "{coding}");
    }
    for plain in [None, Some(&b" Identity "[..]), Some(b"")] {
        let mut reader = Reader::coded(JSON, UsageEvent::Pass, plain);
        reader.push(CHAT_BODY.as_bytes(), true);
        assert_eq!(reader.usage(), Some(CHAT));
    }
}

#[test]
fn what_grows_without_bounds_is_not_read_on() {
    let bomb = vec![b' '; 100 << 20];
    for (coding, bytes) in coded(&bomb) {
        let mut reader = Reader::coded(JSON, UsageEvent::Pass, Some(coding.as_bytes()));
        reader.push(&bytes, true);
        let most = (1 << 20) + 208 * bytes.len() as u64;
        assert!(reader.volume().bytes <= most, "{coding}");
    }
}

#[test]
fn a_line_without_end_passes_and_is_not_held() {
    let mut reader = Reader::new(EVENTS, UsageEvent::Strip);
    let chunk = vec![b'x'; 10_000];
    let mut passed = 0;
    for _ in 0..1_000 {
        match reader.push(&chunk, false) {
            Chunk::Unchanged => passed += chunk.len(),
            Chunk::Replaced(bytes) => passed += bytes.len(),
        }
        assert!(reader.held() <= Reader::MAX_HELD);
    }
    assert_eq!((passed, reader.held()), (10_000_000, 0));
    assert_eq!(
        reader.volume(),
        Volume {
            events: 0,
            bytes: 10_000_000,
            text: 10_000_000,
            least: 0,
        }
    );
}

#[test]
fn behind_an_event_too_long_the_next_is_read() {
    let long = format!("data: {}\r\n\r\n", "y".repeat(1 << 20));
    for events in [
        format!("{long}{CHAT_STREAM}"),
        format!("data: 1\n\n{long}\n{CHAT_STREAM}"),
        format!("{CHAT_STREAM}{long}"),
    ] {
        for chunk in [7, 4096, 65_537, usize::MAX] {
            let read = read_chunks(EVENTS, UsageEvent::Strip, events.as_bytes().chunks(chunk));
            assert_eq!(read.usage, Some(CHAT));
            assert_eq!(read.passed.len(), events.len() - extra_event().len());
            assert!(read.most_held <= Reader::MAX_HELD && read.volume.bytes > 1 << 20);
        }
    }
}

#[test]
fn the_longest_event_that_is_held() {
    let report = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let padded = |length: usize| {
        format!(
            "data: {report}{}\r\n\r\n",
            " ".repeat(length - report.len() - "data: \r\n\r".len())
        )
    };
    for length in [Reader::MAX_HELD, Reader::MAX_HELD + 1] {
        let usage = Some(usage(1, 2, 0, 0));
        let event = padded(length);
        let near = [1, 100, length - 1, length, length + 1].map(|at| event.as_bytes().split_at(at));
        assert_eq!(stream(&event), usage);
        for (one, two) in near {
            same(EVENTS, UsageEvent::Strip, event.as_bytes(), &[one, two]).unwrap();
        }
    }
}

/// Whatever stands around it: instructions that the answer repeats, a picture, an answer with the usage inside.
#[test]
fn an_event_of_any_size_is_read() {
    let much = "y\\\"usage\\\":{\\\"input_tokens\\\":9} \\u00e9{[".repeat(20_000);
    let counts = r#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":30},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":123}"#;
    let completed = |response: &str| {
        format!(
            "event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":9,\"response\":{{{response}}}}}\n\n"
        )
    };
    for (events, ends) in [
        (
            completed(&format!(
                r#""instructions":"{much}","output":[{{"usage":{{"input_tokens":1}}}}],"usage":{counts}"#
            )),
            true,
        ),
        (
            completed(&format!(r#""usage":{counts},"output":[{{"content":"{much}"}}]"#)),
            true,
        ),
        (
            completed(&format!(
                r#""error":null,"usage":{counts},"instructions":"{much}""#
            ))
            .replace("event: response.completed\n", ""),
            true,
        ),
        (
            format!(
                "event: image_generation.completed\r\ndata: {{\"type\":\"image_generation.completed\",\"b64_json\":\"{}\",\r\ndata:\"usage\":{counts}}}\r\n\r\n",
                "QUJD".repeat(200_000)
            ),
            true,
        ),
        (
            format!("\u{feff}data: {{\"message\":{{\"content\":\"{much}\",\"usage\":{counts}}}}}\n\n"),
            false,
        ),
        (
            format!("data: {{\"choices\":[],\"x\":\"{much}\",\"usage\":{counts},\"y\":\"{much}\"}}"),
            false,
        ),
    ] {
        for chunk in [usize::MAX, 65_536, 10_007, 997] {
            let read = read_chunks(EVENTS, UsageEvent::Strip, events.as_bytes().chunks(chunk));
            assert_eq!(
                (read.usage, read.finished),
                (Some(RESPONSES), ends),
                "{}",
                &events[..80]
            );
            assert_eq!(read.passed.len(), events.len());
            assert_eq!(read.volume.events, 1);
            assert!(read.most_held <= Reader::MAX_HELD, "{}", read.most_held);
        }
    }
    // Nothing of it is held once it is too long.
    let mut reader = Reader::new(EVENTS, UsageEvent::Pass);
    let long = completed(&format!(r#""instructions":"{much}""#));
    reader.push(&long.as_bytes()[..500_000], false);
    assert!(reader.held() < 100, "{}", reader.held());
}

#[test]
fn what_went_wrong_is_seen() {
    let padding = "y".repeat(100_000);
    let json = |json: &str| {
        let mut reader = Reader::new(JSON, UsageEvent::Pass);
        reader.push(json.as_bytes(), true);
        reader.errored()
    };
    let events = |events: &str| {
        let mut reader = Reader::new(EVENTS, UsageEvent::Pass);
        for chunk in events.as_bytes().chunks(4_099) {
            reader.push(chunk, false);
        }
        reader.push(b"", true);
        reader.errored()
    };
    for wrong in [
        r#"{"error":{"message":"no","code":500}}"#,
        r#"{"error":"no","error_type":"generation"}"#,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"no"}}"#,
        r#"{"id":"x","choices":[{"delta":{},"finish_reason":"error"}],"error":{"code":502}}"#,
        r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error"}}}"#,
        r#"{"object":"error","message":"no","code":400}"#,
    ] {
        let long = wrong.replacen('{', &format!("{{\"x\":\"{padding}\","), 1);
        for data in [wrong, &long] {
            assert!(events(&format!("data: {{}}\n\ndata: {data}\n\n")), "{data}");
            assert!(events(&format!("data: {data}")), "{data}");
            if data.contains("\"error\":") && !data.contains("response.failed") {
                assert!(json(data), "{data}");
            }
        }
    }
    assert!(json(
        r#"{"object":"response","status":"failed","error":{"code":"server_error"},"usage":null}"#
    ));
    assert!(events("event: error\ndata: no\n\n"));
    assert!(events(&format!("event: error\ndata: {padding}\n\n")));
    assert!(events("error: {\"code\":500,\"message\":\"no\"}\n\n"));
    for right in [
        CHAT_STREAM,
        CONTINUOUS_STREAM,
        RESPONSES_STREAM,
        MESSAGES_STREAM,
        MIXED_ENDS_STREAM,
    ] {
        assert!(!events(right), "{right}");
    }
    for right in [
        r#"{"error":null,"choices":[]}"#,
        r#"{"error":false}"#,
        r#"{"errors":{"a":1},"x":{"error":{"a":1}}}"#,
        r#"{"choices":[{"delta":{"content":"\"error\": {}"}}]}"#,
        r#"{"type":"response.created","response":{"error":null,"status":"in_progress"}}"#,
    ] {
        assert!(!json(right), "{right}");
        assert!(!events(&format!("data: {right}\n\n")), "{right}");
        let long = right.replacen('{', &format!("{{\"x\":\"{padding}\","), 1);
        assert!(!events(&format!("data: {long}\n\n")), "{right}");
    }
}

#[test]
fn hostile_documents() {
    let deep = format!(
        r#"{{"a":{}{},"usage":{{"prompt_tokens":1,"completion_tokens":2}}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(body(&deep), Some(usage(1, 2, 0, 0)));
    let deep_usage = format!(r#"{{"usage":{}{}}}"#, "[".repeat(2_000), "]".repeat(2_000));
    assert_eq!(body(&deep_usage), None);
    assert_eq!(stream(format!("data: {deep_usage}\n\n")), None);
    let long = format!(
        r#"{{"usage":{{"prompt_tokens":1,"completion_tokens":2,"x":"{}"}}}}"#,
        "x".repeat(5_000)
    );
    assert_eq!(body(&long), None);
    same(
        JSON,
        UsageEvent::Pass,
        long.as_bytes(),
        &[&long.as_bytes()[..50], &long.as_bytes()[50..]],
    )
    .unwrap();
    let never_ending = format!(r#"{{"usage":"{}"#, "x".repeat(100_000));
    assert!(read_chunks(JSON, UsageEvent::Pass, never_ending.as_bytes().chunks(1000)).most_held <= 4096);
}

#[test]
fn bytes_that_are_no_text_pass_and_the_stream_goes_on() {
    let junk: &[u8] =
        b"data: \0\xff\"usage\"\xc3\n\ndata: {\"usage\":{\"prompt_tokens\":\xff}}\n\nda\0ta: \"usage\"\n\n";
    let events = [junk, CHAT_STREAM.as_bytes()].concat();
    let read = read(EVENTS, UsageEvent::Strip, &events);
    assert_eq!(read.usage, Some(CHAT));
    assert!(read.passed.starts_with(junk));
    split_everywhere(EVENTS, &events);
}

/// Removal done the other way about: the whole stream as text, cut at blank lines.
fn strip(events: &str) -> String {
    let is_extra = |event: &str| {
        let data: Vec<&str> = event
            .split('\n')
            .filter_map(|line| line.strip_prefix("data: "))
            .collect();
        serde_json::from_str::<Value>(&data.join("\n"))
            .is_ok_and(|data| data["choices"] == json!([]) && data["usage"].is_object())
    };
    let complete = events.rfind("\n\n").map_or(0, |at| at + 2);
    let kept = events[..complete]
        .split_inclusive("\n\n")
        .filter(|event| !is_extra(event));
    kept.chain([&events[complete..]]).collect()
}

fn some_event() -> impl Strategy<Value = String> {
    let data = prop_oneof![
        Just(r#"{"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":5}}"#.to_owned()),
        Just("{\"choices\": [ ],\ndata: \"usage\" : {\"prompt_tokens\":-4}}".to_owned()),
        Just(r#"{"choices":[],"usage":null}"#.to_owned()),
        Just(r#"{"choices":[{}],"usage":{"prompt_tokens":6,"completion_tokens":7}}"#.to_owned()),
        Just(r#"{"x":{"choices":[],"usage":{}}}"#.to_owned()),
        Just("[DONE]".to_owned()),
        r#"[a-z"{}:\\]{0,20}"#,
    ];
    let before = prop_oneof![Just(""), Just(": comment\n"), Just("event: x\n"), Just("\n\n")];
    (before, data).prop_map(|(before, data)| format!("{before}data: {data}\n\n"))
}

fn some_json() -> impl Strategy<Value = Value> {
    let count = prop_oneof![
        (0_u64..100).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!("7"))
    ];
    let counts = (count.clone(), count)
        .prop_map(|(input, output)| json!({"prompt_tokens": input, "completion_tokens": output}));
    let text = prop_oneof![
        r#"[a-z"\\{}\[\]:, é]{0,12}"#,
        Just(r#","usage":{"prompt_tokens":1,"completion_tokens":1}"#.to_owned())
    ];
    let leaf = prop_oneof![
        text.prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(true)),
        counts
    ];
    let name = || prop_oneof![Just("usage".to_owned()), r#"[a-z"\\]{0,6}"#];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What the tree of the document says, for the members that `some_json` writes.
fn by_tree(document: &Value) -> Option<Usage> {
    let count = |name: &str| {
        let count = document
            .as_object()?
            .get("usage")?
            .as_object()?
            .get(name)?
            .as_u64()?;
        (count <= 1 << 53).then_some(count)
    };
    Some(usage(count("prompt_tokens")?, count("completion_tokens")?, 0, 0))
}

/// The document with `u` written as an escape.
fn escaped(json: &str) -> String {
    json.replace("usage", r"\u0075sage")
}

proptest! {
    #[test]
    fn no_coded_bytes_panic(which in 0..5_usize, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), places: Vec<usize>) {
        let (coding, mut bytes) = coded(CHAT_STREAM.as_bytes()).swap_remove(which);
        for (at, byte) in &changes {
            *at.get_mut(&mut bytes) = *byte;
        }
        let mut reader = Reader::coded(EVENTS, UsageEvent::Strip, Some(coding.as_bytes()));
        for chunk in split_at(&bytes, &places) {
            prop_assert_eq!(reader.push(chunk, false), Chunk::Unchanged);
        }
        reader.push(b"", true);
        if changes.is_empty() {
            prop_assert_eq!(reader.usage(), Some(CHAT));
        }
    }

    #[test]
    fn any_splits_are_as_none(which in 0..5_usize, drop: bool, places: Vec<usize>) {
        let response = [CHAT_STREAM, CONTINUOUS_STREAM, RESPONSES_STREAM, MESSAGES_STREAM, MIXED_ENDS_STREAM][which].as_bytes();
        let extra = if drop { UsageEvent::Strip } else { UsageEvent::Pass };
        same(EVENTS, extra, response, &split_at(response, &places))?;
    }

    #[test]
    fn what_is_taken_out_is_what_the_whole_text_says(events in prop::collection::vec(some_event(), 0..8), tail in "[a-z: ]{0,9}", places: Vec<usize>) {
        let text = events.concat() + &tail;
        let read = read_chunks(EVENTS, UsageEvent::Strip, split_at(text.as_bytes(), &places));
        prop_assert_eq!(String::from_utf8(read.passed).unwrap(), strip(&text));
        let crs = text.replace('\n', "\r\n");
        let read = read_chunks(EVENTS, UsageEvent::Strip, split_at(crs.as_bytes(), &places));
        prop_assert_eq!(String::from_utf8(read.passed).unwrap(), strip(&text).replace('\n', "\r\n"));
    }

    #[test]
    fn any_bytes_pass(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r'), Just(b':')], 0..200), places: Vec<usize>, drop: bool) {
        let extra = if drop { UsageEvent::Strip } else { UsageEvent::Pass };
        for kind in [JSON, EVENTS, None] {
            same(kind, extra, &bytes, &split_at(&bytes, &places))?;
            prop_assert_eq!(&read(kind, extra, &bytes).passed, &bytes);
        }
    }

    #[test]
    fn the_tree_says_the_same(document in some_json(), pretty: bool, places: Vec<usize>) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
        let expected = by_tree(&document);
        prop_assert_eq!(body(&text), expected, "{}", text);
        prop_assert_eq!(body(escaped(&text)), expected, "{}", text);
        same(JSON, UsageEvent::Pass, text.as_bytes(), &split_at(text.as_bytes(), &places))?;
        if !pretty {
            prop_assert_eq!(stream(format!("data: {text}\n\n")), expected);
        }
    }
}

#[test]
fn what_went_by_since_the_last_report_is_known() {
    let unreported = |stream: &str, events: usize| {
        let mut reader = Reader::new(EVENTS, UsageEvent::Pass);
        let end = stream.match_indices("\n\n").nth(events - 1).unwrap().0 + 2;
        reader.push(&stream.as_bytes()[..end], false);
        (
            reader.usage().map(|usage| usage.output),
            reader.unreported().events,
        )
    };
    // Anthropic's first event has one token, and the words are in those after it.
    assert_eq!(unreported(MESSAGES_STREAM, 1), (Some(1), 0));
    assert_eq!(unreported(MESSAGES_STREAM, 3), (Some(1), 2));
    assert_eq!(unreported(MESSAGES_STREAM, 4), (Some(12), 0));
    // Null is no report.
    assert_eq!(unreported(CHAT_STREAM, 4), (None, 3));
    assert_eq!(unreported(CHAT_STREAM, 6), (Some(10), 0));
    let mut reader = Reader::new(JSON, UsageEvent::Pass);
    reader.push(b"{\"choices\":", false);
    assert_eq!(
        reader.unreported(),
        Volume {
            events: 0,
            bytes: 11,
            text: 0,
            least: 0,
        }
    );
}
