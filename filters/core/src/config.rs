//! What all configuration shares: errors that name a place, and types that can only hold good values.

#[cfg(feature = "schema")]
pub(crate) mod schema;
mod token;

use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU64;
use core::ops::RangeInclusive;
use core::str::FromStr;
use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, de};

pub(crate) use token::{RawToken, Token};

/// One thing that is wrong with a configuration: where, what was there, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Path in the YAML, such as `directory.inline.keys[3].expires_at`.
    pub path: String,
    /// What was wrong there, and what was expected, in one line.
    pub problem: String,
}

impl ConfigError {
    /// An error at `path`. An API key that somebody put in the wrong place, in a value or in a name, is masked:
    /// errors end up in logs.
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: shortened(without_keys(&path.into()), 1024),
            // It may list all that a member can be.
            problem: shortened(without_keys(&problem.into()), 4096),
        }
    }

    /// The usual form: the value that was found and the one that was expected.
    pub fn expected(path: impl Into<String>, found: impl fmt::Display, expected: &str) -> Self {
        // What was found may hold line breaks, and errors end up in logs.
        let found = found.to_string();
        Self::new(
            path,
            format!("found `{}`, expected {expected}", found.escape_debug()),
        )
    }

    /// The configuration is good, but the proxy refused what every one needs: metrics, a tick, shared data.
    pub fn unusable(why: impl fmt::Debug) -> Self {
        Self::new(
            "",
            format!("the proxy refused what every configuration needs ({why:?})"),
        )
    }

    /// The same error, seen from the level above.
    pub fn under(mut self, parent: &str) -> Self {
        self.path = if self.path.is_empty() || self.path.starts_with('[') {
            format!("{parent}{}", self.path)
        } else {
            format!("{parent}.{}", self.path)
        };
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            "(top level)"
        } else {
            &self.path
        };
        write!(f, "{path}: {}", self.problem)
    }
}

/// Parses JSON into a raw configuration; the error names the path of the first thing that does not fit.
pub fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, ConfigError> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = read(&mut reader)?;
    reader
        .end()
        .map_err(|error| ConfigError::new("", problem(&error)))?;
    // What an operator commented out leaves the name of a list behind, and that must not be as if there were no list.
    if memchr::memmem::find(json, b"null").is_some() {
        read::<NoNull>(&mut serde_json::Deserializer::from_slice(json))?;
    }
    Ok(value)
}

fn read<'de, T: Deserialize<'de>>(
    reader: &mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>,
) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let path = error.path().to_string();
        ConfigError::new(
            if path == "." { String::new() } else { path },
            problem(error.inner()),
        )
    })
}

/// Anything in which nothing is null.
struct NoNull;

impl<'de> Deserialize<'de> for NoNull {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for NoNull {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self, E> {
        Err(E::custom("has no value"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<String, Self>()?.is_some() {}
        Ok(self)
    }
}

/// A value that is there and no null, for a member that may be left out.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What is wrong with a condition that is there and names nothing.
pub const EMPTY: &str = "is empty: name at least one, or leave it out for any";

/// As much of a text as an error repeats: names and values of any length end up in it.
fn shortened(mut text: String, longest: usize) -> String {
    text.truncate(text.floor_char_boundary(longest));
    text
}

/// `text` with everything in it masked that looks like an API key: `sk-` and at least 17 more characters.
fn without_keys(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("sk-") {
        let (before, from) = rest.split_at(at);
        let len = from
            .bytes()
            .take_while(|c| c.is_ascii_alphanumeric() || b"-_".contains(c))
            .count();
        let (run, after) = from.split_at(len);
        clean.push_str(before);
        clean.push_str(&if len < 20 {
            run.to_owned()
        } else {
            crate::key::masked(run.as_bytes())
        });
        rest = after;
    }
    clean + rest
}

/// A map whose names must differ: of two members with one name, readers differ on which one counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map<V>(pub BTreeMap<String, V>);

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Map<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Names<V> {
            type Value = Map<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Map<V>, A::Error> {
                let mut map = BTreeMap::new();
                while let Some(name) = members.next_key::<String>()? {
                    let value = members.next_value()?;
                    if map.contains_key(&name) {
                        let name = without_keys(&name);
                        return Err(de::Error::custom(format_args!(
                            "`{}` is given twice",
                            name.escape_debug()
                        )));
                    }
                    map.insert(name, value);
                }
                Ok(Map(map))
            }
        }
        deserializer.deserialize_map(Names(PhantomData))
    }
}

/// A `T` that is written as a map. (serde's own structs may be written as lists as well, by the order of their
/// fields.)
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // In the words of the type itself: what it says when it is given nothing.
                let nothing = de::value::UnitDeserializer::<de::value::Error>::new();
                let said = T::deserialize(nothing).err().map(|error| error.to_string());
                let expected = said.as_ref().and_then(|said| said.split_once("expected "));
                f.write_str(expected.map_or("a map", |(_, expected)| expected))
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(members)).map(Object)
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// A number. Envoy turns every number of its YAML into a double, and one with a fraction into a string.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(pub f64);

