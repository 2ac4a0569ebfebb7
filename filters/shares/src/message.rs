//! What members and the coordinator say to each other.
//!
//! Sizes are those of postcard, in which numbers take as many bytes as they need: a message without wants is 15 to 40
//! bytes, a [`Want`] 24 to 60; an answer is 20 to 45, and 17 for each entry of the log and 20 to 42 for each [`Grant`].

use serde::{Deserialize, Serialize};

use crate::limit::{Limit, Share, Time};

/// Names a row, a subject and the numbers of the limit: a hash that nobody can aim. 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(pub [u8; 16]);

/// One life of a member: random at its start, another after its lease ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// One life of the coordinator's data: random when they begin empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// The number of a message of one member.
pub type Seq = u64;
/// The number of an entry of the log of activations.
pub type Version = u64;

/// From a member to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Message {
    /// Who sends it.
    pub incarnation: Incarnation,
    /// Higher than in all it sent before.
    pub seq: Seq,
    /// The highest answer it has taken; zero for none.
    pub answered: Seq,
    /// In whose books it is; `None` where it joins.
    pub epoch: Option<Epoch>,
    /// It has given up the implicit parts of all that was activated up to here.
    pub version: Version,
    /// Its implicit parts are no more than one in so many; zero where it has none.
    pub parts: u32,
    /// It has given up everything, and this is the last of it.
    pub leaves: bool,
    /// Keys about which there is something to say.
    pub wants: Vec<Want>,
}

/// What a member has and wants of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Want {
    /// The key.
    pub key: Key,
    /// Its limit.
    pub limit: Limit,
    /// The most that it uses from now on: its explicit share, or what is in use where that is more.
    pub have: Share,
    /// What it gave up of its bucket as the answer `answered` made its burst smaller: in units, so that nothing is rounded.
    pub returned: u128,
    /// What it was asked for in each period, what it refused included.
    pub demand: u64,
    /// A single request wants so much at once.
    pub need: u64,
}

/// From the coordinator to a member.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Answer {
    /// To whom.
    pub incarnation: Incarnation,
    /// To which of its messages.
    pub seq: Seq,
    /// Whose.
    pub epoch: Epoch,
    /// `None`: nothing is renewed, and what the member has ends with its lease.
    pub terms: Option<Terms>,
}

/// What a member may use, for a lease from the moment when it asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Terms {
    /// Its slot, where it has one.
    pub slot: Option<SlotTerms>,
    /// The log goes up to here.
    pub version: Version,
    /// The log from what the member had on: keys activated, or (`false`) no longer so.
    pub log: Vec<(Key, bool)>,
    /// Its explicit shares, of the keys that it asked about and of others that have to shrink.
    pub grants: Vec<Grant>,
}

/// What a slot gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SlotTerms {
    /// One in so many of every limit that is not activated.
    pub parts: u32,
    /// Nobody has used it for so long before the member got it.
    pub age: Time,
}

/// A member's explicit share of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// The key.
    pub key: Key,
    /// All it may use from now on.
    pub share: Share,
    /// What comes with it for its bucket, in units. Without them what is larger is empty.
    pub units: u128,
    /// More is due to it once others have let go.
    pub waiting: bool,
}

impl Grant {
    pub(crate) const fn nothing(key: Key) -> Self {
        Self {
            key,
            share: Share { rate: 0, burst: 0 },
            units: 0,
            waiting: false,
        }
    }
}
