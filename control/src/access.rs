//! Who may do what. Nothing is allowed that no rule here allows.
//!
//! A token has a role, and may be confined to organizations. A confined one sees these alone, and of everything else that
//! it does not exist; it changes their projects and keys, and never what they were granted: their tier, models, status,
//! limits and budgets; it adds budgets of its own.

use std::net::IpAddr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::documents::{Metadata, Role, Token};
use crate::problem::Problem;
use crate::reads::Reading;
use crate::time;

pub(crate) use crate::secret::TOKEN_PREFIX as PREFIX;

/// Characters of a token's id.
const ID: usize = 12;
/// Characters of its secret.
const SECRET: usize = 43;

/// What a role may permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Fetch the directory, and exchange slices of budgets.
    FetchDirectory,
    /// Keep limits together with other gateways.
    ShareLimits,
    /// Read organizations, projects, keys, budgets, freezes, caps and restrictions, and their part of the trail.
    Read,
    /// Begin and end freezes, caps and restrictions.
    Freeze,
    /// Make and change projects and keys.
    ManageKeys,
    /// Make, change, raise and remove budgets.
    ManageBudgets,
    /// Strike holders of slices out of budgets.
    StrikeHolders,
    /// Make, change and remove organizations; import keys.
    ManageOrgs,
    /// Read the whole trail, verify and sign it.
    Audit,
    /// See who asks for the directory.
    SeeGateways,
    /// Make and revoke tokens.
    ManageTokens,
}

impl Role {
    /// Whether the role has a permission: everything a role can do is in this table.
    pub const fn grants(self, permission: Permission) -> bool {
        match self {
            Self::Gateway => matches!(permission, Permission::FetchDirectory | Permission::ShareLimits),
            Self::Viewer => matches!(permission, Permission::Read),
            Self::Support => matches!(permission, Permission::Read | Permission::Freeze),
            Self::Operator => matches!(
                permission,
                Permission::Read
                    | Permission::Freeze
                    | Permission::ManageKeys
                    | Permission::ManageBudgets
                    | Permission::StrikeHolders
                    | Permission::ManageOrgs
                    | Permission::Audit
                    | Permission::SeeGateways
                    | Permission::FetchDirectory
            ),
            Self::Owner => true,
        }
    }

    /// As people say it.
    const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Viewer => "viewer",
            Self::Support => "support",
            Self::Operator => "operator",
            Self::Owner => "owner",
        }
    }
}

impl Permission {
    /// Whether it is about more than one organization, so that a confined token never has it.
    const fn is_global(self) -> bool {
        matches!(
            self,
            Self::FetchDirectory
                | Self::ShareLimits
                | Self::StrikeHolders
                | Self::ManageOrgs
                | Self::Audit
                | Self::SeeGateways
                | Self::ManageTokens
        )
    }

    /// What it lets a token do, as in "may not …".
    const fn phrase(self) -> &'static str {
        match self {
            Self::FetchDirectory => "fetch the directory",
            Self::ShareLimits => "keep limits together with gateways",
            Self::Read => "read",
            Self::Freeze => "freeze, cap or restrict",
            Self::ManageKeys => "change projects and keys",
            Self::ManageBudgets => "change budgets",
            Self::StrikeHolders => "strike holders out of budgets",
            Self::ManageOrgs => "change organizations or import keys",
            Self::Audit => "read the whole trail",
            Self::SeeGateways => "see the gateways",
            Self::ManageTokens => "make or revoke tokens",
        }
    }
}

/// Who makes a request.
#[derive(Debug, Clone)]
pub struct Caller {
    name: String,
    role: Role,
    orgs: Option<Vec<String>>,
    address: String,
    /// Id of its token.
    token: Option<String>,
    /// Its place among those that read, for as long as the request is served.
    _reading: Option<Arc<Reading>>,
}

impl Caller {
    /// A command on the server's own machine that opened the database itself: whoever can write its file is its owner.
    pub fn local() -> Self {
        Self {
            name: "local".to_owned(),
            role: Role::Owner,
            orgs: None,
            address: "local".to_owned(),
            token: None,
            _reading: None,
        }
    }

    /// The server, for what ends by itself.
    pub(crate) fn system() -> Self {
        Self {
            name: "system".to_owned(),
            ..Self::local()
        }
    }

    pub(crate) fn from_token(token: Token, address: Option<IpAddr>) -> Self {
        Self {
            name: format!("token:{}", token.id),
            role: token.role,
            orgs: token.orgs,
            address: address.map_or_else(|| "local".to_owned(), |address| address.to_string()),
            token: Some(token.id),
            _reading: None,
        }
    }

    /// The same with a place to read, which it has until it is dropped.
    pub(crate) fn with_reading(self, reading: Option<Reading>) -> Self {
        Self {
            _reading: reading.map(Arc::new),
            ..self
        }
    }

