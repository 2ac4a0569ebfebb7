//! The windows of budgets: hours, days, ISO weeks and months as a place's clocks show them. Times are milliseconds since
//! 1970; nothing here reads a clock.
//!
//! Windows follow one another without a gap, whatever clocks do: a day is 23 hours long where they go forward, an hour that
//! they show twice is two, and one that they leave out is none.

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

/// The rules of all places, as this program was built with: two servers with other files would not agree on a window.
static PLACES: std::sync::LazyLock<TimeZoneDatabase> = std::sync::LazyLock::new(TimeZoneDatabase::bundled);

/// Which windows follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Period {
    /// From each full hour.
    Hour,
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first.
    Month,
}

/// From when to when, `until` not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: i64,
    pub(crate) until: i64,
}

/// A place by its IANA name, such as `Europe/Berlin`; `None` where there is none of that name.
pub(crate) fn place(name: &str) -> Option<TimeZone> {
    PLACES.get(name).ok()
}

/// The window that an instant is in; `None` beyond the years that there are.
pub(crate) fn window(period: Period, place: &TimeZone, at: i64) -> Option<Span> {
    let at = Timestamp::from_millisecond(at).ok()?;
    let (from, until) = match period {
        Period::Hour => {
            let from = hour_before(place, at)?;
            (from, hour_after(place, from)?)
        }
        Period::Day | Period::Week | Period::Month => {
            let today = at.to_zoned_datetime(place.clone()).date();
            let first = match period {
                Period::Month => today.first_of_month(),
                Period::Week => {
                    let since = today.weekday().to_monday_zero_offset();
                    today.checked_sub(i64::from(since).days()).ok()?
                }
                Period::Day | Period::Hour => today,
            };
            let next = match period {
                Period::Month => first.checked_add(1.month()),
                Period::Week => first.checked_add(7.days()),
                Period::Day | Period::Hour => first.checked_add(1.day()),
            };
            (midnight(place, first)?, midnight(place, next.ok()?)?)
        }
    };
    Some(Span {
        from: from.as_millisecond(),
        until: until.as_millisecond(),
    })
}

/// A day's first instant: its midnight, the first of two, or the end of what clocks leave out.
fn midnight(place: &TimeZone, day: Date) -> Option<Timestamp> {
    let first = day.to_zoned_datetime(place.clone()).ok()?.start_of_day().ok()?;
    Some(first.timestamp())
}

/// How far clocks show to be in an hour.
fn into_hour(place: &TimeZone, at: Timestamp) -> SignedDuration {
    let time = at.to_zoned_datetime(place.clone()).time();
    let seconds = i64::from(time.minute()) * 60 + i64::from(time.second());
    SignedDuration::new(seconds, time.subsec_nanosecond())
}

/// The last instant not after this one at which clocks show a full hour.
fn hour_before(place: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let full = at.checked_sub(into_hour(place, at)).ok()?;
    // Where clocks were changed in between, they did not show what they would have.
    let next = at.checked_add(SignedDuration::from_nanos(1)).ok()?;
    let changed = place.preceding(next).next().map(|change| change.timestamp());
    match changed.filter(|changed| *changed > full) {
        None => Some(full),
        Some(changed) => hour_before(place, changed.checked_sub(SignedDuration::from_nanos(1)).ok()?),
    }
}