impl Number {
    /// The whole number that it is, within these bounds; an error at `path` for any other.
    pub fn whole(self, path: impl Into<String>, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let (least, most) = range.into_inner();
        let fits = self.0.fract() == 0.0 && (least as f64..=most as f64).contains(&self.0);
        if fits {
            return Ok(self.0 as u64);
        }
        let expected = format!("a whole number from {least} to {most}");
        Err(ConfigError::expected(path, self.0, &expected))
    }
}

/// One of a kind, or a list of them: `pro` is `[pro]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMore<T>(pub Vec<T>);

// Derived it would ask for a default of `T`.
impl<T> Default for OneOrMore<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Names<T> {
            type Value = OneOrMore<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list of names")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<OneOrMore<T>, E> {
                let one = T::deserialize(de::value::StrDeserializer::<E>::new(name))?;
                Ok(OneOrMore(vec![one]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<OneOrMore<T>, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(names)).map(OneOrMore)
            }
        }
        deserializer.deserialize_any(Names(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                let plain = text.bytes().all(|c| c.is_ascii_digit() || b"+-.eE".contains(&c));
                let number = text
                    .parse()
                    .ok()
                    .filter(|number: &f64| plain && number.is_finite());
                number
                    .map(Number)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

/// The reason without serde's position: the input is generated from YAML, whose lines differ.
pub(crate) fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// A moment (seconds since 1970) as HTTP writes it, such as `Sun, 06 Nov 1994 08:49:37 GMT`; `None` beyond year 9999.
pub fn http_date(seconds: i64) -> Option<String> {
    let moment = jiff::Timestamp::from_second(seconds).ok()?;
    Some(moment.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

/// A moment as an operator writes it, such as `2026-12-31T23:59:59Z` (RFC 3339), in seconds since 1970.
pub fn moment(text: &str) -> Option<i64> {
    Some(text.parse::<jiff::Timestamp>().ok()?.as_second())
}

/// A span of time written as `500ms`, `10s`, `5m`, `2h` or `1d`; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(u64);

impl Span {
    /// Whole seconds; zero becomes one, and too many the most that a span can be.
    pub const fn from_secs(seconds: u32) -> Self {
        let millis = seconds as u64 * 1_000;
        Self(if millis == 0 {
            1_000
        } else if millis >= 86_400_000_000 {
            86_399_999_999
        } else {
            millis
        })
    }

    /// Whole milliseconds, at least one.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// The same as the standard library's type.
    pub const fn duration(self) -> core::time::Duration {
        core::time::Duration::from_millis(self.0)
    }

    /// Nanoseconds, at least a million.
    pub const fn nanos(self) -> u64 {
        // `parse` keeps spans below 1000 days, so this fits.
        self.0.saturating_mul(1_000_000)
    }

    const EXPECTED: &str =
        "a duration such as `500ms`, `10s`, `5m`, `2h` or `1d`, above zero and below 1000d";
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(Self::EXPECTED),
        };
        let millis = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit));
        match millis {
            Some(millis @ 1..86_400_000_000) => Ok(Self(millis)),
            _ => Err(Self::EXPECTED),
        }
    }
}

