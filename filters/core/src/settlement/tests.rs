use std::net::IpAddr;

use super::*;
use crate::body::Input;
use crate::endpoint::Endpoint;
use crate::flags::Flags;
use crate::price::Price;
use crate::route::Routed;
use crate::usage::UsageEvent;

/// What the proxy knows; by default nobody was asked.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    attempts: u64,
    connected: bool,
    details: &'static str,
    flags: u64,
}

impl Exchange for Known {
    fn client(&self) -> Option<IpAddr> {
        None
    }

    fn attempts(&self) -> u64 {
        self.attempts
    }

    fn is_connected(&self) -> bool {
        self.connected
    }

    fn details(&self) -> Option<Vec<u8>> {
        (!self.details.is_empty()).then(|| self.details.into())
    }

    fn flags(&self) -> Flags {
        Flags(self.flags)
    }
}

/// An upstream reset, as Envoy flags it.
const RESET: u64 = 1 << 4;

fn routed() -> Routed<'static> {
    Routed {
        endpoint: Endpoint::Chat,
        model: "llama-70b".into(),
        target: "llama".into(),
        stream: false,
        input: Input {
            text: 1_000,
            ..Input::default()
        },
        max_output: Some(50),
        answers: 1,
        background: false,
        price: Some(Price {
            input: 1_000_000,
            output: 2_000_000,
            ..Price::default()
        }),
        ask_usage: None,
        whole_at: 0,
        repeats: true,
        context_window: None,
        plain: false,
    }
}

fn terms() -> Terms {
    Terms::of(&routed(), &Estimator::default()).0
}

fn answer_of(terms: &Terms, status: &str, body: &str, whole: bool) -> Answer {
    let head = Head {
        status: Some(status),
        content_type: Some(match terms.stream {
            true => b"text/event-stream",
            false => b"application/json",
        }),
        ..Head::default()
    };
    let mut answer = Answer::begin(terms, &head, UsageEvent::Pass, 0, false);
    answer.read(body.as_bytes(), whole);
    answer
}

fn settled(terms: &Terms, answer: Option<&Answer>, spent: Spent, mut known: Known) -> Settlement {
    settle(terms, answer, spent, &mut known, |_| Estimator::default())
}

const NONE: Spent = Spent {
    attempts: 0,
    last: false,
};
const ONE: Spent = Spent {
    attempts: 1,
    last: false,
};
/// The last attempt is the one that was spent.
const LAST: Spent = Spent {
    attempts: 1,
    last: true,
};

const WHOLE: &str = r#"{"choices":[{}],"usage":{"prompt_tokens":12,"completion_tokens":34}}"#;

/// What becomes of a reservation, without numbers.
#[derive(Debug, PartialEq, Eq)]
enum Becomes {
    Cancelled,
    Settled,
    /// All that was reserved of the output stays held, and perhaps the slot.
    Held {
        in_flight: bool,
    },
}

const HELD: Becomes = Becomes::Held { in_flight: true };
const OVER: Becomes = Becomes::Held { in_flight: false };

#[track_caller]
fn becomes(settlement: &Settlement) -> Becomes {
    match settlement.disposition {
        Disposition::Cancel => Becomes::Cancelled,
        Disposition::Settle => Becomes::Settled,
        Disposition::Hold { max, in_flight } => {
            assert_eq!(max.output, 50);
            Becomes::Held { in_flight }
        }
    }
}