/// The first instant after this one at which clocks show a full hour.
fn hour_after(place: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let left = SignedDuration::from_hours(1).checked_sub(into_hour(place, at))?;
    let full = at.checked_add(left).ok()?;
    let changed = place.following(at).next().map(|change| change.timestamp());
    match changed.filter(|changed| *changed <= full) {
        None => Some(full),
        Some(changed) if into_hour(place, changed).is_zero() => Some(changed),
        Some(changed) => hour_after(place, changed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn text(millis: i64) -> String {
        Timestamp::from_millisecond(millis).unwrap().to_string()
    }

    #[track_caller]
    fn is(period: Period, name: &str, at: &str, from: &str, until: &str) {
        let span = window(period, &place(name).unwrap(), millis(at)).unwrap();
        assert_eq!(
            (text(span.from), text(span.until)),
            (from.to_owned(), until.to_owned()),
            "{at} in {name}"
        );
    }

    #[test]
    fn days_are_as_long_as_clocks_make_them() {
        let berlin = "Europe/Berlin";
        // 23 hours, and 25.
        is(
            Period::Day,
            berlin,
            "2026-03-29T12:00:00Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
        );
        is(
            Period::Day,
            berlin,
            "2026-10-25T22:59:59.999Z",
            "2026-10-24T22:00:00Z",
            "2026-10-25T23:00:00Z",
        );
        is(
            Period::Day,
            "Asia/Kolkata",
            "2026-10-25T18:30:00Z",
            "2026-10-25T18:30:00Z",
            "2026-10-26T18:30:00Z",
        );
        // Clocks in Cairo go forward at midnight: the day begins at one.
        is(
            Period::Day,
            "Africa/Cairo",
            "2026-04-24T12:00:00Z",
            "2026-04-23T22:00:00Z",
            "2026-04-24T21:00:00Z",
        );
        // Samoa had no 30 December 2011.
        is(
            Period::Day,
            "Pacific/Apia",
            "2011-12-30T09:59:59Z",
            "2011-12-29T10:00:00Z",
            "2011-12-30T10:00:00Z",
        );
        is(
            Period::Day,
            "Pacific/Apia",
            "2011-12-30T10:00:00Z",
            "2011-12-30T10:00:00Z",
            "2011-12-31T10:00:00Z",
        );
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        is(
            Period::Week,
            "UTC",
            "2027-01-01T00:00:00Z",
            "2026-12-28T00:00:00Z",
            "2027-01-04T00:00:00Z",
        );
        is(
            Period::Week,
            "America/New_York",
            "2026-11-02T04:59:59Z",
            "2026-10-26T04:00:00Z",
            "2026-11-02T05:00:00Z",
        );
        is(
            Period::Month,
            "UTC",
            "2028-02-29T23:59:59Z",
            "2028-02-01T00:00:00Z",
            "2028-03-01T00:00:00Z",
        );
        is(
            Period::Month,
            "Pacific/Auckland",
            "2026-12-31T11:00:00Z",
            "2026-12-31T11:00:00Z",
            "2027-01-31T11:00:00Z",
        );
    }

    #[test]
    fn an_hour_that_clocks_show_twice_is_two() {
        let berlin = "Europe/Berlin";
        is(
            Period::Hour,
            berlin,
            "2026-10-25T00:30:00Z",
            "2026-10-25T00:00:00Z",
            "2026-10-25T01:00:00Z",
        );
        is(
            Period::Hour,
            berlin,
            "2026-10-25T01:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T02:00:00Z",
        );
        is(
            Period::Hour,
            "Asia/Kathmandu",
            "2026-10-25T01:30:00Z",
            "2026-10-25T01:15:00Z",
            "2026-10-25T02:15:00Z",
        );
        // Clocks on Lord Howe go back from two to half past one, and forward from two to half past two.
        let howe = "Australia/Lord_Howe";
        is(
            Period::Hour,
            howe,
            "2026-04-04T15:10:00Z",
            "2026-04-04T14:00:00Z",
            "2026-04-04T15:30:00Z",
        );
        is(
            Period::Hour,
            howe,
            "2026-10-03T15:40:00Z",
            "2026-10-03T14:30:00Z",
            "2026-10-03T16:00:00Z",
        );
    }

    /// Over some years, in every place that there is: no gap, nothing twice, and each window is where it says.
    #[test]
    fn windows_follow_one_another_everywhere() {
        let (from, until) = (millis("2025-12-15T00:00:00Z"), millis("2027-02-01T00:00:00Z"));
        let (mut places, mut odd) = (0, 0);
        for name in PLACES.available() {
            let place = place(name.as_str()).unwrap();
            places += 1;
            for period in [Period::Hour, Period::Day, Period::Week, Period::Month] {
                // Of hours, those around the days on which clocks change are enough.
                let mut spans = vec![(from, until)];
                if period == Period::Hour {
                    let start = Timestamp::from_millisecond(from).unwrap();
                    let changes = place
                        .following(start)
                        .map(|change| change.timestamp().as_millisecond());
                    spans = changes
                        .take_while(|change| *change < until)
                        .map(|change| (change - 6 * 3_600_000, change + 6 * 3_600_000))
                        .collect();
                }
                for (from, until) in spans {
                    let mut at = from;
                    let mut before: Option<Span> = None;
                    while at < until {
                        let span = window(period, &place, at).unwrap();
                        assert!(
                            span.from <= at && at < span.until,
                            "{name:?} {period:?} {at} {span:?}"
                        );
                        if let Some(before) = before {
                            assert_eq!(before.until, span.from, "{name:?} {period:?} {at}");
                        }
                        for inside in [span.from, (span.from + span.until) / 2, span.until - 1] {
                            assert_eq!(window(period, &place, inside), Some(span), "{name:?} {period:?}");
                        }
                        odd += u32::from(period == Period::Day && span.until - span.from != 86_400_000);
                        before = Some(span);
                        at = span.until;
                    }
                }
            }
        }
        assert!(places > 400 && odd > 100, "{places} {odd}");
    }

    #[test]
    fn there_are_no_other_places_and_times() {
        assert!(place("Europe/Nowhere").is_none() && place("").is_none() && place("../etc").is_none());
        let utc = place("UTC").unwrap();
        for at in [i64::MIN, i64::MAX, Timestamp::MAX.as_millisecond()] {
            assert_eq!(window(Period::Month, &utc, at), None);
        }
    }
}
