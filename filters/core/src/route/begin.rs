//! What a request's headers say: whether it goes on, and how its body is to be read.

use super::{Config, Refusal, Resource, body_kind, resource};
use crate::body::{Coding, read_json};
use crate::catalogue::{self, listing};
use crate::endpoint::Endpoint;
use crate::exchange::Host;
use crate::headers::Headers;
use crate::identity::Identity;

/// The header that says how a body is coded.
pub const CODING: &str = "content-encoding";

/// What becomes of a request by its headers.
#[derive(Debug)]
pub enum Begun {
    /// It is answered with this document.
    Answered(Vec<u8>),
    /// Its body is waited for.
    Held(Head),
}

/// The head of a request to a model.
#[derive(Debug)]
pub struct Head {
    /// What is asked for.
    pub endpoint: Endpoint,
    /// The boundary of a form; `None` for JSON.
    pub boundary: Option<String>,
    /// How the body is coded; `None` for one that is as it stands, whether a header says so or not.
    pub coding: Option<Coding>,
    /// Whether a header says how.
    pub says_coding: bool,
    /// How long the body will be, as its client says.
    pub length: Option<u64>,
    /// Whether there are headers that Envoy obeys, and that only the gateway may set.
    pub controlled: bool,
}

impl Config {
    /// Reads what `who` asks for; `end` if there is no body.
    pub fn begin(
        &self,
        host: &mut impl Host,
        headers: &impl Headers,
        who: &Identity,
        end: bool,
    ) -> Result<Begun, Refusal> {
        self.refusals.admit(host, who).map_err(Refusal::TooManyRefused)?;
        let path = headers.get(b":path").unwrap_or_default();
        match resource(headers.get(b":method").unwrap_or_default(), path)? {
            Resource::Models => Ok(Begun::Answered(listing::list(self.catalogue.granted(who)))),
            Resource::ModelEntry(name) => {
                let model = self.catalogue.granted(who).find(|model| model.name == name);
                let unknown = || catalogue::Refusal::unknown(name);
                Ok(Begun::Answered(listing::entry(model.ok_or_else(unknown)?)))
            }
            Resource::Model(endpoint) => Head::read(headers, endpoint, end).map(Begun::Held),
        }
    }
}

impl Head {
    fn read(headers: &impl Headers, endpoint: Endpoint, end: bool) -> Result<Self, Refusal> {
        let boundary = body_kind(endpoint, values(headers, b"content-type"))?.map(str::to_owned);
        let coding = Coding::read(values(headers, CODING.as_bytes())).map_err(Refusal::ContentEncoding)?;
        if end {
            // Read as what it is: an empty body, and refused with the reason that a reader gives.
            read_json(endpoint, b"")?;
        }
        let length = headers.get(b"content-length");
        let length = length.and_then(|length| core::str::from_utf8(length).ok());
        Ok(Self {
            endpoint,
            boundary,
            coding,
            says_coding: headers.get(CODING.as_bytes()).is_some(),
            length: length.and_then(|length| length.parse().ok()),
            controlled: headers.iter().any(|(name, _)| controls(name)),
        })
    }
}

/// Every value of a header.
fn values<'h>(headers: &'h impl Headers, wanted: &'static [u8]) -> impl Iterator<Item = &'h [u8]> {
    let named = headers.iter().filter(move |(name, _)| *name == wanted);
    named.map(|(_, value)| value)
}

fn controls(name: &[u8]) -> bool {
    (name.starts_with(b"x-envoy-") && name != b"x-envoy-external-address") || name == b"x-tollgate-targets"
}