/// Each ending by status, attempts that were spent, who answered, and what else the proxy knows; then how it ended, how
/// many attempts are charged their input, and what becomes of the reservation.
#[test]
fn every_ending_without_an_answer_of_a_model() {
    use Becomes::{Cancelled, Settled};
    use Outcome::{Failed, NoAnswer, Refused};

    let terms = terms();
    let input = terms.reserved.input;
    let never = Known::default();
    let sent = Known {
        attempts: 1,
        connected: true,
        ..never
    };
    let unreached = Known {
        connected: false,
        ..sent
    };
    let reset = Known { flags: RESET, ..sent };
    for (status, spent, details, known, outcome, attempts, end) in [
        // The client left before anything was answered.
        ("", NONE, "", never, Refused, 0, Cancelled),
        ("", NONE, "", sent, NoAnswer, 1, HELD),
        ("", NONE, "", reset, NoAnswer, 1, OVER),
        ("", ONE, "", sent, NoAnswer, 2, HELD),
        ("", ONE, "", unreached, NoAnswer, 1, HELD),
        ("", LAST, "", sent, NoAnswer, 1, HELD),
        // A filter behind the limits answered.
        ("403", NONE, "ext_authz_denied", never, Refused, 0, Cancelled),
        // The model server refused: it wrote nothing, and is at work on nothing.
        ("400", NONE, "via_upstream", sent, Failed, 0, Settled),
        ("302", NONE, "via_upstream", sent, Failed, 0, Settled),
        ("503", ONE, "via_upstream", sent, Failed, 1, OVER),
        (
            "503",
            NONE,
            "tollgate_direct_credential",
            sent,
            Failed,
            0,
            Settled,
        ),
        ("503", NONE, "", sent, Failed, 0, Settled),
        // Envoy answered for a model server, or the router did for a silent one.
        ("504", NONE, "response_timeout", sent, Failed, 1, HELD),
        ("504", ONE, "response_timeout", sent, Failed, 2, HELD),
        ("504", LAST, "response_timeout", sent, Failed, 1, HELD),
        ("503", NONE, "upstream_reset", reset, Failed, 1, OVER),
        ("504", NONE, "tollgate_direct_silent", sent, Failed, 1, HELD),
        // Nobody could be reached.
        ("503", NONE, "upstream_reset", unreached, Failed, 0, Cancelled),
        ("503", ONE, "upstream_reset", unreached, Failed, 1, HELD),
    ] {
        let answer = (!status.is_empty()).then(|| answer_of(&terms, status, "{}", true));
        let found = settled(&terms, answer.as_ref(), spent, Known { details, ..known });
        let what = format!("{status} {spent:?} {details} {known:?}");
        assert_eq!(found.outcome, outcome, "{what}");
        assert_eq!(found.used.input_tokens, attempts * input, "{what}");
        assert_eq!(found.used.output_tokens, 0, "{what}");
        assert_eq!(becomes(&found), end, "{what}");
        assert_eq!(found.sample, None, "{what}");
    }
}

/// Some servers refuse what their model has written, and say how much it was.
#[test]
fn a_refusal_that_reports_usage_is_paid() {
    let terms = terms();
    let said = r#"{"error":{"code":"json_validate_failed","failed_generation":"…"},"usage":{"prompt_tokens":300,"completion_tokens":40}}"#;
    let known = Known {
        attempts: 1,
        connected: true,
        details: "via_upstream",
        ..Known::default()
    };
    let found = |body: &str, known| settled(&terms, Some(&answer_of(&terms, "400", body, true)), NONE, known);
    let refused = found(said, known);
    assert_eq!(
        (refused.outcome, refused.used.source),
        (Outcome::Failed, Source::Reported)
    );
    assert_eq!((refused.used.input_tokens, refused.used.output_tokens), (300, 40));
    assert_eq!(becomes(&refused), Becomes::Settled);
    // What can't be so is not believed.
    let absurd = said.replace("40}", "4000000000000}");
    assert_eq!(found(&absurd, known).used.output_tokens, 0);
}

#[test]
fn an_attempt_that_cannot_be_repeated_is_none_that_was() {
    let terms = Terms {
        repeats: false,
        ..terms()
    };
    let answer = answer_of(&terms, "200", WHOLE, true);
    let found = settled(&terms, Some(&answer), ONE, Known::default());
    assert_eq!(
        (found.used.input_tokens, found.disposition),
        (12, Disposition::Settle)
    );
}

#[test]
fn a_whole_answer_is_what_it_reports() {
    let terms = terms();
    let answer = answer_of(&terms, "200", WHOLE, true);
    let found = settled(&terms, Some(&answer), NONE, Known::default());
    assert_eq!(
        (found.outcome, found.disposition),
        (Outcome::Complete, Disposition::Settle)
    );
    let used = found.used;
    assert_eq!((used.input_tokens, used.output_tokens), (12, 34));
    assert_eq!((used.cost_micros, used.source), (Some(12 + 68), Source::Reported));
    let sample = Sample {
        input: 12,
        output: 34,
        streamed: None,
    };
    assert_eq!(found.sample, Some(sample));
}

/// The attempt before may still be written.
#[test]
fn an_attempt_before_costs_its_input_and_holds_its_output() {
    let terms = terms();
    let answer = answer_of(&terms, "200", WHOLE, true);
    let found = settled(&terms, Some(&answer), ONE, Known::default());
    assert_eq!(found.used.input_tokens, 12 + terms.reserved.input);
    assert_eq!(found.used.source, Source::Estimated);
    assert_eq!(becomes(&found), OVER);
}

