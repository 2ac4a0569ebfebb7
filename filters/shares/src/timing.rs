//! How long what is valid, and the ways to break the rule that the model has to notice.

use serde::{Deserialize, Serialize};

use crate::limit::Time;
use crate::message::PAGE;

/// The same for the coordinator and all of its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Timing {
    /// A lease, from when a member sends the message that renews it.
    pub ttl: Time,
    /// How much longer the coordinator counts it. At least what a member's clock falls behind the coordinator's in
    /// `ttl + skew`, and `max_step`.
    pub skew: Time,
    /// The most by which one message moves the coordinator's clock. At least the time between messages in a quiet fleet,
    /// or leases end late.
    pub max_step: Time,
    /// How long a member without a slot waits for one to become free before slots are halved. `ttl + skew`, after which
    /// the slots of dead members are free.
    pub patience: Time,
    #[cfg(feature = "mutations")]
    #[serde(skip)]
    /// A broken rule.
    pub broken: Option<Mutation>,
    #[cfg(feature = "mutations")]
    #[serde(skip)]
    /// So many entries of the log are a page, where that is not what it is for everyone.
    pub page: Option<usize>,
}

/// A broken rule, for tests: without the feature `mutations` there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// What a member is told to give up is free before it says that it has.
    GrantBeforeAck,
    /// What a share grows by arrives with tokens in it.
    ArriveFull,
    /// A lease begins when the answer comes.
    LeaseFromReceipt,
    /// The coordinator counts a lease for no longer than the member does.
    NoSkew,
    /// The coordinator's clock follows the machine's, however far that jumps.
    ClockJumps,
    /// A coordinator without data grants at once.
    ForgottenGrantsAtOnce,
    /// A slot's implicit parts begin full.
    SlotStartsFull,
    /// Slots are halved before the members say that they have.
    HalveBeforeAck,
    /// A subject is granted before its implicit parts were given up.
    ActivateBeforeAck,
    /// A member takes any answer of its incarnation.
    AnyAnswer,
    /// The coordinator takes messages in any order.
    AnyOrder,
    /// A subject leaves the books before its implicit parts were given up.
    LeaveBeforeAck,
    /// What free slots have of a key that is activated is full, however short they have been free.
    FreePartsFull,
    /// A limit that lost its implicit parts when slots were halved begins full.
    HalvedAwayFull,
}

impl Timing {
    /// That of every fleet, in microseconds: a lease of ten seconds, two for clocks. Members and servers have it built in,
    /// as they would grant too much if one had another: whoever changes it changes the protocol's path too.
    pub const FLEET: Self = Self::new(10_000_000, 2_000_000, 1_000_000);

    /// Waits for a slot as long as dead members have theirs.
    pub const fn new(ttl: Time, skew: Time, max_step: Time) -> Self {
        Self {
            ttl,
            skew,
            max_step,
            patience: ttl + skew,
            #[cfg(feature = "mutations")]
            broken: None,
            #[cfg(feature = "mutations")]
            page: None,
        }
    }

    /// How long the coordinator counts a lease.
    pub(crate) fn held_for(&self) -> Time {
        let skew = if self.breaks(Mutation::NoSkew) {
            0
        } else {
            self.skew
        };
        self.ttl + skew
    }

    /// How many entries of the log go into an answer.
    #[cfg(feature = "mutations")]
    pub(crate) fn page(&self) -> usize {
        self.page.unwrap_or(PAGE)
    }

    #[cfg(not(feature = "mutations"))]
    pub(crate) const fn page(&self) -> usize {
        PAGE
    }

    #[cfg(feature = "mutations")]
    pub(crate) fn breaks(&self, mutation: Mutation) -> bool {
        self.broken == Some(mutation)
    }

    #[cfg(not(feature = "mutations"))]
    pub(crate) const fn breaks(&self, _: Mutation) -> bool {
        false
    }
}
