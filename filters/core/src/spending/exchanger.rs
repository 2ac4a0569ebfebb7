//! Tells the control plane what is spent here, and takes what it grants: one for an Envoy, on its main thread. About a
//! budget of which something is spent, once a second; soon, where a request had too little.

use std::collections::BTreeMap;

use tollgate_budgets::{Report, Slice};

use super::message::{Exchanged, Given, Item, MOST_ITEMS, Message};
use super::purse::{Purse, Window};
use super::queue::{AskSoon, Holder, SpentHere};
use super::{MILLI, millis, since};
use crate::budget::{Budgets, Terms};
use crate::directory::publication::Published;
use crate::state::{Clock, Store, StoreError, read, write};

/// How often is looked what was spent; nanoseconds.
const LOOK: u64 = 1_000 * MILLI;
/// Between two messages is at least so much time; nanoseconds.
const PAUSE: u64 = 200 * MILLI;
/// A message that was not answered by then is given up; milliseconds.
const TIMEOUT_MILLIS: u32 = 1_000;
/// What did not change is said so often; nanoseconds. A holder counts as one for a minute.
const REPEAT: u64 = 20_000 * MILLI;
/// A window gives slices from a minute before it begins; it is asked for in the last half of that. Milliseconds.
const AHEAD: i64 = 30_000;
/// To have so many seconds' worth of what is spent.
const SECONDS: u64 = 4;
/// And so many of the largest request: they may all come at once. What others need less is theirs all the same, by the rule.
const REQUESTS: u64 = 64;
/// Budgets of the directory that are asked for before anybody spends of them.
const EXPECTED: usize = 1_000;

/// What the exchanger has done for it by a host `H`, beside what workers share and the time.
pub trait Outside<H> {
    /// A message that was sent.
    type Call: Copy + PartialEq;

    /// Sends a message to the control plane, which is given up after so many milliseconds. `Err` says why it can't be sent.
    fn send(&mut self, host: &mut H, message: &[u8], timeout_millis: u32) -> Result<Self::Call, String>;

    /// Counts a message, by whether it was answered.
    fn count(&mut self, answered: bool);

    /// Tells of how many budgets something is spent here.
    fn stand(&mut self, budgets: u64);

    /// Tells the operator what is wrong.
    fn complain(&mut self, complaint: &str);
}

/// This Envoy as a holder of slices.
pub struct Exchanger<C> {
    /// Its name, if it is the first one of this Envoy.
    drawn: String,
    /// Its name, once it is known.
    holder: Option<String>,
    tracks: BTreeMap<String, Track>,
    sent: u64,
    looked: u64,
    /// The message that is not answered yet, and what it is about.
    call: Option<(C, Vec<Item>)>,
    /// Which directory is in force, where that is known here, and its budgets.
    published: Option<u64>,
    expected: Budgets,
    /// The last complaint, so that the operator hears it once.
    complaint: String,
}

/// What is known of a budget.
#[derive(Debug, Default)]
struct Track {
    /// A request had too little.
    is_urgent: bool,
    /// The directory has it.
    is_expected: bool,
    /// What was spent of the window, when that was looked at last.
    seen: (i64, u64),
    /// In a second.
    rate: u64,
    /// When something was said of it last; nanoseconds since 1970.
    said_at: u64,
    /// What was said of each window.
    said: BTreeMap<i64, Report>,
}

impl<C: Copy + PartialEq> Exchanger<C> {
    /// One that has nothing yet. `drawn` are numbers that no other start draws.
    pub fn new(drawn: [u64; 2]) -> Self {
        let [one, other] = drawn;
        Self {
            drawn: format!("{one:016x}{other:016x}"),
            holder: None,
            tracks: BTreeMap::new(),
            sent: 0,
            looked: 0,
            call: None,
            published: None,
            expected: Budgets::default(),
            complaint: String::new(),
        }
    }

    /// Looks what was spent, and sends a message when it is time.
    pub fn tick<H: Store + Clock>(&mut self, host: &mut H, outside: &mut impl Outside<H, Call = C>) {
        let Some(now) = host.now() else { return };
        if self.go_on(host, now, outside).is_err() {
            self.complain("the shared data cannot be read or written", outside);
        }
    }