/// A page or nothing is no answer of a model, which has read the request all the same.
#[test]
fn what_no_model_wrote_costs_its_input() {
    let terms = terms();
    for body in ["<html>", ""] {
        let answer = answer_of(&terms, "200", body, true);
        let found = settled(&terms, Some(&answer), NONE, Known::default());
        assert_eq!(
            (found.outcome, found.disposition),
            (Outcome::Failed, Disposition::Settle)
        );
        assert_eq!(found.used.input_tokens, terms.reserved.input);
        assert_eq!(found.used.output_tokens, 0);
        let found = settled(&terms, Some(&answer), ONE, Known::default());
        assert_eq!(found.used.input_tokens, 2 * terms.reserved.input);
        assert_eq!(becomes(&found), OVER);
    }
}

#[test]
fn an_answer_that_breaks_off_costs_what_went_by_and_holds_the_rest() {
    let terms = Terms {
        stream: true,
        ..terms()
    };
    let delta = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let answer = answer_of(&terms, "200", &delta.repeat(10), false);
    for (flags, in_flight) in [(0, true), (RESET, false)] {
        let found = settled(
            &terms,
            Some(&answer),
            NONE,
            Known {
                flags,
                ..Known::default()
            },
        );
        assert_eq!(
            (found.outcome, found.used.source),
            (Outcome::Aborted, Source::Estimated)
        );
        assert_eq!(found.used.input_tokens, terms.reserved.input);
        assert!(
            (5..=20).contains(&found.used.output_tokens),
            "{}",
            found.used.output_tokens
        );
        assert_eq!(becomes(&found), Becomes::Held { in_flight });
    }
    // An estimate is no longer than its cap; what is seen to go by is.
    let output = |events: &str| {
        let answer = answer_of(&terms, "200", events, false);
        settled(&terms, Some(&answer), NONE, Known::default())
            .used
            .output_tokens
    };
    let words = delta.replace("hi", &"hi ".repeat(40));
    assert_eq!(output(&words.repeat(45)), 50);
    assert_eq!(output(&delta.repeat(1_000)), 1_000);
    assert_eq!(output(&words.repeat(1_000)), 1_000);
    assert_eq!(output(&delta.replace("hi", &"a".repeat(1_280)).repeat(10)), 100);
}

/// A report mid-stream, and what went by since.
#[test]
fn what_was_reported_until_it_broke_off_is_the_least() {
    let terms = Terms {
        stream: true,
        ..terms()
    };
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3}}"#;
    let delta = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let reported = answer_of(&terms, "200", &format!("{usage}\n\n"), false);
    let found = settled(&terms, Some(&reported), NONE, Known::default());
    assert_eq!(
        (found.used.output_tokens, found.used.source),
        (3, Source::Reported)
    );
    let more = answer_of(&terms, "200", &format!("{usage}\n\n{}", delta.repeat(10)), false);
    let found = settled(&terms, Some(&more), NONE, Known::default());
    assert_eq!(
        (found.used.input_tokens, found.used.source),
        (12, Source::Estimated)
    );
    assert!((8..=23).contains(&found.used.output_tokens));
}

/// A server that says what went wrong has ended its work.
#[test]
fn an_answer_that_says_what_went_wrong_holds_nothing() {
    let terms = Terms {
        stream: true,
        ..terms()
    };
    let mut answer = answer_of(&terms, "200", "", false);
    let read = answer.read(b"data: {\"error\":{\"message\":\"x\"}}\n\n", false);
    assert!(read.errored && answer.is_errored());
    assert!(!answer.read(b"data: {\"error\":{}}\n\n", false).errored, "once");
    let found = settled(&terms, Some(&answer), NONE, Known::default());
    assert_eq!(
        (found.outcome, found.disposition),
        (Outcome::Errored, Disposition::Settle)
    );
}

#[test]
fn a_report_that_cannot_be_so_is_replaced_by_an_estimate() {
    let terms = terms();
    let body = WHOLE.replace("34", "1000000000000");
    let answer = answer_of(&terms, "200", &body, true);
    let found = settled(&terms, Some(&answer), NONE, Known::default());
    assert!(found.used.distrusted);
    // No less than what was reserved, as it says that it was more.
    assert_eq!(
        (found.used.input_tokens, found.used.output_tokens),
        (terms.reserved.input, 50)
    );
    assert_eq!((found.sample, found.used.source), (None, Source::Estimated));
}

