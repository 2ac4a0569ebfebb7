//! How much customers' own tokens may write in a day. Each write stays in the trail for ever, so one of them could fill the
//! disk otherwise. What the platform's tokens write is not counted, nor what makes things safer: a key is revoked, and
//! something suspended or frozen, whatever was written before.
//!
//! A quota is whole at first and grows back evenly within a day. While any bytes of it are left, a write passes, whatever its
//! size, and what it takes beyond that is waited for by the next one. A token has half of its organization's, so that one that
//! runs wild leaves the other half to the others. What is used is kept in the database, so it holds for all servers, and
//! across restarts.

use crate::problem::Problem;

/// What the tokens of an organization may write in a day; one token half of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteQuota {
    /// How many writes; not zero.
    pub writes: u32,
    /// How many bytes of the trail; not zero.
    pub bytes: u64,
}

impl Default for WriteQuota {
    fn default() -> Self {
        Self {
            writes: 20_000,
            bytes: 64 << 20,
        }
    }
}

/// Microseconds.
const DAY: i64 = 86_400_000_000;

/// Whose quota it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    Org(&'a str),
    Token(&'a str),
}

impl Subject<'_> {
    /// As it is stored.
    pub(crate) fn key(self) -> String {
        match self {
            Self::Org(org) => format!("org/{org}"),
            Self::Token(id) => format!("token/{id}"),
        }
    }

    /// As people say it.
    fn phrase(self) -> String {
        match self {
            Self::Org(org) => format!("the tokens of the organization `{org}`"),
            Self::Token(id) => format!("the token `{id}`"),
        }
    }
}

/// What is used of a quota: when it will be whole again, in microseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) writes_until: i64,
    pub(crate) bytes_until: i64,
}

impl Spent {
    /// The same after a write that adds so many bytes to what stays, at `now`, in milliseconds since 1970; 429 where nothing
    /// is left.
    pub(crate) fn after(
        self,
        subject: Subject<'_>,
        quota: WriteQuota,
        added: u64,
        now: i64,
    ) -> Result<Self, Problem> {
        let now = now.saturating_mul(1_000);
        let share = match subject {
            Subject::Org(_) => 1,
            Subject::Token(_) => 2,
        };
        let writes = (u64::from(quota.writes) / share).max(1);
        let bytes = (quota.bytes / share).max(1);
        let after = Self {
            writes_until: charged(self.writes_until, now, 1, writes),
            bytes_until: charged(self.bytes_until, now, added, bytes),
        };
        let any = bounded(self.bytes_until, now).saturating_add(1);
        let whole = [
            (after.writes_until, format!("{writes} writes")),
            (any, format!("{bytes} bytes of writes")),
        ];
        for (until, most) in whole {
            let over = until.saturating_sub(now).saturating_sub(DAY);
            if over > 0 {
                let seconds = over.unsigned_abs().div_ceil(1_000_000);
                return Err(Problem::over_write_quota(&subject.phrase(), &most, seconds));
            }
        }
        Ok(after)
    }
}

/// Nobody owes more than a day beyond his quota, whatever the clock said when that was written down.
fn bounded(until: i64, now: i64) -> i64 {
    until.clamp(now, now.saturating_add(2 * DAY))
}

fn charged(until: i64, now: i64, cost: u64, in_a_day: u64) -> i64 {
    let taken = (u128::from(DAY.unsigned_abs()) * u128::from(cost)).div_ceil(u128::from(in_a_day));
    let taken = i64::try_from(taken).unwrap_or(i64::MAX);
    bounded(bounded(until, now).saturating_add(taken), now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: WriteQuota = WriteQuota {
        writes: 1_000,
        bytes: 1_000_000,
    };
    const ORG: Subject<'_> = Subject::Org("acme");
    const NOW: i64 = 1_800_000_000_000;
    const DAY_MS: i64 = DAY / 1_000;

    /// Writes until one is refused; how many passed, and the refusal.
    fn flood(spent: &mut Spent, subject: Subject<'_>, bytes: u64, now: i64) -> (u32, Problem) {
        let mut passed = 0;
        loop {
            match spent.after(subject, QUOTA, bytes, now) {
                Ok(after) => *spent = after,
                Err(problem) => return (passed, problem),
            }
            passed += 1;
        }
    }

    #[test]
    fn a_flood_ends_and_goes_on_as_the_quota_grows_back() {
        let mut spent = Spent::default();
        let (passed, problem) = flood(&mut spent, ORG, 10, NOW);
        assert_eq!((passed, problem.status), (1_000, 429));
        assert!(
            problem.detail.contains("`acme`") && problem.detail.contains("1000 writes"),
            "{problem}"
        );
        let wait = i64::try_from(problem.retry_after.unwrap()).unwrap() * 1_000;
        // One each 86.4 s.
        assert_eq!(flood(&mut spent, ORG, 10, NOW + wait).0, 1);
        assert_eq!(flood(&mut spent, ORG, 10, NOW + DAY_MS / 2).0, 499);
        assert_eq!(flood(&mut spent, ORG, 10, NOW + 9 * DAY_MS).0, 1_000);
    }

    #[test]
    fn bytes_count_and_one_large_write_is_waited_for() {
        let mut spent = Spent::default();
        assert_eq!(flood(&mut spent, ORG, 10_000, NOW).0, 100);
        let mut spent = Spent::default();
        let (passed, problem) = flood(&mut spent, ORG, 1_500_000, NOW);
        assert_eq!(passed, 1);
        assert!(problem.detail.contains("1000000 bytes"), "{problem}");
        let half_a_day = DAY_MS.unsigned_abs() / 2_000;
        assert!(
            problem.retry_after.unwrap().abs_diff(half_a_day) <= 1,
            "{problem:?}"
        );
    }

    #[test]
    fn a_token_has_half() {
        let (passed, problem) = flood(&mut Spent::default(), Subject::Token("abc"), 10, NOW);
        assert_eq!(passed, 500);
        assert!(problem.detail.contains("the token `abc`"), "{problem}");
    }

    /// A clock that was wrong for a while keeps nobody from writing for longer than a day.
    #[test]
    fn a_clock_that_was_wrong_is_survived() {
        let ahead = NOW + 1_000 * DAY_MS;
        let mut spent = Spent::default();
        flood(&mut spent, ORG, 10, ahead);
        let (passed, problem) = flood(&mut spent, ORG, 10, NOW);
        assert_eq!(passed, 0);
        assert!(problem.retry_after.unwrap() <= 86_401, "{problem:?}");
    }
}