    fn go_on<H: Store + Clock>(
        &mut self,
        host: &mut H,
        now: u64,
        outside: &mut impl Outside<H, Call = C>,
    ) -> Result<(), StoreError> {
        let holder = self.begin(host)?;
        self.hear(host)?;
        let quiet = since(self.sent, now);
        let waits = self.call.is_some() && quiet < u64::from(TIMEOUT_MILLIS) * 2 * MILLI;
        if waits || quiet < PAUSE {
            return Ok(());
        }
        let passed = since(self.looked, now);
        let looks = passed >= LOOK;
        if looks {
            self.looked = now;
            self.expect(host)?;
            outside.stand(self.tracks.len() as u64);
        }
        let items = self.items(host, looks.then_some(passed), now)?;
        if !items.is_empty() {
            self.send(host, &holder, items, now, outside);
        }
        Ok(())
    }

    /// Its name, by which it goes on where another exchanger of this Envoy ended.
    fn begin(&mut self, host: &mut impl Store) -> Result<String, StoreError> {
        if let Some(holder) = &self.holder {
            return Ok(holder.clone());
        }
        let holder = Holder::named(host, &self.drawn)?;
        let spent_here = read::<SpentHere>(host, "")?.unwrap_or_default();
        self.tracks = spent_here
            .0
            .into_iter()
            .map(|id| (id, Track::default()))
            .collect();
        self.holder = Some(holder.clone());
        Ok(holder)
    }

    /// Hears of which budgets requests had too little.
    fn hear(&mut self, host: &mut impl Store) -> Result<(), StoreError> {
        let waiting = AskSoon::read(host)?;
        if waiting.is_empty() {
            return Ok(());
        }
        self.add(host, waiting.iter().map(String::as_str))?;
        for id in &waiting {
            if let Some(track) = self.tracks.get_mut(id) {
                track.is_urgent = true;
            }
        }
        AskSoon::remove(host, &waiting)
    }

