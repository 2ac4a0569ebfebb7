//! This Envoy's share of one of the fleet's limits for one subject, and what is used of it.
//!
//! A share is the part that each Envoy has unasked ([`Lease::parts`]), or one that was granted. Tokens of a share are moved
//! between Envoys and never made: another share neither fills the cell nor scales what is used.

#[cfg(test)]
mod tests;

use tollgate_shares::{Key, Limit, Share};

use super::ask::Wait;
use super::cell::{Cell, Mark};
use super::fair::Org;
use super::lease::Lease;
use super::record::{SET_BACK, list, run, take, worker};
use super::returned::Returned;
use super::short::{Note, Notes};
use super::slots::Slots;
use crate::bound::Bound;
use crate::gcra::{Quota, Verdict};
use crate::state::{Keyspace, Store, StoreError, Value};
use crate::workers::{WorkerId, Workers};

/// After so many nanoseconds a client may ask again where more of the limit has been asked for by then.
pub(super) const SOON: u64 = 1_000_000_000;
/// Nanoseconds in the protocol's unit of time.
const MICRO: u64 = 1_000;

/// One share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShareRecord {
    /// Of the level; nanoseconds since 1970.
    time: u64,
    limit: Limit,
    /// The number of the lease by which it was looked at last, and the life of that.
    lease: u64,
    life: u64,
    /// Whether it was granted, and is not the part that each Envoy has.
    is_granted: bool,
    /// Whether another limit has taken its place for the same row and subject.
    is_left: bool,
    share: Share,
    /// Of a limit that counts by time.
    cell: Option<Cell>,
    /// Of one on what is in use.
    slots: Slots,
    /// What it was asked for.
    pub(crate) tally: Tally,
    /// The life of the member that was told that it is short.
    told: u64,
    /// The lease by which the member was told that a part of it is in use.
    noted: u64,
    /// Whose request used it last, or was refused.
    org: Org,
}

/// What a share was asked for, since it was found too small. Each wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    /// How much, what was refused included.
    pub(crate) asked: u64,
    /// How much of that was returned.
    pub(crate) unused: u64,
    /// By how many requests.
    pub(crate) requests: u64,
    /// How many of them were refused.
    pub(crate) refused: u64,
    /// The largest request that is more than the share's burst; zero for none since the member last looked.
    pub(crate) need: u64,
}

impl Tally {
    /// What came since it was `before`; `need` is what stands. One that began anew since then counts whole.
    pub(crate) const fn since(&self, before: &Self) -> Self {
        let is_anew =
            self.asked < before.asked || self.unused < before.unused || self.refused < before.refused;
        if is_anew || self.requests < before.requests {
            return *self;
        }
        Self {
            asked: self.asked - before.asked,
            unused: self.unused - before.unused,
            requests: self.requests - before.requests,
            refused: self.refused - before.refused,
            need: self.need,
        }
    }
}

/// How a share stands.
pub(super) struct Standing {
    pub(super) used: u64,
    pub(super) remaining: u64,
    /// Nanoseconds until all of it is there.
    pub(super) reset: u64,
}

/// The limit of a bound as the fleet counts it.
pub(super) fn limit_of(bound: Bound) -> Limit {
    match bound {
        Bound::Rate(quota) => Limit {
            rate: quota.amount(),
            period: quota.period() / MICRO,
            burst: quota.burst(),
        },
        Bound::Max(max) => Limit::in_use(max.into()),
    }
}

/// The key of the share that is there in the store.
pub(super) fn key_of(place: &[u8]) -> Option<Key> {
    let key = place.strip_prefix(Keyspace::SHARES.prefix())?;
    key.try_into().ok().map(Key)
}

/// Where the share of a key is in the store.
pub(crate) fn store_key(Key(key): Key) -> Vec<u8> {
    Keyspace::SHARES.key(key)
}

/// Leaves it for the member of this life that a share is short.
pub(super) fn leave(store: &mut impl Store, note: Note, life: u64) -> Result<(), StoreError> {
    if Notes::Short.add(store, note)? {
        store.modify(&store_key(note.key), &mut None, ShareRecord::new, |record| {
            record.tell(life);
            Some(())
        })?;
    }
    Ok(())
}

impl ShareRecord {
    /// One that nobody has looked at yet.
    pub(crate) fn new() -> Self {
        Self {
            time: 0,
            limit: Limit::in_use(0),
            lease: 0,
            life: 0,
            is_granted: false,
            is_left: false,
            share: Share::default(),
            cell: None,
            slots: Slots::default(),
            tally: Tally::default(),
            told: 0,
            noted: 0,
            org: Org::default(),
        }
    }

    /// Whether nobody knows yet which limit it is of, so that nothing of it is used.
    pub(crate) const fn is_new(&self) -> bool {
        self.limit.burst == 0
    }

