//! The configuration as Envoy hands it to a plugin.
//!
//! A `google.protobuf.Struct` in Envoy's YAML reaches the plugin in protobuf's binary form (seen on 1.40, although
//! its documentation says JSON); a `StringValue` reaches it as the text it holds. Both become JSON here. No Struct
//! begins with `{`, which would be a field that a Struct hasn't got; but one may begin with a line feed and a `{`,
//! so blanks before a text are stepped over only where it is no Struct.

use crate::config::ConfigError;

/// Deeper nesting than any configuration has.
const MAX_DEPTH: usize = 32;

/// A plugin's configuration as JSON text. There is one thing that can be wrong with it, told as all that is wrong with what
/// it holds.
pub fn to_json(configuration: Vec<u8>) -> Result<Vec<u8>, Vec<ConfigError>> {
    if configuration.first() == Some(&b'{') {
        return Ok(configuration);
    }
    let mut json = Vec::with_capacity(configuration.len() * 2);
    if object(&configuration, &mut json, MAX_DEPTH).is_some() {
        return Ok(json);
    }
    if configuration.trim_ascii_start().first() == Some(&b'{') {
        return Ok(configuration);
    }
    let expected = "expected a google.protobuf.Struct, or a google.protobuf.StringValue with JSON";
    Err(vec![ConfigError::new("", expected)])
}

/// `Struct { map<string, Value> fields = 1 }`.
fn object(mut fields: &[u8], json: &mut Vec<u8>, depth: usize) -> Option<()> {
    json.push(b'{');
    let mut first = true;
    while !fields.is_empty() {
        let (1, Field::Bytes(mut entry)) = field(&mut fields)? else {
            return None;
        };
        let (mut name, mut member) = (b"".as_slice(), b"".as_slice());
        while !entry.is_empty() {
            match field(&mut entry)? {
                (1, Field::Bytes(bytes)) => name = bytes,
                (2, Field::Bytes(bytes)) => member = bytes,
                _ => return None,
            }
        }
        if !core::mem::take(&mut first) {
            json.push(b',');
        }
        text(name, json)?;
        json.push(b':');
        value(member, json, depth.checked_sub(1)?)?;
    }
    json.push(b'}');
    Some(())
}

/// `ListValue { repeated Value values = 1 }`.
fn array(mut values: &[u8], json: &mut Vec<u8>, depth: usize) -> Option<()> {
    json.push(b'[');
    let mut first = true;
    while !values.is_empty() {
        let (1, Field::Bytes(item)) = field(&mut values)? else {
            return None;
        };
        if !core::mem::take(&mut first) {
            json.push(b',');
        }
        value(item, json, depth.checked_sub(1)?)?;
    }
    json.push(b']');
    Some(())
}

/// `Value { oneof kind { null = 1; double = 2; string = 3; bool = 4; Struct = 5; ListValue = 6 } }`.
fn value(mut bytes: &[u8], json: &mut Vec<u8>, depth: usize) -> Option<()> {
    if bytes.is_empty() {
        json.extend(b"null");
        return Some(());
    }
    match field(&mut bytes)? {
        (1, Field::Varint(_)) => json.extend(b"null"),
        (2, Field::Double(number)) => serde_json::to_writer(&mut *json, &number).ok()?,
        (3, Field::Bytes(string)) => text(string, json)?,
        (4, Field::Varint(truth)) => json.extend(if truth == 0 { b"false".as_slice() } else { b"true" }),
        (5, Field::Bytes(fields)) => object(fields, json, depth)?,
        (6, Field::Bytes(values)) => array(values, json, depth)?,
        _ => return None,
    }
    bytes.is_empty().then_some(())
}

fn text(string: &[u8], json: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(json, core::str::from_utf8(string).ok()?).ok()
}

enum Field<'a> {
    Varint(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

/// The next field of a message, by its number.
fn field<'a>(message: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = varint(message)?;
    let content = match tag & 7 {
        0 => Field::Varint(varint(message)?),
        1 => {
            let (number, rest) = message.split_first_chunk()?;
            *message = rest;
            Field::Double(f64::from_le_bytes(*number))
        }
        2 => {
            let len = usize::try_from(varint(message)?).ok()?;
            let (bytes, rest) = message.split_at_checked(len)?;
            *message = rest;
            Field::Bytes(bytes)
        }
        _ => return None,
    };
    Some((tag >> 3, content))
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    fn message(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut len = bytes.len();
        while len > 0x7f {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend(bytes);
        out
    }

    /// The binary form, written without the code under test.
    fn encode(json: &Value) -> Vec<u8> {
        match json {
            Value::Null => vec![1 << 3, 0],
            Value::Bool(truth) => vec![4 << 3, u8::from(*truth)],
            Value::Number(number) => {
                [[2 << 3 | 1].as_slice(), &number.as_f64().unwrap().to_le_bytes()].concat()
            }
            Value::String(string) => message(3, string.as_bytes()),
            Value::Array(items) => message(
                6,
                &items
                    .iter()
                    .flat_map(|item| message(1, &encode(item)))
                    .collect::<Vec<_>>(),
            ),
            Value::Object(members) => message(5, &encode_struct(members)),
        }
    }

    fn encode_struct(members: &Map<String, Value>) -> Vec<u8> {
        let entry = |(name, value): (&String, &Value)| {
            message(
                1,
                &[message(1, name.as_bytes()), message(2, &encode(value))].concat(),
            )
        };
        members.iter().flat_map(entry).collect()
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-1_000_000..1_000_000).prop_map(|half: i32| Value::from(f64::from(half) / 2.0)),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(".*", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_struct_becomes_its_json(members in proptest::collection::btree_map(".*", any_json(), 1..6)) {
            let members: Map<String, Value> = members.into_iter().collect();
            let json = to_json(encode_struct(&members)).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), Value::Object(members));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = to_json(bytes);
        }
    }

    #[test]
    fn text_stays_as_it_is() {
        assert_eq!(to_json(b" {\"a\": 1}".to_vec()).unwrap(), b" {\"a\": 1}");
        assert_eq!(to_json(b"\n\n{\"a\": 1}".to_vec()).unwrap(), b"\n\n{\"a\": 1}");
        assert!(to_json(b"a: 1".to_vec()).is_err());
        assert_eq!(to_json(Vec::new()).unwrap(), b"{}");
    }

    /// Found by the property above: a first member of 123 bytes makes a Struct begin with "\n{".
    #[test]
    fn a_struct_that_looks_like_text_is_one() {
        for len in 0..200 {
            let members: Map<String, Value> =
                [("a".to_owned(), "x".repeat(len).into())].into_iter().collect();
            let json = to_json(encode_struct(&members)).unwrap();
            assert_eq!(
                serde_json::from_slice::<Value>(&json).unwrap(),
                Value::Object(members)
            );
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = (0..1_000).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        let members = [("deep".to_owned(), deep)].into_iter().collect();
        assert!(to_json(encode_struct(&members)).is_err());
    }
}
