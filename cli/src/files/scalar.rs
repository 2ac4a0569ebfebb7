//! A tree as the JSON that a filter gets: what type a value has depends on who reads the file.

use std::collections::HashSet;

use serde_json::Value as Json;

use super::finding::Place;
use super::tree::{Node, Scalar, Value};

/// Who reads a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Envoy's: yaml-cpp, and `MessageUtil::loadFromYaml`, which knows YAML 1.1's words for truth.
    Envoy,
    /// This tool: a document that becomes JSON by `tollgate directory build`.
    Tool,
}

impl Reader {
    /// The JSON of a tree, without the members at these places.
    pub(crate) fn json(self, node: &Node, without: &HashSet<Place>) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(node, without, &mut out);
        out
    }

    fn write(self, node: &Node, without: &HashSet<Place>, out: &mut Vec<u8>) {
        match &node.value {
            Value::Scalar(scalar) => put(&self.typed(scalar), out),
            Value::List(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    self.write(item, without, out);
                }
                out.push(b']');
            }
            Value::Map(entries) => {
                let entries = entries
                    .iter()
                    .filter(|entry| !entry.ignored && !without.contains(&entry.place));
                out.push(b'{');
                for (at, entry) in entries.enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    put(&Json::from(entry.name.as_str()), out);
                    out.push(b':');
                    self.write(&entry.value, without, out);
                }
                out.push(b'}');
            }
        }
    }

    /// The value of a scalar.
    pub(crate) fn typed(self, scalar: &Scalar) -> Json {
        let text = scalar.text.as_str();
        if !scalar.plain {
            return text.into();
        }
        if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
            return Json::Null;
        }
        match self {
            Self::Envoy => envoys(text),
            Self::Tool => tools(text),
        }
    }
}

fn put(value: &Json, out: &mut Vec<u8>) {
    // Strings, numbers and their kin always serialize.
    out.extend(serde_json::to_vec(value).unwrap_or_default());
}

fn envoys(text: &str) -> Json {
    if let Some(value) = parse_bool(text) {
        return value.into();
    }
    match integer(text) {
        // Within 32 bits it is a double, and beyond them a string of digits.
        Some(number) if i32::try_from(number).is_ok() => (number as f64).into(),
        Some(number) => number.to_string().into(),
        // Fractions too.
        None => text.into(),
    }
}

/// YAML 1.1's words, in small letters, capitals, or with a capital at the beginning.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    let rest = text.get(1..)?;
    let small = |text: &str| text.bytes().all(|c| c.is_ascii_lowercase());
    let large = |text: &str| text.bytes().all(|c| c.is_ascii_uppercase());
    if !(small(text) || large(text) || (text.get(..1).is_some_and(large) && small(rest))) {
        return None;
    }
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// As C++ reads one from a stream: `0x1f` is hexadecimal and `017` octal.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", text.get(1..)?),
        b'+' => ("", text.get(1..)?),
        _ => ("", text),
    };
    let plain = |radix: u32| digits.chars().all(|c| c.is_digit(radix));
    let parse = |digits: &str, radix| i64::from_str_radix(&format!("{sign}{digits}"), radix).ok();
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    match hex {
        Some(hex) if !hex.starts_with(['+', '-']) => parse(hex, 16),
        Some(_) => None,
        None if digits.is_empty() || !plain(10) => None,
        None if digits.len() > 1 && digits.starts_with('0') => parse(digits, 8),
        None => parse(digits, 10),
    }
}

/// As `tollgate directory build` makes JSON of it.
fn tools(text: &str) -> Json {
    // The longest word that is no text is `false`.
    let word = text.len() > 5 && text.starts_with(|c: char| c.is_alphabetic());
    let value = if word {
        None
    } else {
        serde_saphyr::from_str(text).ok()
    };
    value
        .filter(|value: &Json| !value.is_array() && !value.is_object())
        .unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(reader: Reader, text: &str) -> Json {
        reader.typed(&Scalar {
            text: text.to_owned(),
            plain: true,
            written: None,
            inside: Default::default(),
        })
    }

    #[test]
    fn envoy_reads_old_words_and_old_numbers() {
        for (text, value) in [
            ("no", json!(false)),
            ("On", json!(true)),
            ("oN", json!("oN")),
            ("y", json!(true)),
            ("7", json!(7.0)),
            ("010", json!(8.0)),
            ("089", json!("089")),
            ("0x1f", json!(31.0)),
            ("4294967296", json!("4294967296")),
            ("1.5", json!("1.5")),
            ("1_000", json!("1_000")),
            ("~", Json::Null),
            ("", Json::Null),
            ("é", json!("é")),
        ] {
            assert_eq!(read(Reader::Envoy, text), value, "{text}");
        }
    }

    #[test]
    fn a_document_is_read_as_it_is_built() {
        for (text, value) in [
            ("no", json!(false)),
            ("Nobody", json!("Nobody")),
            ("7", json!(7)),
            ("1.5", json!(1.5)),
            ("true", json!(true)),
            ("null", Json::Null),
            ("-", json!("-")),
            ("2030-01-01T00:00:00Z", json!("2030-01-01T00:00:00Z")),
        ] {
            assert_eq!(read(Reader::Tool, text), value, "{text}");
        }
    }
}