#[test]
fn a_piece_that_cannot_be_read_counts_by_its_bytes() {
    let terms = terms();
    let mut answer = answer_of(&terms, "200", "{", false);
    answer.skip(100, false);
    answer.read(WHOLE.as_bytes(), true);
    let found = settled(&terms, Some(&answer), NONE, Known::default());
    assert_eq!(
        (found.outcome, found.used.source),
        (Outcome::Complete, Source::Estimated)
    );
    assert!(
        (20..=50).contains(&found.used.output_tokens),
        "{}",
        found.used.output_tokens
    );
}

/// Of what nobody waits for no length is learned.
#[test]
fn what_is_written_in_the_background_is_charged_what_it_may_become() {
    let terms = Terms {
        background: true,
        ..terms()
    };
    let answer = answer_of(&terms, "200", WHOLE, true);
    let found = settled(&terms, Some(&answer), NONE, Known::default());
    assert_eq!(found.used.amounts(), terms.reserved);
    assert_eq!(found.used.source, Source::Estimated);
    let known = Known {
        attempts: 1,
        connected: true,
        details: "via_upstream",
        flags: 0,
    };
    let refused = answer_of(&terms, "500", "{}", true);
    assert_eq!(settled(&terms, Some(&refused), NONE, known).used, Used::NOTHING);
}

#[test]
fn pictures_are_charged_where_they_came_or_were_left() {
    let (terms, _) = Terms::of(
        &Routed {
            endpoint: Endpoint::ImagesGenerations,
            answers: 3,
            ..routed()
        },
        &Estimator::default(),
    );
    for (whole, flags, pictures) in [(true, 0, 3), (false, 0, 3), (false, RESET, 0)] {
        let answer = answer_of(&terms, "200", r#"{"data":[{}"#, whole);
        let known = Known {
            flags,
            ..Known::default()
        };
        let found = settled(&terms, Some(&answer), NONE, known);
        assert_eq!(found.used.pictures, pictures, "{whole} {flags}");
        // Its tokens are counted by nobody, and that is learned.
        assert_eq!(found.sample.is_some(), whole);
    }
    let known = Known {
        attempts: 1,
        connected: true,
        ..Known::default()
    };
    assert_eq!(settled(&terms, None, NONE, known).used.pictures, 3);
    assert_eq!(settled(&terms, None, NONE, Known::default()).used, Used::NOTHING);
}

#[test]
fn a_late_refusal_is_not_charged_and_holds_what_may_have_been_written() {
    let terms = terms();
    let known = Known {
        attempts: 1,
        connected: true,
        details: "via_upstream",
        flags: 0,
    };
    for (status, after, becomes_of) in [
        ("400", 499, Becomes::Settled),
        ("400", 500, OVER),
        ("422", 9_000, OVER),
        ("404", 9_000, Becomes::Settled),
        ("500", 9_000, Becomes::Settled),
    ] {
        let head = Head {
            status: Some(status),
            ..Head::default()
        };
        let answer = Answer::begin(&terms, &head, UsageEvent::Pass, after, true);
        let found = settled(&terms, Some(&answer), NONE, known);
        assert_eq!(found.used, Used::NOTHING, "{status} after {after}");
        assert_eq!(becomes(&found), becomes_of, "{status} after {after}");
    }
}

#[test]
fn many_tokens_in_an_event_are_all_paid_by_who_leaves() {
    let text = "word ".repeat(400);
    let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    for (stream, max_output, most) in [
        (true, Some(5_000), 5_000),
        (true, Some(100), 100),
        (true, None, u64::MAX),
    ] {
        let (terms, _) = Terms::of(
            &Routed {
                stream,
                max_output,
                ..routed()
            },
            &Estimator::default(),
        );
        let answer = answer_of(&terms, "200", &event.repeat(4), false);
        let used = settled(&terms, Some(&answer), NONE, Known::default()).used;
        assert_eq!(used.output_tokens, 2_160.min(most), "{max_output:?}");
    }
    // A document where a stream was asked for.
    let (terms, _) = Terms::of(
        &Routed {
            stream: true,
            max_output: Some(5_000),
            ..routed()
        },
        &Estimator::default(),
    );
    let head = Head {
        status: Some("200"),
        content_type: Some(b"application/json"),
        ..Head::default()
    };
    let mut answer = Answer::begin(&terms, &head, UsageEvent::Pass, 0, false);
    answer.read(
        format!("{{\"choices\":[{{\"text\":\"{text}\"}}]}}").as_bytes(),
        true,
    );
    let used = settled(&terms, Some(&answer), NONE, Known::default()).used;
    assert!((540..600).contains(&used.output_tokens), "{used:?}");
}
