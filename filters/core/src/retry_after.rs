//! When to come back, as a model server says it: RFC 9110's `retry-after`, in seconds or as a date, and the SDKs'
//! `retry-after-ms` and `x-should-retry`. Time is an argument.

use jiff::fmt::strtime;
use jiff::tz::Offset;

/// The longest that a model server may tell a customer to wait, in seconds: a day.
pub const LONGEST: u64 = 86_400;

/// The seconds that a `retry-after` means; `now` is in seconds since 1970, and only asked for where a date stands.
pub fn seconds(value: &[u8], now: impl FnOnce() -> Option<u64>) -> Option<u64> {
    digits(value).or_else(|| {
        let date = core::str::from_utf8(value).ok()?;
        let date = strtime::parse("%a, %d %b %Y %H:%M:%S GMT", date).ok()?;
        let moment = Offset::UTC.to_timestamp(date.to_datetime().ok()?).ok()?;
        let moment = u64::try_from(moment.as_second()).ok()?;
        Some(moment.saturating_sub(now()?))
    })
}

/// Whether a header that says so may pass; `true` for every other header.
pub fn passes(name: &[u8], value: &[u8], now: impl FnOnce() -> Option<u64>) -> bool {
    match name {
        b"retry-after" => seconds(value, now).is_some_and(|seconds| seconds <= LONGEST),
        b"retry-after-ms" => digits(value).is_some_and(|millis| millis <= LONGEST * 1_000),
        b"x-should-retry" => matches!(value, b"true" | b"false"),
        _ => true,
    }
}

fn digits(value: &[u8]) -> Option<u64> {
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(value).ok().filter(|_| plain)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const NOW: u64 = 784_111_777;

    fn passed(name: &str, value: &str) -> bool {
        passes(name.as_bytes(), value.as_bytes(), || Some(NOW))
    }

    #[test]
    fn what_is_a_time_to_wait_passes() {
        for value in [
            "0",
            "7",
            "86400",
            "Sun, 06 Nov 1994 08:50:00 GMT",
            "Mon, 07 Nov 1994 08:49:37 GMT",
            "Sat, 05 Nov 1994 08:49:37 GMT",
        ] {
            assert!(passed("retry-after", value), "{value}");
        }
        for value in [
            "",
            " 7",
            "-1",
            "+1",
            "1.5",
            "7s",
            "0x7",
            "7, 8",
            "86401",
            "99999999999999999999",
            "soon",
            "sk-abcdef",
            "Tue, 08 Nov 1994 08:49:38 GMT",
            "Sun, 06 Nov 9999 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37 GMT, 7",
            "Sun, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert!(!passed("retry-after", value), "{value}");
        }
        assert!(passed("retry-after-ms", "86400000") && passed("x-should-retry", "true"));
        for (name, value) in [
            ("retry-after-ms", "86400001"),
            ("retry-after-ms", "1.5"),
            ("retry-after-ms", "Sun, 06 Nov 1994 08:50:00 GMT"),
            ("x-should-retry", "maybe"),
        ] {
            assert!(!passed(name, value), "{name} {value}");
        }
        assert!(passed("date", "whatever"));
    }

    #[test]
    fn a_date_is_so_many_seconds_from_now() {
        assert_eq!(seconds(b"Sun, 06 Nov 1994 08:49:47 GMT", || Some(NOW)), Some(10));
        assert_eq!(seconds(b"Sun, 06 Nov 1994 08:49:27 GMT", || Some(NOW)), Some(0));
        assert_eq!(seconds(b"Sun, 06 Nov 1994 08:49:47 GMT", || None), None);
        assert_eq!(seconds(b"99999", || None), Some(99_999));
    }
}