    /// The limit that it is of.
    pub(crate) const fn limit(&self) -> Limit {
        self.limit
    }

    /// What it is by this lease and `now`; nobody has to know of it who asks later. `false` where another lease has taken
    /// the place of this one.
    #[must_use]
    pub(crate) fn fit(&mut self, limit: Limit, lease: &Lease, now: u64) -> bool {
        if self.lease > lease.number {
            return false;
        }
        let is_new = self.is_new();
        if is_new {
            (self.limit, self.time) = (limit, now);
            self.cell = self.quota().map(|quota| Cell::new(quota, now));
        }
        let stands = match self.is_granted {
            true => self.life == lease.life,
            false => self.lease == lease.number && !is_new,
        };
        if !stands {
            self.begin(lease, now);
        }
        self.lease = lease.number;
        self.advance(now);
        true
    }

    /// Nobody uses it by an older lease from now on, even if nobody has looked at it yet.
    pub(crate) fn renew(&mut self, lease: &Lease, now: u64) {
        if self.is_new() {
            self.lease = self.lease.max(lease.number);
        } else {
            // One that was looked at by a later lease stands.
            let _ = self.fit(self.limit, lease, now);
        }
    }

    /// Begins with the part that each Envoy has: it was empty once, and nobody has used it since. A debt is still one.
    fn begin(&mut self, lease: &Lease, now: u64) {
        self.share = self.limit.part(lease.parts);
        (self.life, self.is_granted) = (lease.life, false);
        let quota = self.quota();
        let before = self.cell.as_ref();
        let (debt, born) = before.map_or((0, 0), |cell| (cell.debt(), cell.born + 1));
        self.cell = quota.map(|quota| {
            let filled = quota.leaked(now.saturating_sub(lease.since));
            let level = quota.capacity().saturating_sub(filled) + debt;
            Cell::used_by(quota, level, born.max(now))
        });
        self.time = now;
    }

    /// The share as a quota; `None` for a limit on what is in use.
    fn quota(&self) -> Option<Quota> {
        let Limit { rate, period, burst } = self.limit;
        let whole = Quota::from_parts(rate, period.saturating_mul(MICRO), burst)?;
        Some(whole.part(self.share.rate, self.share.burst))
    }

    /// What it is by `now`, by the share that it was.
    pub(super) fn advance(&mut self, now: u64) {
        match now.checked_sub(self.time) {
            Some(passed) => {
                if let Some(cell) = &mut self.cell {
                    cell.leak(passed);
                }
                self.time = now;
            }
            None if self.time - now > SET_BACK => self.time = now,
            None => {}
        }
    }

    /// Another share in place of the one `before`, with units that come with it: what it held above a smaller burst, in
    /// units. It has been [brought](Self::fit) to the lease. Where it is not what it should have been, it begins empty.
    pub(crate) fn change(&mut self, before: Share, after: Share, units: u128) -> u128 {
        if self.share != before {
            self.replace(Share::default(), 0);
        }
        self.is_granted = true;
        self.replace(after, units.saturating_mul(MICRO.into())) / u128::from(MICRO)
    }

    fn replace(&mut self, share: Share, units: u128) -> u128 {
        self.share = share;
        match (self.quota(), &mut self.cell) {
            (Some(quota), Some(cell)) => cell.change_share(quota, units),
            _ => 0,
        }
    }

    /// The part that each Envoy has by leases of this life is given up. What is in use of it stays in use.
    pub(crate) fn drop_part(&mut self, life: u64) {
        #[cfg(test)]
        if super::broken::is(super::broken::Rule::PartsKept) {
            return;
        }
        (self.is_granted, self.life) = (true, life);
        self.replace(Share::default(), 0);
    }

    /// The part that each Envoy has is back, once it is looked at, where nothing was granted.
    pub(crate) fn restore(&mut self) {
        if self.share.is_nothing() {
            (self.is_granted, self.lease) = (false, 0);
        }
    }

    /// Whether a share of another limit of the same row and subject may be in force: then it begins with what that has.
    pub(super) const fn is_apart(&self) -> bool {
        self.is_left || self.is_new()
    }

    /// Another limit takes its place: so many tokens of it are left for that, and none here. `None` where nobody knows of it.
    pub(super) fn leave(&mut self, lease: &Lease, now: u64) -> Option<u64> {
        if self.is_new() {
            return self.is_granted.then_some(0);
        }
        if !self.fit(self.limit, lease, now) {
            return Some(0);
        }
        self.is_left = true;
        let cell = self.cell.as_mut()?;
        let left = cell.remaining();
        cell.empty();
        Some(left)
    }

