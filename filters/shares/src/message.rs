//! What members and the coordinator say to each other.
//!
//! On the wire both are JSON, with the names of these members, all of them there, and times in microseconds:
//! `docs/fleet-protocol.md`, "On the wire". As postcard, in which numbers take as many bytes as they need, a message
//! without wants is 15 to 40 bytes, a [`Want`] 24 to 60; an answer is 20 to 45, and 17 for each entry of the log and 20 to
//! 42 for each [`Grant`].

use serde::{Deserialize, Serialize};

use crate::limit::{Limit, Share, Time};
use crate::text;

/// So many keys are in one message at most: some 70 KiB of JSON. What else a member has to say waits for the next.
pub const MAX_WANTS: usize = 512;

/// So many entries of the log are in an answer at most: 17 KiB as postcard.
pub(crate) const PAGE: usize = 1024;

/// Names a row, a subject and the numbers of the limit: a hash that nobody can aim. 16 bytes; in JSON 32
/// hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(#[serde(with = "text::bytes")] pub [u8; 16]);

/// One life of a member: random at its start, another after its lease ran out. In JSON 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(#[serde(with = "text::id")] pub u64);

/// One life of the coordinator's data: random when they begin empty. In JSON 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(#[serde(with = "text::id")] pub u64);

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
    /// In JSON a text of decimal digits.
    #[serde(with = "text::units")]
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
    /// What comes with it for its bucket, in units. Without them what is larger is empty. In JSON a text of decimal
    /// digits.
    #[serde(with = "text::units")]
    pub units: u128,
    /// More is due to it once others have let go.
    pub waiting: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Envoys and servers of other versions have to read.
    #[test]
    fn json_is_as_documented() {
        let message = Message {
            incarnation: Incarnation(0x0123_4567_89ab_cdef),
            seq: 7,
            answered: 6,
            epoch: Some(Epoch(u64::MAX)),
            version: 3,
            parts: 4,
            leaves: false,
            wants: vec![Want {
                key: Key([0xab; 16]),
                limit: Limit {
                    rate: 6_000,
                    period: 60_000_000,
                    burst: 6_000,
                },
                have: Share { rate: 100, burst: 90 },
                returned: u128::MAX,
                demand: 120,
                need: 0,
            }],
        };
        let text = r#"{"incarnation":"0123456789abcdef","seq":7,"answered":6,"epoch":"ffffffffffffffff","version":3,"#
            .to_owned()
            + r#""parts":4,"leaves":false,"wants":[{"key":"abababababababababababababababab","#
            + r#""limit":[6000,60000000,6000],"have":[100,90],"#
            + r#""returned":"340282366920938463463374607431768211455","demand":120,"need":0}]}"#;
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
        assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message);
        let answer = Answer {
            incarnation: message.incarnation,
            seq: 7,
            epoch: Epoch(1),
            terms: Some(Terms {
                slot: Some(SlotTerms { parts: 4, age: 5 }),
                version: 4,
                log: vec![(Key([1; 16]), true)],
                grants: vec![Grant {
                    key: Key([2; 16]),
                    share: Share { rate: 10, burst: 9 },
                    units: 600,
                    waiting: true,
                }],
            }),
        };
        let text = r#"{"incarnation":"0123456789abcdef","seq":7,"epoch":"0000000000000001","terms":{"#
            .to_owned()
            + r#""slot":{"parts":4,"age":5},"version":4,"log":[["01010101010101010101010101010101",true]],"#
            + r#""grants":[{"key":"02020202020202020202020202020202","share":[10,9],"units":"600","waiting":true}]}}"#;
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
        assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
    }

    /// An Envoy takes an answer with members that it does not know.
    #[test]
    fn an_answer_may_say_more() {
        let text =
            r#"{"incarnation":"0123456789abcdef","seq":7,"epoch":"0000000000000001","terms":null,"more":1}"#;
        assert_eq!(serde_json::from_str::<Answer>(text).unwrap().terms, None);
    }

    #[test]
    fn identifiers_and_units_are_read_exactly() {
        let wrong = |text: &str| serde_json::from_str::<Incarnation>(text).unwrap_err().to_string();
        for text in [
            "7",
            r#""0123456789abcde""#,
            r#""0123456789ABCDEF""#,
            r#""+123456789abcdef""#,
            r#""é123456789abcde""#,
            "null",
        ] {
            assert!(wrong(text).contains("16 hexadecimal digits"), "{text}");
        }
        let grant = |units: &str| {
            let key = "02020202020202020202020202020202";
            let text = format!(r#"{{"key":"{key}","share":[1,1],"units":{units},"waiting":false}}"#);
            serde_json::from_str::<Grant>(&text).map(|grant| grant.units)
        };
        assert_eq!(grant(r#""17""#).unwrap(), 17);
        for units in [
            "17",
            r#""""#,
            r#""+1""#,
            r#""-1""#,
            r#""1e3""#,
            r#""340282366920938463463374607431768211456""#,
        ] {
            assert!(grant(units).is_err(), "{units}");
        }
    }
}