/// Requests in a unit of time, written as `30/minute`; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    amount: u64,
    unit_nanos: u64,
}

impl Rate {
    /// One a second.
    pub const PER_SECOND: Self = Self {
        amount: 1,
        unit_nanos: 1_000_000_000,
    };

    /// How many.
    pub const fn amount(self) -> u64 {
        self.amount
    }

    /// Nanoseconds of the unit of time: a second, a minute, an hour or a day.
    pub const fn unit_nanos(self) -> u64 {
        self.unit_nanos
    }

    /// Nanoseconds after which one more is allowed, at least one.
    pub const fn interval_nanos(self) -> u64 {
        let nanos = self.unit_nanos / self.amount;
        if nanos == 0 { 1 } else { nanos }
    }

    /// The largest amount: a million units of money in an instant, where it is millionths.
    const MAX: u64 = 1_000_000_000_000;
    const EXPECTED: &str =
        "a rate such as `30/second`, `30/minute`, `30/hour` or `30/day`, from 1 to 1000000000000";
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (amount, unit) = text.split_once('/').ok_or(Self::EXPECTED)?;
        let seconds = match unit {
            "second" => 1,
            "minute" => 60,
            "hour" => 3_600,
            "day" => 86_400,
            _ => return Err(Self::EXPECTED),
        };
        match amount.parse() {
            Ok(amount @ 1..=Self::MAX) => Ok(Self {
                amount,
                unit_nanos: seconds * 1_000_000_000,
            }),
            _ => Err(Self::EXPECTED),
        }
    }
}

/// A number of bytes written as `512`, `512B`, `64KiB`, `32MiB` or `1GiB`; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(NonZeroU64);

impl ByteSize {
    /// How many.
    pub const fn bytes(self) -> NonZeroU64 {
        self.0
    }

    const EXPECTED: &str = "a size such as `64KiB`, `32MiB` or `1GiB`, above zero";
}

impl FromStr for ByteSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit: u64 = match unit {
            "B" | "" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(Self::EXPECTED),
        };
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit));
        bytes.and_then(NonZeroU64::new).map(Self).ok_or(Self::EXPECTED)
    }
}

/// Bytes in a second, written as `16KiB/s`; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRate(ByteSize);

impl ByteRate {
    /// How many.
    pub const fn per_second(self) -> u64 {
        self.0.bytes().get()
    }

    const EXPECTED: &str = "bytes a second such as `16KiB/s`, above zero";
}

impl FromStr for ByteRate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let size = text.strip_suffix("/s").and_then(|size| size.parse().ok());
        size.map(Self).ok_or(Self::EXPECTED)
    }
}