    /// Is in force for its row and subject from now on: with so many tokens of another that was, or as it is where there was
    /// none. It has been [brought](Self::fit) to the lease; `was_new` is whether nobody had looked at it before that.
    pub(super) fn follow(&mut self, tokens: Option<u64>, was_new: bool) {
        if let Some(cell) = &mut self.cell {
            if self.is_left || (was_new && tokens.is_some()) {
                cell.empty();
            }
            cell.add(tokens.unwrap_or(0));
        }
        self.is_left = false;
    }

    /// The member has looked how much it was asked for.
    pub(crate) fn forget_need(&mut self) {
        self.tally.need = 0;
    }

    /// Whether the member of this life should be told that it is short: once.
    pub(super) const fn is_untold(&self, life: u64) -> bool {
        self.told != life
    }

    /// It was told, or (zero) has forgotten it.
    pub(crate) fn tell(&mut self, life: u64) {
        self.told = life;
    }

    /// Whether the member has to be told by this lease before a part of it is used: it has to know of what is in use as
    /// parts become smaller.
    pub(super) const fn is_unnoted(&self, lease: u64) -> bool {
        self.cell.is_none() && !self.is_granted && self.noted != lease
    }

    /// It was told by this lease.
    pub(crate) fn note(&mut self, lease: u64) {
        self.noted = lease;
    }

    /// Whether more is in use than it has.
    pub(crate) fn is_over_used(&self) -> bool {
        self.in_use() > self.share.burst
    }

    /// Whose request used it last, or was refused.
    pub(crate) const fn org(&self) -> Org {
        self.org
    }

    /// How much is in use.
    pub(crate) fn in_use(&self) -> u64 {
        self.slots.in_use()
    }

    /// What was used beyond it and is to be waited for, in whole tokens.
    pub(crate) fn debt(&self) -> u64 {
        let debt = self.cell.as_ref().map_or(0, Cell::debt);
        let token = u128::from(self.limit.period) * u128::from(MICRO);
        u64::try_from(debt / token.max(1)).unwrap_or(u64::MAX)
    }

    /// Whether it owes, and nothing fills it: then a share has to be asked for, or the fleet passes what is owed once more.
    pub(crate) fn is_in_debt_for_good(&self) -> bool {
        self.share.rate == 0 && self.debt() > 0
    }

    /// The same, where the member was not told.
    pub(super) fn is_untold_debt(&self) -> bool {
        self.is_untold(self.life) && self.is_in_debt_for_good()
    }

    /// The life of the member by which it was looked at last.
    pub(super) const fn life(&self) -> u64 {
        self.life
    }

    /// It counts what it is asked for from here on.
    pub(super) fn count_anew(&mut self) {
        self.tally = Tally::default();
    }

    /// The wait, if it has no room for so much.
    pub(super) fn wait(&self, amount: u64, now: u64, workers: &Workers) -> Option<Wait> {
        if amount > self.limit.burst {
            return Some(Wait::Never);
        }
        let Some(cell) = &self.cell else {
            let full = self.slots.in_use_by(workers) >= self.share.burst;
            return full.then_some(Wait::Nanos(SOON));
        };
        let wait = match cell.judge(amount) {
            Verdict::Admit => return None,
            // More has been asked for by then.
            Verdict::Never | Verdict::Wait(u64::MAX) => SOON,
            Verdict::Wait(wait) => wait.saturating_add(self.time.saturating_sub(now)),
        };
        Some(Wait::Nanos(match self.is_granted {
            true => wait,
            false => wait.min(SOON),
        }))
    }

    /// Whether a single request is more than it ever has at once.
    pub(super) const fn is_too_small(&self, amount: u64) -> bool {
        amount > self.share.burst
    }

    /// A request of this organization has come.
    pub(crate) const fn came(&mut self, org: Org) {
        self.org = org;
    }

    /// It refuses a request of so much.
    pub(crate) fn refuse(&mut self, amount: u64) {
        self.ask(amount);
        self.tally.refused = self.tally.refused.wrapping_add(1);
        if self.is_too_small(amount) {
            self.tally.need = self.tally.need.max(amount);
        }
    }

    const fn ask(&mut self, amount: u64) {
        self.tally.asked = self.tally.asked.wrapping_add(amount);
        self.tally.requests = self.tally.requests.wrapping_add(1);
    }

    /// Charges so much; `None` where a slot of this worker was taken.
    pub(super) fn charge(&mut self, amount: u64, workers: &Workers) -> Option<Mark> {
        self.ask(amount);
        match &mut self.cell {
            Some(cell) => Some(cell.charge(amount)),
            None => {
                self.slots.keep(workers);
                self.slots.take(workers.id());
                None
            }
        }
    }

    /// Has so much be in use.
    pub(super) fn assume(&mut self, used: u64, workers: &Workers) {
        match &mut self.cell {
            Some(cell) => {
                cell.charge(used);
            }
            None => (0..used.min(self.share.burst)).for_each(|_| self.slots.take(workers.id())),
        }
    }

