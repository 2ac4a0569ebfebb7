//! `/v1/audio/*`: bytes that stand for speech, and what was "heard" in a file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::super::answer::{Answer, Counts, Piece, Plan, event, with_usage};

/// Bytes of "sound" for one token.
const FRAME: usize = 128;

/// OpenAI bills this model by the seconds it heard, so its usage says seconds.
const BY_DURATION: &str = "whisper-1";

fn usage(counts: Counts) -> Value {
    json!({
        "type": "tokens",
        "input_tokens": counts.input,
        "input_token_details": {"text_tokens": 0, "audio_tokens": counts.input},
        "output_tokens": counts.output,
        "total_tokens": counts.total(),
    })
}

pub(super) fn speech(plan: &Plan) -> Answer {
    let frame = Bytes::from_static(&[0xff; FRAME]);
    if plan.ask.stream {
        let audio = STANDARD.encode(&frame);
        let delta = move |_| event(&json!({"type": "speech.audio.delta", "audio": audio}), 1);
        let usage = plan
            .usage
            .map(|c| json!({"input_tokens": c.input, "output_tokens": c.output, "total_tokens": c.total()}));
        let done = event(&with_usage(json!({"type": "speech.audio.done"}), usage), 0);
        return Answer::events((0..plan.length).map(delta).chain([done]));
    }
    let frames = (0..plan.length).map(move |_| Piece {
        bytes: frame.clone(),
        tokens: 1,
    });
    Answer {
        content_type: "audio/mpeg",
        ..Answer::events(frames)
    }
}

pub(super) fn transcription(plan: Plan) -> Answer {
    if plan.ask.stream {
        let done = json!({"type": "transcript.text.done", "text": plan.text()});
        let done = event(&with_usage(done, plan.usage.map(usage)), 0);
        let deltas = plan
            .words()
            .map(|w| event(&json!({"type": "transcript.text.delta", "delta": w}), 1));
        return Answer::events(deltas.chain([done]));
    }
    let usage = plan.usage.map(|counts| {
        if plan.model == BY_DURATION {
            json!({"type": "duration", "seconds": counts.input})
        } else {
            usage(counts)
        }
    });
    heard(&plan, usage)
}

pub(super) fn translation(plan: &Plan) -> Answer {
    heard(plan, None)
}

fn heard(plan: &Plan, usage: Option<Value>) -> Answer {
    let text = plan.text();
    match plan.ask.format.as_str() {
        "text" | "srt" | "vtt" => Answer::whole("text/plain; charset=utf-8", text + "\n", plan.length),
        "verbose_json" => {
            let body = json!({
                "task": "transcribe", "language": "english", "duration": 1.0, "text": text, "segments": [],
            });
            Answer::json(&with_usage(body, usage), plan.length)
        }
        _ => Answer::json(&with_usage(json!({"text": text}), usage), plan.length),
    }
}