    /// Looks after these too from now on. They are listed for the next exchanger before they count as known.
    fn add<'a>(
        &mut self,
        host: &mut impl Store,
        ids: impl Iterator<Item = &'a str>,
    ) -> Result<(), StoreError> {
        let new: Vec<&str> = ids.filter(|id| !self.tracks.contains_key(*id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let all = self.tracks.keys().map(String::as_str).chain(new.iter().copied());
        write(host, "", SpentHere(all.map(str::to_owned).collect()))?;
        let new = new.into_iter().map(|id| (id.to_owned(), Track::default()));
        self.tracks.extend(new);
        Ok(())
    }

    /// Asks for what the directory has before anybody spends of it, where this shares data with whoever fetches it.
    fn expect(&mut self, host: &mut impl Store) -> Result<(), StoreError> {
        let published = Published::read(host).map(|published| published.generation);
        if published == self.published {
            return Ok(());
        }
        let budgets = read::<Budgets>(host, "")?.unwrap_or_default();
        if budgets == self.expected {
            self.published = published;
            return Ok(());
        }
        self.tracks
            .values_mut()
            .for_each(|track| track.is_expected = false);
        if budgets.len() <= EXPECTED {
            self.add(host, budgets.terms().map(|terms| terms.id.as_str()))?;
            for Terms { id, unit, .. } in budgets.terms() {
                host.modify(&Purse::key(id), &mut None, Purse::default, |purse| {
                    purse.expect(*unit);
                    Some(())
                })?;
                if let Some(track) = self.tracks.get_mut(id) {
                    track.is_expected = true;
                }
            }
        }
        (self.expected, self.published) = (budgets, published);
        Ok(())
    }

    /// What there is to say, the urgent first, then what was not said for the longest: of all budgets where the last look at
    /// them was `looked` nanoseconds ago, else of the urgent alone.
    fn items(
        &mut self,
        host: &mut impl Store,
        looked: Option<u64>,
        now: u64,
    ) -> Result<Vec<Item>, StoreError> {
        let mut due = Vec::new();
        for (id, track) in &mut self.tracks {
            if looked.is_none() && !track.is_urgent {
                continue;
            }
            let purse = read::<Purse>(host, id)?.unwrap_or_default();
            if let Some(passed) = looked {
                track.count(&purse, passed, now);
            }
            let items = track.items(id, &purse, now);
            if !items.is_empty() {
                due.push((!track.is_urgent, track.said_at, items));
            }
        }
        due.sort_by_key(|(is_calm, said_at, _)| (*is_calm, *said_at));
        let items = due.into_iter().flat_map(|(_, _, items)| items);
        Ok(items.take(MOST_ITEMS).collect())
    }

    fn send<H: Store + Clock>(
        &mut self,
        host: &mut H,
        holder: &str,
        items: Vec<Item>,
        now: u64,
        outside: &mut impl Outside<H, Call = C>,
    ) {
        self.sent = now;
        self.call = None;
        for item in &items {
            if let Some(track) = self.tracks.get_mut(&item.budget) {
                track.say(item, now);
            }
        }
        let message = Message {
            holder,
            items: &items,
        };
        let sent = serde_json::to_vec(&message)
            .map_err(|error| error.to_string())
            .and_then(|message| outside.send(host, &message, TIMEOUT_MILLIS));
        match sent {
            Ok(call) => self.call = Some((call, items)),
            Err(why) => self.fail(&items, &why, outside),
        }
    }

    /// A message was answered, or nobody could be reached. `body` gives the answer; `Err` says why it can't.
    pub fn answered<H: Store + Clock>(
        &mut self,
        answered: C,
        status: Option<&str>,
        body: impl FnOnce() -> Result<Vec<u8>, String>,
        host: &mut H,
        outside: &mut impl Outside<H, Call = C>,
    ) {
        let Some((_, items)) = self.call.take_if(|(call, _)| *call == answered) else {
            return;
        };
        let answer = match status {
            Some("200") => body().and_then(|body| Exchanged::read(&body, &items)),
            Some(status) => Err(format!("answered with status {status}")),
            None => Err("cannot be reached, or did not answer in time".to_owned()),
        };
        match answer {
            Ok(Exchanged { items: given }) => {
                outside.count(true);
                let now = host.now().unwrap_or(self.sent);
                let problem = take(host, &items, &given, now);
                match problem {
                    Some(problem) => self.complain(&problem, outside),
                    None => self.complaint.clear(),
                }
            }
            Err(why) => self.fail(&items, &format!("the control plane {why}"), outside),
        }
    }

    /// Nobody heard of these: they are to be said again.
    fn fail<H>(&mut self, items: &[Item], why: &str, outside: &mut impl Outside<H, Call = C>) {
        for item in items {
            if let Some(track) = self.tracks.get_mut(&item.budget) {
                track.said.clear();
            }
        }
        outside.count(false);
        self.complain(why, outside);
    }

    fn complain<H>(&mut self, what: &str, outside: &mut impl Outside<H, Call = C>) {
        if self.complaint != what {
            what.clone_into(&mut self.complaint);
            outside.complain(&format!("budgets: {what}"));
        }
    }
}

/// Takes what was answered; something that is wrong with it.
fn take(host: &mut impl Store, items: &[Item], given: &[Given], now: u64) -> Option<String> {
    let mut wrong = None;
    for (Item { budget, report, .. }, given) in items.iter().zip(given) {
        let from = match (&given.problem, given.window) {
            (None, Some(from)) => from,
            (problem, _) => {
                let problem = problem.as_deref().unwrap_or("an answer without a window");
                wrong = Some(format!("{budget}: {problem}"));
                continue;
            }
        };
        let until = given.ends_at.unwrap_or(i64::MAX);
        let taken = host.modify(&Purse::key(budget), &mut None, Purse::default, |purse| {
            purse.take((from, until), report, &given.answer, now);
            Some(())
        });
        // What was not taken is answered again with the next report.
        if taken.is_err() {
            wrong = Some("the shared data cannot be written".to_owned());
        }
    }
    wrong
}

impl Track {
    /// Counts what was spent since the last look, `passed` nanoseconds ago.
    fn count(&mut self, purse: &Purse, passed: u64, now: u64) {
        let Some(window) = purse.current(millis(now)) else {
            return;
        };
        let spent = window.slice.spent();
        let came = match self.seen {
            (from, before) if from == window.from => spent.saturating_sub(before),
            _ => spent,
        };
        self.seen = (window.from, spent);
        let rate = u128::from(came) * u128::from(LOOK) / u128::from(passed.max(LOOK));
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        self.rate = rate.max(self.rate - self.rate.div_ceil(8));
    }

    /// What there is to say of a budget.
    fn items(&self, id: &str, purse: &Purse, now: u64) -> Vec<Item> {
        let at = millis(now);
        let item = |window, report| Item {
            budget: id.to_owned(),
            window,
            report,
        };
        let is_due = self.is_urgent || since(self.said_at, now) >= REPEAT;
        let mut items = Vec::new();
        for window in purse.windows() {
            let report = self.report(window, purse, at);
            let is_current = window.from <= at && at < window.until;
            let is_doubted = is_current && purse.is_doubted();
            if is_due || is_doubted || self.is_news(window, &report, at) {
                items.push(item(Some(window.from), report));
            }
        }
        let ahead = self.ahead(purse);
        let asks = |window: i64| is_due || !self.said.contains_key(&window);
        match purse.current(at) {
            // Who waits for it asks again with each look.
            None if purse.need() > 0 || (self.is_expected && asks(NOW)) => {
                items.push(item(None, Slice::default().report(ahead, purse.need())));
            }
            Some(current) if self.has_next(current, purse, at) && asks(current.until) => {
                items.push(item(Some(current.until), Slice::default().report(ahead, 0)));
            }
            _ => {}
        }
        items
    }

    /// Whether the window behind this one should be asked for: what nobody spends of goes on in no new one.
    fn has_next(&self, current: &Window, purse: &Purse, at: i64) -> bool {
        let is_ending = current.until.saturating_sub(at) < AHEAD;
        let is_used = self.is_expected || current.slice.spent() > 0 || current.slice.reserved() > 0;
        is_ending && is_used && purse.current(current.until).is_none()
    }

    /// How much should be there for requests to come.
    fn ahead(&self, purse: &Purse) -> u64 {
        let by_rate = self.rate.saturating_mul(SECONDS);
        let by_size = purse.largest().saturating_mul(REQUESTS);
        by_rate.max(by_size).min(tollgate_budgets::MOST / 2)
    }

    fn report(&self, window: &Window, purse: &Purse, at: i64) -> Report {
        if window.is_over(at) {
            return Slice::last(window.slice.spent());
        }
        match (window.from <= at, at < window.until) {
            // What no request fits in would only go to and fro.
            (true, true) if purse.is_scarce() => window.slice.report(0, purse.need()),
            (true, true) => window.slice.report(self.ahead(purse), purse.need()),
            (false, _) => window.slice.report(self.ahead(purse), 0),
            (true, false) => window.slice.report(0, 0),
        }
    }

    /// Whether the control plane should hear of a window before it is due.
    fn is_news(&self, window: &Window, report: &Report, at: i64) -> bool {
        let Some(said) = self.said.get(&window.from) else {
            return true;
        };
        let numbers = |report: &Report| (report.granted, report.returned, report.spent, report.done);
        let is_used = self.rate > 0 && window.from <= at;
        let is_short = report.want > window.slice.available().saturating_mul(2);
        numbers(said) != numbers(report) || report.need > 0 || (is_used && is_short)
    }

    fn say(&mut self, item: &Item, now: u64) {
        self.is_urgent = false;
        self.said_at = now;
        self.said.insert(item.window.unwrap_or(NOW), item.report);
        // Windows follow one another; of those long gone nothing is said.
        while self.said.len() > SAID {
            self.said.pop_first();
        }
    }
}

/// In the place of a window whose name is not known.
const NOW: i64 = i64::MIN;
/// Windows of a budget of which is remembered what was said.
const SAID: usize = 8;
