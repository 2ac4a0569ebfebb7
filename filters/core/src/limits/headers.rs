//! The headers that tell a customer how its limits stand.
//!
//! Shown are enforced limits of the customer's own. One that several organizations share shows only when it refuses,
//! and then nothing of what others used: nothing remains, until the request that it refused would pass.
//!
//! A limit's number is the amount of its rate. With another burst, up to that many may still come at once, and what
//! remains is told up to the amount.

use core::cmp::Ordering;

use super::amounts::Count;
use super::ask::{LimitStatus, Wait};
use super::reserve::{Admitted, Denied, Reason, Refused};
use super::table::{Mode, Row, Table};
use crate::bound::Bound;
use crate::endpoint::Dialect;
use crate::gcra::product;

type Header = (&'static str, String);

impl Admitted {
    /// The headers of the answer to a request that passed; `now` in nanoseconds since 1970.
    pub fn headers(&self, table: &Table, dialect: Dialect, now: u64) -> Vec<Header> {
        headers(table, &self.statuses, None, dialect, now)
    }
}

impl Refused {
    /// The headers of the answer to a request that was refused, but for those of [`Refused::answer`] itself.
    pub fn headers(&self, table: &Table, dialect: Dialect, now: u64) -> Vec<Header> {
        match &self.reason {
            Reason::Limited(denied) => headers(table, &denied.statuses, Some(denied), dialect, now),
            Reason::Store(_) => Vec::new(),
        }
    }
}

/// A limit as it is shown.
struct Shown<'t> {
    row: &'t Row,
    bound: Bound,
    limit: u64,
    remaining: u64,
    reset: u64,
    refused: bool,
}

fn headers(
    table: &Table,
    statuses: &[LimitStatus],
    denied: Option<&Denied>,
    dialect: Dialect,
    now: u64,
) -> Vec<Header> {
    let shown: Vec<_> = statuses
        .iter()
        .filter_map(|status| show(table.row(status.row)?, status, denied))
        .collect();
    let mut headers = Vec::with_capacity(14);
    let mut family = |belongs: &dyn Fn(Count) -> bool, openai, anthropic| {
        let family = shown.iter().filter(|one| belongs(one.row.count));
        if let Some(one) = family.min_by(|a, b| tighter(a, b)) {
            named(&mut headers, openai, one, duration(one.reset));
            if dialect == Dialect::Anthropic {
                named(
                    &mut headers,
                    anthropic,
                    one,
                    moment(now.saturating_add(one.reset)),
                );
            }
        }
    };
    family(
        &|count| count == Count::Requests,
        OPENAI_REQUESTS,
        ANTHROPIC_REQUESTS,
    );
    family(&Count::is_tokens, OPENAI_TOKENS, ANTHROPIC_TOKENS);
    if !shown.is_empty() {
        headers.push(("ratelimit-policy", list(&shown, Shown::policy)));
        headers.push(("ratelimit", list(&shown, Shown::state)));
    }
    headers
}

type HeaderNames = [&'static str; 3];
const OPENAI_REQUESTS: HeaderNames = [
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
];
const OPENAI_TOKENS: HeaderNames = [
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
];
const ANTHROPIC_REQUESTS: HeaderNames = [
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
];
const ANTHROPIC_TOKENS: HeaderNames = [
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
];

fn named(headers: &mut Vec<Header>, [limit, remaining, reset]: HeaderNames, shown: &Shown<'_>, when: String) {
    headers.push((limit, digits(shown.limit)));
    headers.push((remaining, digits(shown.remaining)));
    headers.push((reset, when));
}

/// `None` for a row that is not the customer's to see.
fn show<'t>(row: &'t Row, status: &LimitStatus, denied: Option<&Denied>) -> Option<Shown<'t>> {
    let denied = denied.filter(|denied| denied.status.row == status.row);
    let limit = max(status.bound);
    let (remaining, reset) = match (row.per.is_shared(), denied.map(|denied| denied.wait)) {
        (true, Some(Wait::Nanos(nanos))) => (0, rounded(nanos)),
        (true, _) => return None,
        (false, _) => (status.remaining.min(limit), status.reset),
    };
    (row.mode == Mode::Enforce).then_some(Shown {
        row,
        bound: status.bound,
        limit,
        remaining,
        reset,
        refused: denied.is_some(),
    })
}