macro_rules! deserialize_from_str {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|expected| {
                    de::Error::custom(format_args!("found `{text}`, expected {expected}"))
                })
            }
        }
    )*};
}
deserialize_from_str!(Span, Rate, ByteRate, ByteSize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        assert_eq!("500ms".parse::<Span>().map(Span::millis), Ok(500));
        assert_eq!("2h".parse::<Span>().map(Span::nanos), Ok(7_200_000_000_000));
        for bad in [
            "",
            "0s",
            "5",
            "s",
            "-1s",
            "1.5s",
            "1w",
            "1000d",
            "99999999999999999999s",
            "5 s",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        let size = |text: &str| text.parse::<ByteSize>().map(|size| size.bytes().get());
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!((size("7B"), size("7")), (Ok(7), Ok(7)));
        assert_eq!(
            "16KiB/s".parse::<ByteRate>().map(ByteRate::per_second),
            Ok(16_384)
        );
        for bad in ["", "0B", "KiB", "1.5MiB", "1MB", "-1B", "99999999999GiB", "1 KiB"] {
            assert!(size(bad).is_err(), "{bad}");
            assert!(format!("{bad}/s").parse::<ByteRate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(
            http_date(784_111_777).as_deref(),
            Some("Sun, 06 Nov 1994 08:49:37 GMT")
        );
        assert_eq!(http_date(i64::MAX), None);
    }

    #[test]
    fn rates() {
        let rate: Rate = "30/minute".parse().unwrap();
        assert_eq!((rate.amount(), rate.interval_nanos()), (30, 2_000_000_000));
        for bad in [
            "",
            "0/minute",
            "30",
            "30/fortnight",
            "-1/second",
            "/second",
            "1000000000001/second",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_in_the_wrong_place_is_masked() {
        let error = ConfigError::expected(
            "orgs.sk-tg-abcdefghijklmnop.x",
            "sk-proj-AbCdEfGhIjKlMnOp and sk-short",
            "y",
        );
        assert_eq!(
            error.to_string(),
            "orgs.sk-tg-ab***op.x: found `sk-proj-***Op and sk-short`, expected y"
        );
    }

    #[test]
    fn an_error_is_no_longer_than_a_line() {
        let error = ConfigError::expected("é".repeat(1 << 20), "\n".repeat(1 << 20), "y");
        assert!(error.to_string().len() <= 5_130, "{}", error.to_string().len());
    }

    #[test]
    fn maps_are_maps_and_numbers_numbers() {
        let map = |json: &str| from_json::<Map<u8>>(json.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(map(r#"{"a": 1, "b": 2}"#).map(|map| map.0.len()), Ok(2));
        assert!(
            map(r#"{"a": 1, "a": 2}"#)
                .unwrap_err()
                .contains("`a` is given twice")
        );
        #[derive(Debug, Deserialize)]
        struct One {
            _x: u8,
        }
        assert!(from_json::<Object<One>>(br#"{"_x": 1}"#).is_ok());
        assert!(from_json::<Object<One>>(b"[1]").is_err());
        let number = |json: &str| from_json::<Number>(json.as_bytes()).map(|number| number.0).ok();
        assert_eq!(
            (number("1"), number("1.5"), number("\"1.5\"")),
            (Some(1.0), Some(1.5), Some(1.5))
        );
        assert_eq!(
            (
                number("\"inf\""),
                number("\"\""),
                number("\"1,5\""),
                number("true")
            ),
            (None, None, None, None)
        );
    }

    #[test]
    fn whole_numbers_have_bounds_and_names_may_be_one() {
        let whole = |json: &str| from_json::<Number>(json.as_bytes()).unwrap().whole("a.b", 1..=7);
        assert_eq!((whole("1"), whole("7.0"), whole("\"3\"")), (Ok(1), Ok(7), Ok(3)));
        for bad in ["0", "8", "-1", "2.5", "1e300"] {
            let said = whole(bad).unwrap_err().to_string();
            assert!(said.ends_with("expected a whole number from 1 to 7"), "{said}");
        }
        let names = |json: &str| from_json::<OneOrMore<String>>(json.as_bytes()).map(|names| names.0);
        assert_eq!(names(r#""pro""#), names(r#"["pro"]"#));
        assert_eq!(names("[]"), Ok(vec![]));
        let said = names("7").unwrap_err().to_string();
        assert!(said.contains("expected a name or a list of names"), "{said}");
    }

    #[test]
    fn an_error_names_its_place() {
        #[derive(Deserialize, Debug)]
        #[expect(dead_code, reason = "only its shape is of use here")]
        #[serde(deny_unknown_fields)]
        struct Raw {
            rate: Rate,
        }
        let said = |json: &str| {
            from_json::<Raw>(json.as_bytes())
                .unwrap_err()
                .under("failed_auth")
                .to_string()
        };
        assert_eq!(
            said(r#"{"rate": "30/fortnight"}"#),
            "failed_auth.rate: found `30/fortnight`, expected a rate such as `30/second`, `30/minute`, \
             `30/hour` or `30/day`, from 1 to 1000000000000"
        );
        assert_eq!(
            said(r#"{"rat": "1"}"#),
            "failed_auth.rat: unknown field `rat`, expected `rate`"
        );
        assert_eq!(said("{}"), "failed_auth: missing field `rate`");
        assert_eq!(said(r#"{"rate": "1/day"} x"#), "failed_auth: trailing characters");
    }
}
