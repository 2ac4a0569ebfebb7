//! A JSON document as serde_json reads it, with every member that was given.
//!
//! Not `serde_json::Value`: that keeps the last of two members of one name, and has a name of its own
//! (`$serde_json::private::RawValue`) that makes it read a string as a document.

use core::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Any value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Whole(u64),
    Negative(i64),
    Real(f64),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// The value of the one member of this name; `Null` where it is absent.
    pub(crate) fn member(&self, wanted: &str) -> &Tree {
        self.members()
            .iter()
            .find(|(name, _)| name == wanted)
            .map_or(&Tree::Null, |(_, value)| value)
    }

    /// The members of an object; none of another value.
    pub(crate) fn members(&self) -> &[(String, Tree)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }

    /// As JSON, each member as it was given.
    pub(crate) fn json(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let all = |items: Vec<String>| items.join(",");
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(flag) => flag.to_string(),
            Self::Whole(number) => number.to_string(),
            Self::Negative(number) => number.to_string(),
            Self::Real(number) => serde_json::Value::from(*number).to_string(),
            Self::Text(value) => text(value),
            Self::List(items) => format!("[{}]", all(items.iter().map(Self::json).collect())),
            Self::Object(members) => {
                let member = |(name, value): &(String, Self)| format!("{}:{}", text(name), value.json());
                format!("{{{}}}", all(members.iter().map(member).collect()))
            }
        }
    }

    /// Whether a member is given twice, not looking into the members.
    pub(crate) fn repeats_itself(&self) -> bool {
        let mut names: Vec<&str> = self.members().iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair.first() == pair.last())
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Negative(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Real(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Tree::Object(object))
    }
}
