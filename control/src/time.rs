//! Times as the API says them, RFC 3339 in UTC, and spans such as `30m`.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::problem::Problem;

/// Milliseconds since 1970, at most those of the last time that can be written: `Timestamp::now` panics beyond it.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis())
        .unwrap_or(i64::MAX)
        .min(Timestamp::MAX.as_millisecond())
}

/// Microseconds since 1970.
pub(crate) fn micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// As the API says it, to the second. Beyond what can be written, the nearest that can.
pub(crate) fn to_rfc3339(millis: i64) -> String {
    let nearest = if millis < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    let seconds = Timestamp::from_second(millis.div_euclid(1_000)).unwrap_or(nearest);
    seconds.to_string()
}

/// The same of an end: not before it, as a part of a second counts as a whole one.
pub(crate) fn end_to_rfc3339(millis: i64) -> String {
    to_rfc3339(millis.saturating_add(999))
}

/// Milliseconds since 1970 of what a client said.
pub(crate) fn parse(field: &str, text: &str) -> Result<i64, Problem> {
    let time = text.parse::<Timestamp>().map_err(|_| not_a_time(field, text))?;
    Ok(time.as_millisecond())
}

/// A time that a client sets is one by RFC 3339 and nothing more: [`parse`] takes a space for `T`, and the name of a zone,
/// which others that read it do not.
pub(crate) fn ensure_rfc3339(field: &str, time: Option<&str>) -> Result<(), Problem> {
    match time {
        Some(text) if !is_rfc3339(text.as_bytes()) => Err(not_a_time(field, text)),
        _ => Ok(()),
    }
}

fn is_rfc3339(text: &[u8]) -> bool {
    let fits = |text: &[u8], form: &[u8]| {
        let fits = |(byte, form): (&u8, &u8)| match form {
            b'0' => byte.is_ascii_digit(),
            _ => byte.eq_ignore_ascii_case(form),
        };
        text.len() == form.len() && text.iter().zip(form).all(fits)
    };
    const SECONDS: &[u8] = b"0000-00-00T00:00:00";
    let Some((seconds, rest)) = text.split_at_checked(SECONDS.len()) else {
        return false;
    };
    let zone = match rest.strip_prefix(b".") {
        None => rest,
        Some(parts) => {
            let digits = parts.iter().take_while(|byte| byte.is_ascii_digit()).count();
            parts.get(digits..).filter(|_| digits > 0).unwrap_or_default()
        }
    };
    let is_zone = match zone {
        b"Z" | b"z" => true,
        [b'+' | b'-', offset @ ..] => fits(offset, b"00:00"),
        _ => false,
    };
    fits(seconds, SECONDS) && is_zone
}

fn not_a_time(field: &str, text: &str) -> Problem {
    Problem::invalid(field, text, "a time such as `2026-12-31T23:59:59Z` (RFC 3339)")
}

/// An end that a client sets is after `now`.
pub(crate) fn ensure_future(field: &str, end: Option<&str>, now: i64) -> Result<(), Problem> {
    ensure_rfc3339(field, end)?;
    match end {
        Some(text) if parse(field, text)? <= now => {
            Err(Problem::invalid(field, text, "a time that is still to come"))
        }
        _ => Ok(()),
    }
}

/// Milliseconds of a span such as `90s`, `30m`, `12h` or `7d`; at most ten years.
pub(crate) fn parse_span(field: &str, text: &str) -> Result<i64, Problem> {
    const LONGEST: i64 = 3_653 * 86_400_000;
    let expected = "a time span such as `90s`, `30m`, `12h` or `7d`, at most ten years";
    let invalid = || Problem::invalid(field, text, expected);
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(invalid)?;
    let unit = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(invalid()),
    };
    let digits = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    let millis = number
        .parse::<i64>()
        .ok()
        .filter(|_| digits)
        .and_then(|number| number.checked_mul(unit));
    millis
        .filter(|millis| (1..=LONGEST).contains(millis))
        .ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        assert_eq!(parse_span("for", "30m").unwrap(), 1_800_000);
        assert_eq!(parse_span("for", "7d").unwrap(), 604_800_000);
        for wrong in [
            "",
            "m",
            "0s",
            "-5m",
            "+5m",
            "5",
            "5 m",
            "5w",
            "99999d",
            "9999999999999999999s",
            "ém",
        ] {
            assert!(parse_span("for", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_that_is_set_is_rfc_3339() {
        let is = |text| ensure_rfc3339("at", Some(text)).is_ok();
        for right in [
            "2026-12-31T23:59:59Z",
            "2026-12-31t23:59:59.5z",
            "2026-12-31T23:59:59.123456789+01:00",
            "2026-12-31T23:59:59-11:30",
        ] {
            assert!(is(right) && parse("at", right).is_ok(), "{right}");
        }
        for wrong in [
            "2026-12-31 23:59:59Z",
            "2026-12-31T23:59:59+01:00[Europe/Berlin]",
            "2026-12-31T23:59:59Z[UTC]",
            "2026-12-31T23:59:59+01",
            "2026-12-31T23:59:59+0100",
            "2026-12-31T23:59:59",
            "2026-12-31T23:59Z",
            "2026-12-31T23:59:59.Z",
            "2026-12-31T23:59:59,5Z",
            "+002026-12-31T23:59:59Z",
            "20261231T235959Z",
            "",
        ] {
            assert!(!is(wrong), "{wrong}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(parse("at", "1970-01-01T00:00:01Z").unwrap(), 1_000);
        assert_eq!(to_rfc3339(1_999), "1970-01-01T00:00:01Z");
        assert_eq!(
            (end_to_rfc3339(1_001), end_to_rfc3339(1_000)),
            ("1970-01-01T00:00:02Z".into(), to_rfc3339(1_000))
        );
        assert!(parse("at", "tomorrow").is_err());
        // What can't be written is not 1970: it is as far away as can be.
        assert!(
            to_rfc3339(i64::MAX).starts_with("9999-12-30T"),
            "{}",
            to_rfc3339(i64::MAX)
        );
        assert!(end_to_rfc3339(i64::MAX).starts_with("9999-12-30T"));
        assert!(
            to_rfc3339(i64::MIN).starts_with("-009999-"),
            "{}",
            to_rfc3339(i64::MIN)
        );
        assert!(parse("at", &to_rfc3339(i64::MAX)).is_ok_and(|end| end > now()));
    }
}