    /// The id of the caller's token; `None` for one that needs none.
    pub(crate) fn token_id(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// As the trail names it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its address, or `local`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether its role is a gateway's.
    pub(crate) fn is_gateway(&self) -> bool {
        self.role == Role::Gateway
    }

    /// Whether it is confined to organizations.
    pub(crate) fn is_confined(&self) -> bool {
        self.orgs.is_some()
    }

    /// The organizations it is confined to.
    pub(crate) fn orgs(&self) -> Option<&[String]> {
        self.orgs.as_deref()
    }

    /// Whether it may see what belongs to an organization.
    pub(crate) fn can_see(&self, org: &str) -> bool {
        self.orgs
            .as_ref()
            .is_none_or(|orgs| orgs.iter().any(|one| one == org))
    }

    /// Fails with 403 unless the caller has this permission in some organization.
    pub(crate) fn authorize(&self, permission: Permission) -> Result<(), Problem> {
        if !self.role.grants(permission) {
            let (role, act) = (self.role.name(), permission.phrase());
            return Err(Problem::forbidden(format!(
                "a token with the role `{role}` may not {act}"
            )));
        }
        if self.is_confined() && permission.is_global() {
            let act = permission.phrase();
            return Err(Problem::forbidden(format!(
                "a token that is confined to organizations may not {act}"
            )));
        }
        Ok(())
    }

    /// Fails unless the caller has this permission in this organization; with 404 where it can't see the organization.
    pub(crate) fn authorize_in(&self, permission: Permission, org: &str) -> Result<(), Problem> {
        self.authorize(permission)?;
        if self.can_see(org) {
            Ok(())
        } else {
            Err(Problem::not_found("organization", org))
        }
    }
}

/// Fails with 401 where a token is no longer valid. It was when the request came; since then its body, or a change, was
/// waited for.
pub(crate) fn ensure_valid(token: Option<&Token>) -> Result<(), Problem> {
    match token {
        Some(token) if is_valid(token, time::now()) => Ok(()),
        _ => Err(invalid_token()),
    }
}

/// The answer to a token that is not valid, whatever the reason.
pub(crate) fn invalid_token() -> Problem {
    Problem::unauthenticated("the token is not known, has expired or was revoked")
}

/// Whether a token is valid at `now`, in milliseconds since 1970.
pub(crate) fn is_valid(token: &Token, now: i64) -> bool {
    let expires_at = token
        .expires_at
        .as_deref()
        .map(|at| time::parse("expires_at", at));
    // One that can't be read has expired.
    let has_expired = expires_at.is_some_and(|at| at.map_or(true, |at| at <= now));
    token.revoked_at.is_none() && !has_expired
}

/// A new token in clear, to be shown once, and what is kept of it.
pub(crate) fn mint(
    name: Option<String>,
    role: Role,
    orgs: Option<Vec<String>>,
    expires_at: Option<String>,
    by: &str,
) -> Result<(String, Token), getrandom::Error> {
    let id = random_text(ID, 36)?;
    let secret = random_text(SECRET, 62)?;
    let clear = format!("{PREFIX}{id}-{secret}");
    let token = Token {
        id,
        sha256: sha256(&clear),
        name,
        role,
        orgs,
        expires_at,
        revoked_at: None,
        metadata: Metadata::new(time::to_rfc3339(time::now()), by),
    };
    Ok((clear, token))
}

/// Whether a text has the form of a token, as [`mint`] makes them.
pub(crate) fn has_form(text: &str) -> bool {
    let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
    let is = |part: &str, len| part.len() == len && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    parts.is_some_and(|(id, secret)| is(id, ID) && is(secret, SECRET))
}

/// So many random characters of the first `base` of digits, lower and upper case letters.
pub(crate) fn random_text(len: usize, base: u8) -> Result<String, getrandom::Error> {
    const DIGITS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    // Bytes beyond the last whole multiple would make some characters likelier than others.
    let fair = u8::MAX - (u8::MAX % base) - 1;
    let mut text = String::with_capacity(len);
    while text.len() < len {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes)?;
        let digits = bytes.iter().filter(|byte| **byte <= fair);
        let digits = digits.filter_map(|byte| DIGITS.get(usize::from(byte % base)));
        text.extend(digits.take(len - text.len()).map(|digit| char::from(*digit)));
    }
    Ok(text)
}

pub(crate) fn sha256(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_have_their_form() {
        let (clear, token) = mint(None, Role::Viewer, None, None, "local").unwrap();
        assert!(
            clear.starts_with("tg-token-") && clear.len() == 9 + 12 + 1 + 43,
            "{clear}"
        );
        assert!(has_form(&clear));
        for other in [
            "tg-token-x",
            "",
            &clear[1..],
            &clear[..clear.len() - 1],
            &format!("{clear}x"),
        ] {
            assert!(!has_form(other), "{other}");
        }
        assert_ne!(clear, mint(None, Role::Viewer, None, None, "local").unwrap().0);
        assert!(!serde_json::to_string(&token).unwrap().contains(&clear));
    }
}
