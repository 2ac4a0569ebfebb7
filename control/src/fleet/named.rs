//! What each token has in the books of the fleet, as far as this server heard. One that somebody stole does not fill them.
//!
//! Members and keys are counted for as long as they can be in the books. A key that nobody holds any more stays there until its
//! bucket is full, which for a slow limit takes as long as the limit says.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use tokio::time::{Duration, Instant};
use tollgate_shares::{Incarnation, Key, MAX_MEMBERS, MAX_SUBJECTS, Message, Timing, Want};

use crate::problem::Problem;

/// What one token may have: the half of all keys, a quarter of all members, and so many pairs of both.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    members: usize,
    keys: usize,
    pairs: usize,
}

const BOUNDS: Bounds = Bounds {
    members: MAX_MEMBERS / 4,
    keys: MAX_SUBJECTS / 2,
    pairs: MAX_SUBJECTS,
};
/// How often it is looked whether anything is over, where there is no room.
const LOOK: Duration = Duration::from_secs(1);

/// How often what is over is forgotten of all tokens.
const SWEEP: Duration = Duration::from_secs(60);
/// For as long a slow limit counts as none that this server sees the end of.
const FOREVER: Duration = Duration::from_secs(400 * 86_400);

/// What each token has there.
#[derive(Debug, Default)]
pub(super) struct Named(Mutex<Tokens>);

#[derive(Debug, Default)]
struct Tokens {
    by_id: HashMap<String, OfToken>,
    swept: Option<Instant>,
}

#[derive(Debug, Default)]
struct OfToken {
    members: HashMap<Incarnation, Member>,
    keys: HashMap<Key, Kept>,
    pairs: usize,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    until: Instant,
    keys: BTreeSet<Key>,
}

/// How long a key is there.
#[derive(Debug, Clone, Copy)]
struct Kept {
    /// At least until then.
    until: Instant,
    /// And for so long from when nobody holds it.
    fills_in: Duration,
}

impl Named {
    /// Notes who says what, and leaves out of it each key for which the token has no room: such a key has its implicit parts
    /// alone. 429 for a member that has no room itself.
    pub(super) fn note(&self, token: &str, message: &mut Message) -> Result<(), Problem> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if tokens
            .swept
            .is_none_or(|swept| now.duration_since(swept) >= SWEEP)
        {
            tokens.swept = Some(now);
            tokens.by_id.values_mut().for_each(|of| of.look(now));
            tokens
                .by_id
                .retain(|_, of| !of.members.is_empty() || !of.keys.is_empty());
        }
        let of = tokens.by_id.entry(token.to_owned()).or_default();
        of.note(message, BOUNDS, now)
    }
}

/// How long after its last message a member counts.
fn lease() -> Duration {
    Duration::from_micros(Timing::FLEET.ttl.saturating_add(Timing::FLEET.skew))
}

impl OfToken {
    fn note(&mut self, message: &mut Message, bounds: Bounds, now: Instant) -> Result<(), Problem> {
        let who = message.incarnation;
        if message.leaves {
            self.forget(who, now);
            return Ok(());
        }
        let is_full = |of: &Self| of.members.len() >= bounds.members && !of.members.contains_key(&who);
        if is_full(self) {
            self.look(now);
        }
        if is_full(self) {
            return Err(Problem::too_many_members());
        }
        let until = now + lease();
        self.members
            .entry(who)
            .or_insert_with(|| Member {
                until,
                keys: BTreeSet::new(),
            })
            .until = until;
        message.wants.retain(|want| self.has_room(who, want, bounds, now));
        Ok(())
    }

    /// Whether there is room for what a member says of a key.
    fn has_room(&mut self, who: Incarnation, want: &Want, bounds: Bounds, now: Instant) -> bool {
        let is_over = want.have.is_nothing() && want.demand == 0 && want.need == 0;
        let is_held = |of: &Self| {
            of.members
                .get(&who)
                .is_some_and(|member| member.keys.contains(&want.key))
        };
        let is_new = !is_held(self) && !is_over;
        let fits = |of: &Self| {
            (of.keys.len() < bounds.keys || of.keys.contains_key(&want.key))
                && (of.pairs < bounds.pairs || !is_new)
        };
        if !fits(self) {
            self.look(now);
        }
        if !fits(self) {
            return false;
        }
        // It is looked after some time after its holder has gone, and nobody here knows how full its bucket is.
        let fills_in = Duration::from_micros(want.limit.fills_in()).min(FOREVER) + 2 * lease();
        let kept = Kept {
            until: now + fills_in,
            fills_in,
        };
        self.keys.insert(want.key, kept);
        let Some(member) = self.members.get_mut(&who) else {
            return true;
        };
        if is_over {
            self.pairs -= usize::from(member.keys.remove(&want.key));
        } else {
            self.pairs += usize::from(member.keys.insert(want.key));
        }
        true
    }