/// A wait for what several organizations share, up to the next whole second, ten seconds from seven on, minute from one
/// minute on, and so on: how long it is to the millisecond would tell how much the others use.
pub(super) fn rounded(nanos: u64) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    let seconds = nanos.div_ceil(SECOND);
    let step = match seconds {
        0..=6 => 1,
        7..=60 => 10,
        61..=360 => 60,
        361..=3_600 => 600,
        _ => 3_600,
    };
    seconds.max(1).next_multiple_of(step).saturating_mul(SECOND)
}

impl Shown<'_> {
    /// Appends `"key-rpm";q=60;w=60`.
    fn policy(&self, list: &mut String) {
        if self.row.bound == Some(self.bound) {
            list.push_str(&self.row.policy);
        } else {
            list.push_str(&policy(&self.row.name, self.bound));
        }
    }

    /// Appends `"key-rpm";r=59;t=1`.
    fn state(&self, list: &mut String) {
        list.push('"');
        list.push_str(&self.row.name);
        list.push_str("\";r=");
        number(list, self.remaining);
        if let Bound::Rate(_) = self.bound {
            list.push_str(";t=");
            number(list, self.reset.div_ceil(1_000_000_000));
        }
    }
}

/// A limit as an item of `RateLimit-Policy`.
pub(super) fn policy(name: &str, bound: Bound) -> String {
    let mut policy = format!("\"{name}\";q=");
    number(&mut policy, max(bound));
    match bound {
        Bound::Rate(quota) => {
            policy.push_str(";w=");
            number(&mut policy, quota.period() / 1_000_000_000);
        }
        Bound::Max(_) => policy.push_str(";qu=\"concurrent-requests\""),
    }
    policy
}

/// A limit's number.
const fn max(bound: Bound) -> u64 {
    match bound {
        Bound::Rate(quota) => quota.amount(),
        Bound::Max(max) => max as u64,
    }
}

/// `format!` takes several times as long, and these are on every answer.
fn number(text: &mut String, number: u64) {
    text.push_str(itoa::Buffer::new().format(number));
}

fn digits(number: u64) -> String {
    itoa::Buffer::new().format(number).to_owned()
}

/// The one that refused first, then the one of which the smallest part remains.
fn tighter(a: &Shown<'_>, b: &Shown<'_>) -> Ordering {
    let part = |one: &Shown<'_>, other: &Shown<'_>| product(one.remaining, other.limit);
    b.refused.cmp(&a.refused).then(part(a, b).cmp(&part(b, a)))
}

fn list<'t>(shown: &[Shown<'t>], item: impl Fn(&Shown<'t>, &mut String)) -> String {
    let mut list = String::with_capacity(40 * shown.len());
    for one in shown {
        if !list.is_empty() {
            list.push_str(", ");
        }
        item(one, &mut list);
    }
    list
}

/// A moment (nanoseconds since 1970) by RFC 3339, to whole seconds, rounded up.
pub(crate) fn moment(nanos: u64) -> String {
    // 2⁶⁴ nanoseconds end in 2554, which is within the range.
    jiff::Timestamp::from_second((nanos.div_ceil(1_000_000_000)) as i64)
        .unwrap_or(jiff::Timestamp::MAX)
        .to_string()
}

/// A span of nanoseconds as Go writes it, such as `12ms`, `1.574s` or `6m0s`, to milliseconds, rounded up.
pub(crate) fn duration(nanos: u64) -> String {
    let millis = nanos.div_ceil(1_000_000);
    let (mut seconds, millis) = (millis / 1_000, millis % 1_000);
    let mut text = String::with_capacity(16);
    if seconds == 0 && millis > 0 {
        number(&mut text, millis);
        text.push_str("ms");
        return text;
    }
    if seconds >= 3_600 {
        number(&mut text, seconds / 3_600);
        text.push('h');
    }
    if seconds >= 60 {
        number(&mut text, seconds / 60 % 60);
        text.push('m');
        seconds %= 60;
    }
    number(&mut text, seconds);
    if millis > 0 {
        let fraction = format!(".{millis:03}");
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('s');
    text
}
