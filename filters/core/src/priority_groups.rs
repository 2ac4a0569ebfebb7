//! The order of a request's targets as Envoy's `priority_group` cluster specifier reads it from metadata: a list of groups
//! of one cluster each. Envoy's `header_to_metadata` takes it out of a header, as base64 of a `google.protobuf.Value`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The header's value.
pub fn header<'a>(clusters: impl IntoIterator<Item = &'a str>) -> String {
    let groups: Vec<Vec<u8>> = clusters.into_iter().map(group).collect();
    STANDARD.encode(list(&groups))
}

/// `{name: c, clusters: [{cluster_name: c, weight: 1}]}`
fn group(cluster: &str) -> Vec<u8> {
    let only = structure(&[("cluster_name", string(cluster)), ("weight", number(1.0))]);
    structure(&[("name", string(cluster)), ("clusters", list(&[only]))])
}

/// `Value { string_value = 3 }`.
fn string(text: &str) -> Vec<u8> {
    field(3, text.as_bytes())
}

/// `Value { number_value = 2 }`, eight bytes.
fn number(number: f64) -> Vec<u8> {
    let mut bytes = vec![2 << 3 | 1];
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}

/// `Value { struct_value = 5 }` with `Struct { map<string, Value> fields = 1 }`.
fn structure(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let member = |(name, value): &(&str, Vec<u8>)| {
        let entry = [field(1, name.as_bytes()), field(2, value)].concat();
        field(1, &entry)
    };
    field(5, &members.iter().flat_map(member).collect::<Vec<_>>())
}

/// `Value { list_value = 6 }` with `ListValue { repeated Value values = 1 }`.
fn list(values: &[Vec<u8>]) -> Vec<u8> {
    field(
        6,
        &values
            .iter()
            .flat_map(|value| field(1, value))
            .collect::<Vec<_>>(),
    )
}

/// A field of bytes: its number and kind, their length as a varint, and the bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugin_config::to_json;

    /// Read back by what reads Envoy's own.
    #[test]
    fn envoy_reads_a_list_of_groups() {
        let long = "a-cluster-whose-name-is-long".repeat(9);
        let value = STANDARD.decode(header(["llama", &long])).unwrap();
        let member = [field(1, b"groups"), field(2, &value)].concat();
        let json: Value = serde_json::from_slice(&to_json(field(1, &member)).unwrap()).unwrap();
        let group = |name: &str| json!({"name": name, "clusters": [{"cluster_name": name, "weight": 1.0}]});
        assert_eq!(json, json!({"groups": [group("llama"), group(&long)]}));
    }
}