    /// Forgets what is over, if that was not looked at just before.
    fn look(&mut self, now: Instant) {
        if self
            .looked
            .is_some_and(|looked| now.duration_since(looked) < LOOK)
        {
            return;
        }
        self.looked = Some(now);
        let gone = self.members.iter().filter(|(_, member)| member.until <= now);
        let gone: Vec<Incarnation> = gone.map(|(who, _)| *who).collect();
        for who in gone {
            self.forget(who, now);
        }
        let held = self.members.values().flat_map(|member| &member.keys);
        let held: BTreeSet<Key> = held.copied().collect();
        self.keys
            .retain(|key, kept| kept.until > now || held.contains(key));
    }

    fn forget(&mut self, who: Incarnation, now: Instant) {
        let Some(member) = self.members.remove(&who) else {
            return;
        };
        self.pairs -= member.keys.len();
        for key in &member.keys {
            if let Some(kept) = self.keys.get_mut(key) {
                kept.until = kept.until.max(now + kept.fills_in);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_shares::{Limit, Share};

    use super::*;

    const FEW: Bounds = Bounds {
        members: 2,
        keys: 3,
        pairs: 4,
    };
    /// Fills in ten seconds.
    const LIMIT: Limit = Limit {
        rate: 60,
        period: 60_000_000,
        burst: 10,
    };

    fn message(who: u64, keys: impl IntoIterator<Item = u8>, demand: u64) -> Message {
        let want = |key: u8| Want {
            key: Key([key; 16]),
            limit: LIMIT,
            have: Share::default(),
            returned: 0,
            demand,
            need: 0,
        };
        Message {
            incarnation: Incarnation(who),
            seq: 1,
            answered: 0,
            epoch: None,
            version: 0,
            parts: 0,
            leaves: false,
            wants: keys.into_iter().map(want).collect(),
        }
    }

    /// Which keys are left of a message; `None` where it is refused.
    fn left(of: &mut OfToken, mut message: Message, now: Instant) -> Option<Vec<u8>> {
        let taken = of.note(&mut message, FEW, now);
        let keys = message.wants.iter().map(|want| want.key.0[0]).collect();
        taken.map(|()| keys).ok()
    }

    #[test]
    fn a_token_names_so_many_keys_and_gets_them_back() {
        let (mut of, begun) = (OfToken::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(left(&mut of, message(1, 1..=4, 1), at(0)).unwrap(), [1, 2, 3]);
        // What it names it may name again, and say that it is over.
        assert_eq!(left(&mut of, message(1, 1..=4, 1), at(5)).unwrap(), [1, 2, 3]);
        assert_eq!(left(&mut of, message(1, [2], 0), at(6)).unwrap(), [2]);
        // That key is in the books until its bucket is full; the others as long as they are held.
        assert_eq!(left(&mut of, message(1, [4], 1), at(20)).unwrap(), [0_u8; 0]);
        assert_eq!(left(&mut of, message(1, [], 1), at(30)).unwrap(), [0_u8; 0]);
        assert_eq!(left(&mut of, message(1, [4, 5], 1), at(41)).unwrap(), [4]);
        // A member that is silent holds them no longer.
        assert_eq!(left(&mut of, message(2, [5], 1), at(54)).unwrap(), [0_u8; 0]);
        assert_eq!(
            left(&mut of, message(2, [5, 6, 7, 8], 1), at(90)).unwrap(),
            [5, 6, 7]
        );
    }

    #[test]
    fn a_token_has_so_many_members_and_pairs() {
        let (mut of, now) = (OfToken::default(), Instant::now());
        assert_eq!(left(&mut of, message(1, 1..=3, 1), now).unwrap(), [1, 2, 3]);
        assert_eq!(left(&mut of, message(2, 1..=3, 1), now).unwrap(), [1]);
        assert_eq!(left(&mut of, message(3, [], 1), now), None);
        let leaves = Message {
            leaves: true,
            ..message(1, [], 1)
        };
        assert_eq!(left(&mut of, leaves, now).unwrap(), [0_u8; 0]);
        assert_eq!(left(&mut of, message(3, 1..=3, 1), now).unwrap(), [1, 2, 3]);
        assert_eq!(of.pairs, 4);
    }
}
