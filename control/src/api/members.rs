//! Which members there are, for an error about one that is not.

use serde::de::value::Error;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// What to say of a member at a path, which `T` does not have. Of members deeper down nothing is known here.
pub(super) fn no_such_member<T: DeserializeOwned>(path: &str) -> String {
    let mut members = Members(&[]);
    // It asks for its members, and is given none.
    let _ = T::deserialize(&mut members);
    match members.0 {
        all if all.is_empty() || path.contains(['.', '[']) => "there is no such member".to_owned(),
        all => format!("there is no such member; there are `{}`", all.join("`, `")),
    }
}

/// The names that a struct has serde look for.
struct Members(&'static [&'static str]);

impl<'de> Deserializer<'de> for &mut Members {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("only members are asked for"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0 = members;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}
