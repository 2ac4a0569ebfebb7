//! Bodies of creates and changes: a JSON merge patch (RFC 7396) of what a client sets, in which nothing is unknown.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::members::no_such_member;
use super::request::parse;
use crate::access::Caller;
use crate::documents::{Metadata, Status, merge};
use crate::problem::Problem;

/// Takes the id out of a body: what is left is all that a client sets, and nothing unknown.
pub(super) fn split_id<T: DeserializeOwned>(mut body: Value) -> Result<(String, T), Problem> {
    let id = body.as_object_mut().and_then(|members| members.remove("id"));
    let Some(Value::String(id)) = id else {
        return Err(Problem::field("id", "expected the name, a string"));
    };
    Ok((id, parse(body.to_string().as_bytes())?))
}

/// What a client sets, with a change merged into it.
pub(super) fn apply_patch<T: Serialize + DeserializeOwned>(spec: &T, change: Value) -> Result<T, Problem> {
    if !change.is_object() {
        return Err(Problem::field(
            "",
            "expected an object with the members to change",
        ));
    }
    // One that is removed is not there to be refused below.
    let removed = change.as_object().into_iter().flatten();
    for (name, _) in removed.filter(|(_, value)| value.is_null()) {
        if !is_field::<T>(name) {
            return Err(Problem::field(name, no_such_member::<T>(name)));
        }
    }
    let mut whole = json!(spec);
    merge(&mut whole, change);
    parse(whole.to_string().as_bytes())
}

/// The metadata of a key or project after a change to its status. What the platform suspended, only the platform resumes.
pub(super) fn metadata_after(
    caller: &Caller,
    metadata: &Metadata,
    status: Status,
    sets_status: bool,
) -> Result<Metadata, Problem> {
    let by_platform = metadata.suspended_by_platform;
    if status == Status::Active && by_platform && caller.is_confined() {
        return Err(Problem::forbidden(
            "it was suspended by the platform, and a token that is confined to organizations may not resume it",
        ));
    }
    // Where the customer suspended it, the platform can say it too, and then it is the platform's.
    let by_platform = by_platform || (sets_status && !caller.is_confined());
    Ok(metadata.clone().with_status(status, by_platform))
}

/// Whether a change names the status.
pub(super) fn sets_status(change: &Value) -> bool {
    change.get("status").is_some()
}

/// Whether a client sets something of this name.
fn is_field<T: DeserializeOwned>(name: &str) -> bool {
    let mut known = true;
    let one = json!({name: null});
    // That it can't be `null` says that there is one.
    let mut ignored = |_: serde_ignored::Path<'_>| known = false;
    let _ = T::deserialize(serde_ignored::Deserializer::new(&one, &mut ignored));
    known
}
