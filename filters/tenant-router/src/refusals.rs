//! The count of refused requests in shared data.

use tollgate_core::identity::Identity;
use tollgate_core::refusals::{Account, Policy, TooMany};
use tollgate_host::{Status, client_address, create_shared, now_nanos, set_shared_if, shared};

/// Lost races before a refusal goes uncounted: each one means that another was counted.
const TRIES: usize = 8;

fn accounts(policy: &Policy, who: &Identity) -> impl Iterator<Item = Account> {
    let key = policy.key(&who.org, &who.key_id);
    key.into_iter().chain(policy.address(client_address))
}

/// Whether somebody may ask, or had too many refused. Where that can't be read they may.
pub(crate) fn admit(policy: &Policy, who: &Identity) -> Result<(), TooMany> {
    if policy.is_empty() {
        return Ok(());
    }
    let Ok(now) = now_nanos() else { return Ok(()) };
    for account in accounts(policy, who) {
        let found = shared(account.cell().as_bytes()).unwrap_or_default();
        account.admit(found.as_ref().map(|(cell, _)| cell.as_slice()), now)?;
    }
    Ok(())
}

/// One more was refused.
pub(crate) fn count(policy: &Policy, who: &Identity) {
    if policy.is_empty() {
        return;
    }
    let Ok(now) = now_nanos() else { return };
    for account in accounts(policy, who) {
        let name = account.cell();
        for _ in 0..TRIES {
            let Ok(found) = shared(name.as_bytes()) else { break };
            let Some(cell) = account.count(found.as_ref().map(|(cell, _)| cell.as_slice()), now) else {
                break;
            };
            let written = match found {
                Some((_, cas)) => set_shared_if(name.as_bytes(), &cell, cas),
                None => create_shared(name.as_bytes(), &cell),
            };
            if written != Err(Status::CasMismatch) {
                break;
            }
        }
    }
}
