//! How much an organization may have. What its own administrators make is bounded, as nobody of the platform looks at it:
//! each gateway holds it, and each of their changes goes to all gateways.

use tollgate_core::directory::MAX_BUDGETS;

use crate::access::Caller;
use crate::directory::key_row;
use crate::documents::{Key, Kind};
use crate::problem::Problem;
use crate::store::Write;

/// Projects of an organization, whoever makes them.
const PROJECTS: i64 = 1_000;
/// Bytes of them, whoever makes them: what changed in an organization has all of its projects, and gateways take 16 MiB.
const PROJECTS_BYTES: i64 = 4 << 20;
/// The same where a confined token makes or changes one.
const CONFINED_PROJECTS_BYTES: i64 = 1 << 20;
/// Keys of an organization that are not revoked, where a confined token makes one.
const CONFINED_KEYS: i64 = 10_000;
/// Bytes of one of them, its row in the directory and its contacts, where a confined token makes or changes it.
const CONFINED_KEY_BYTES: usize = 4 << 10;
/// Freezes, and caps, in force in an organization, where a confined token begins one.
const CONFINED_IN_FORCE: i64 = 1_000;
/// Budgets in an organization, where a confined token makes one.
const CONFINED_BUDGETS: i64 = 100;
/// Budgets at all: gateways take no directory that has more.
const BUDGETS: i64 = MAX_BUDGETS as i64;
/// The same where a confined token makes one, so that the platform has room for its own.
const BUDGETS_BY_CONFINED: i64 = BUDGETS / 10 * 9;

/// Fails where there is a budget too many, or a confined caller has made it.
pub(super) async fn ensure_room_for_budgets(
    write: &mut Write<'_>,
    caller: &Caller,
    org: &str,
) -> Result<(), Problem> {
    if caller.is_confined() && write.count(Kind::Budget, org).await? > CONFINED_BUDGETS {
        return Err(Problem::conflict(format!(
            "`{org}` has {CONFINED_BUDGETS} budgets already, and a token that is confined to organizations may not make more; \
             remove some first"
        )));
    }
    let most = match caller.is_confined() {
        true => BUDGETS_BY_CONFINED,
        false => BUDGETS,
    };
    if write.count_all(Kind::Budget).await? > most {
        return Err(Problem::conflict(format!(
            "there are {most} budgets already, as many as can be; remove some first"
        )));
    }
    Ok(())
}

/// Fails where an organization has too much with the project that was just made, or has grown.
pub(super) async fn ensure_room_for_projects(
    write: &mut Write<'_>,
    caller: &Caller,
    org: &str,
) -> Result<(), Problem> {
    let (projects, bytes) = write.size_of_projects(org).await?;
    if projects > PROJECTS {
        return Err(Problem::conflict(format!(
            "`{org}` has {PROJECTS} projects already, as many as can be; remove some first"
        )));
    }
    let most = match caller.is_confined() {
        true => CONFINED_PROJECTS_BYTES,
        false => PROJECTS_BYTES,
    };
    if bytes > most {
        return Err(Problem::conflict(format!(
            "the projects of `{org}` would take {bytes} bytes, and may take {most}; shorten their models and labels, or \
             remove some"
        )));
    }
    Ok(())
}

/// Fails where a confined caller has made a key too many.
pub(super) async fn ensure_room_for_keys(
    write: &mut Write<'_>,
    caller: &Caller,
    org: &str,
) -> Result<(), Problem> {
    if caller.is_confined() && write.count_in_force(Kind::Key, org, CONFINED_KEYS + 1).await? > CONFINED_KEYS
    {
        return Err(Problem::conflict(format!(
            "`{org}` has {CONFINED_KEYS} keys already that are not revoked, and a token that is confined to organizations may \
             not make more; revoke some first"
        )));
    }
    Ok(())
}

/// Fails where a confined caller makes a key too large.
pub(super) fn ensure_key_is_small(caller: &Caller, key: &Key) -> Result<(), Problem> {
    let contacts: usize = key.spec.contacts.iter().map(String::len).sum();
    let bytes = key_row(key).to_string().len() + contacts;
    if caller.is_confined() && bytes > CONFINED_KEY_BYTES {
        return Err(Problem::field(
            "",
            format!(
                "the key takes {bytes} bytes, expected at most {CONFINED_KEY_BYTES}: shorten its models or contacts"
            ),
        ));
    }
    Ok(())
}

/// Fails where a confined caller has begun a freeze, or a cap, too many.
pub(super) async fn ensure_room_in_force(
    write: &mut Write<'_>,
    caller: &Caller,
    kind: Kind,
    org: &str,
) -> Result<(), Problem> {
    if caller.is_confined()
        && write.count_in_force(kind, org, CONFINED_IN_FORCE + 1).await? > CONFINED_IN_FORCE
    {
        let noun = kind.noun();
        return Err(Problem::conflict(format!(
            "`{org}` has {CONFINED_IN_FORCE} {noun}s in force already, and a token that is confined to organizations may not \
             begin more; end some first"
        )));
    }
    Ok(())
}
