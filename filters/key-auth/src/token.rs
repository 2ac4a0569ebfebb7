//! The identity in a token that Envoy's `jwt_authn` verified before this filter.

use sha2::{Digest as _, Sha256};
use tollgate_core::auth::TokenClaims;
use tollgate_host::{Status, property};

/// What a verified token says of its bearer.
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) org: String,
    pub(crate) project: Option<String>,
}

/// Reads the verified token of the request; `Ok(None)` where there is none. `Err` where there is one that does
/// not say for whom.
pub(crate) fn read(claims: &TokenClaims) -> Result<Option<Token>, ()> {
    let claim = |name: &str| {
        let path = [
            "metadata",
            "filter_metadata",
            "envoy.filters.http.jwt_authn",
            &claims.metadata_key,
            name,
        ];
        match property(&path) {
            // Empty is not absent: a token without a project speaks for the whole organization.
            Ok(text) => String::from_utf8(text)
                .ok()
                .filter(|text| !text.is_empty())
                .map(Some)
                .ok_or(()),
            Err(Status::NotFound) => Ok(None),
            Err(_) => Err(()),
        }
    };
    let (org, subject) = (claim(&claims.org_claim)?, claim(&claims.subject_claim)?);
    match (org, subject) {
        (Some(org), Some(subject)) => Ok(Some(Token {
            id: id(&org, &subject),
            org,
            project: claim(&claims.project_claim)?,
        })),
        (None, None) => Ok(None),
        _ => Err(()),
    }
}

/// A public id that stays the same for a subject of an organization and does not show it: subjects are often mail
/// addresses.
fn id(org: &str, subject: &str) -> String {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(org)
        .chain_update([0])
        .chain_update(subject)
        .finalize()
        .into();
    digest
        .iter()
        .take(8)
        .fold("jwt-".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}