    /// Charges more than was reserved.
    pub(super) fn charge_late(&mut self, amount: u64) {
        self.tally.asked = self.tally.asked.wrapping_add(amount);
        if let Some(cell) = &mut self.cell {
            cell.charge(amount);
        }
    }

    /// Takes back so much of a charge.
    pub(super) fn give_back(&mut self, amount: u64, mark: &Mark) {
        self.tally.unused = self.tally.unused.wrapping_add(amount);
        if let Some(cell) = &mut self.cell {
            cell.give_back_of_share(amount, mark);
        }
    }

    /// A slot of this worker is free.
    pub(super) fn free(&mut self, worker: WorkerId) {
        self.slots.free(worker);
    }

    /// How it stands.
    pub(super) fn standing(&self, workers: &Workers) -> Standing {
        match &self.cell {
            Some(cell) => Standing {
                used: cell.used(),
                remaining: cell.remaining(),
                reset: match cell.reset() {
                    u64::MAX => SOON,
                    nanos => nanos,
                },
            },
            None => {
                let used = self.slots.in_use_by(workers);
                Standing {
                    used,
                    remaining: self.share.burst.saturating_sub(used),
                    reset: 0,
                }
            }
        }
    }
}

/// Layout, little-endian, of 8 bytes each unless said: the time; the limit's rate, period and burst; the lease and its
/// life; the share's rate and burst; the five of the tally; the life that was told; the lease by which it was noted; the
/// organization; whether it is granted, whether it is left, and whether there is a cell (one byte each). The cell: level (16), charged, born, how many runs (2) and each one's three numbers.
/// Then how many workers (2), and each one's number and count (4 and 4).
impl Value for ShareRecord {
    const KEYSPACE: Keyspace = Keyspace::SHARES;

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let record = decode(&mut rest)?;
        rest.is_empty().then_some(record)
    }

    fn encode(&self) -> Vec<u8> {
        let Self {
            limit, share, tally, ..
        } = self;
        let numbers = [
            self.time,
            limit.rate,
            limit.period,
            limit.burst,
            self.lease,
            self.life,
            share.rate,
            share.burst,
            tally.asked,
            tally.unused,
            tally.requests,
            tally.refused,
            tally.need,
            self.told,
            self.noted,
        ];
        let mut bytes = Vec::with_capacity(208);
        bytes.extend(numbers.into_iter().flat_map(u64::to_le_bytes));
        bytes.extend(self.org.to_bytes());
        bytes.extend([self.is_granted, self.is_left, self.cell.is_some()].map(u8::from));
        if let Some(cell) = &self.cell {
            let Returned(runs) = &cell.returned;
            bytes.extend_from_slice(&cell.level.to_le_bytes());
            bytes.extend_from_slice(&cell.charged.to_le_bytes());
            bytes.extend_from_slice(&cell.born.to_le_bytes());
            bytes.extend_from_slice(&(runs.len() as u16).to_le_bytes());
            for number in runs.iter().flat_map(|run| [run.begin, run.end, run.amount]) {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        let Slots(workers) = &self.slots;
        bytes.extend_from_slice(&(workers.len() as u16).to_le_bytes());
        for number in workers.iter().flat_map(|(worker, count)| [worker, count]) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

fn decode(rest: &mut &[u8]) -> Option<ShareRecord> {
    let mut number = || take(rest).map(u64::from_le_bytes);
    let mut record = ShareRecord {
        time: number()?,
        limit: Limit {
            rate: number()?,
            period: number()?,
            burst: number()?,
        },
        lease: number()?,
        life: number()?,
        share: Share {
            rate: number()?,
            burst: number()?,
        },
        tally: Tally {
            asked: number()?,
            unused: number()?,
            requests: number()?,
            refused: number()?,
            need: number()?,
        },
        told: number()?,
        noted: number()?,
        org: Org::from_bytes(take(rest)?),
        is_granted: false,
        is_left: false,
        cell: None,
        slots: Slots::default(),
    };
    let [is_granted, is_left, has_cell] = take(rest)?;
    (record.is_granted, record.is_left) = (is_granted != 0, is_left != 0);
    // A share is no more than its limit, so that the arithmetic of both fits.
    let is_part = record.share.fits(record.limit.whole());
    let quota = record.quota();
    if !is_part || quota.is_some() != (has_cell != 0) {
        return None;
    }
    if let Some(quota) = quota {
        record.cell = Some(Cell {
            quota,
            level: Cell::level_within(u128::from_le_bytes(take(rest)?))?,
            charged: u64::from_le_bytes(take(rest)?),
            born: u64::from_le_bytes(take(rest)?),
            returned: Returned(list(rest, run)?),
        });
    }
    record.slots = Slots(list(rest, worker)?);
    Some(record)
}
