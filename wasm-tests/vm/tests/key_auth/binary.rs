//! A configuration in the form in which Envoy hands over a `google.protobuf.Struct`.

use serde_json::{Value, json};
use tollgate_vm::{World, module};

use crate::stage::VM_ID;

/// `google.protobuf.Struct` in its binary form, its members in this order.
fn binary(members: &[(&str, Value)]) -> Vec<u8> {
    let entry = |(name, value): &(&str, Value)| {
        message(
            1,
            &[message(1, name.as_bytes()), message(2, &value_of(value))].concat(),
        )
    };
    members.iter().flat_map(entry).collect()
}

fn value_of(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => message(3, text.as_bytes()),
        Value::Object(map) => {
            let members: Vec<(&str, Value)> = map
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone()))
                .collect();
            message(5, &binary(&members))
        }
        other => panic!("not needed here: {other}"),
    }
}

fn message(number: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).unwrap();
    assert!(len < 128);
    [&[number << 3 | 2, len], bytes].concat()
}

/// A Struct begins with `\n` and the length of its first entry: with 123 of them that is `\n{`, as JSON may begin.
#[test]
fn a_struct_of_any_length_is_no_json() {
    for len in 1..=114 {
        let members = [("cluster", json!("c".repeat(len))), ("path", json!("/d.json"))];
        let configured = World::new()
            .vm(&module("key-auth"), VM_ID)
            .configure_bytes("directory", binary(&members));
        assert!(
            configured.is_ok(),
            "a cluster name of {len} characters: {:?}",
            configured.err()
        );
    }
}
