//! What one worker holds of the uploads, and what becomes of a piece that comes.

use super::{Hold, Ledger, Mine, Over, Pace, Policy, Refused, Who, weight};
use crate::identity::Identity;
use crate::state::{self, Clock, Store, StoreError};

/// Nanoseconds between two ticks from which on this worker was too busy to see what came meanwhile.
const STALLED: u64 = 3_000_000_000;

/// Pieces that any body may come in, and bytes that each further one needs on average.
const PIECES: u64 = 4_096;
const LEAST_PIECE: u64 = 64;

/// What this worker holds, and what it knows of the others.
#[derive(Debug)]
pub struct Uploads {
    policy: Policy,
    number: u32,
    mine: Mine,
    /// Whether the shared count lacks a change.
    unwritten: bool,
    /// When the last tick was, and whether it was too late to judge anybody's pace by it.
    ticked: u64,
    stalled: bool,
}

/// One request's part.
#[derive(Debug, Default)]
pub struct Upload {
    who: Option<Who>,
    /// How long its body will be, as its client says.
    announced: Option<u64>,
    len: u64,
    /// What its pieces take of memory.
    weight: u64,
    /// How many there were.
    pieces: u64,
    held: Hold,
    pace: Pace,
}

impl Upload {
    /// How many bytes count: each stands for at most two of memory.
    fn counted(&self) -> u64 {
        self.len.max(self.weight / 2)
    }

    /// A body that is to come.
    pub fn announced(length: Option<u64>) -> Self {
        Self {
            announced: length,
            ..Self::default()
        }
    }
}

impl Uploads {
    /// Takes a number for this worker. `Err` where the count can't be shared.
    pub fn join(host: &mut impl Store, policy: Policy) -> Result<Self, StoreError> {
        let number = state::update(host, "", |ledger: Option<Ledger>| {
            let mut ledger = ledger.unwrap_or_default();
            (ledger.join(), Some(ledger))
        })?;
        Ok(Self {
            policy,
            number,
            mine: Mine::default(),
            unwritten: false,
            ticked: 0,
            stalled: false,
        })
    }

    /// Most bytes of one body.
    pub const fn max_body(&self) -> u64 {
        self.policy.body
    }

    /// `len` bytes of a body have come, as many as before where there is none; all of it at `end`.
    pub fn came(
        &mut self,
        host: &mut (impl Store + Clock),
        upload: &mut Upload,
        who: &Identity,
        len: Option<usize>,
        end: bool,
    ) -> Result<(), Refused> {
        let len = len.map_or(upload.len, |len| len as u64);
        upload.weight = upload
            .weight
            .saturating_add(weight(len.saturating_sub(upload.len)));
        upload.pieces += u64::from(len > upload.len);
        upload.len = len;
        if upload.pieces > PIECES + len / LEAST_PIECE {
            return Err(Refused::Fragmented);
        }
        if len > self.policy.body {
            return Err(Refused::TooLarge(self.policy.body));
        }
        if end {
            return self
                .take(host, upload, who, Hold::whole(upload.counted()))
                .map_err(Refused::Over);
        }
        // Over HTTP/1.1 the end comes as a piece of its own, right behind the last: what is there by its length is not
        // worth counting. If the end does not come, the next tick finds it.
        let all_there = upload.held.requests == 0 && upload.announced == Some(len);
        if all_there || (upload.held.requests > 0 && upload.counted() <= upload.held.bytes) {
            return Ok(());
        }
        self.count(host, upload, who).map_err(Refused::Over)
    }

    /// A body was decoded, and has so many bytes now, in one piece.
    pub fn decoded(
        &mut self,
        host: &mut (impl Store + Clock),
        upload: &mut Upload,
        who: &Identity,
        len: usize,
    ) -> Result<(), Refused> {
        (upload.len, upload.weight) = (0, 0);
        self.came(host, upload, who, Some(len), true)
    }

    fn count(
        &mut self,
        host: &mut (impl Store + Clock),
        upload: &mut Upload,
        who: &Identity,
    ) -> Result<(), Over> {
        let coming = Hold::coming(upload.counted(), upload.announced);
        // No upload is refused for what would be counted ahead of itself.
        self.take(host, upload, who, coming)
            .or_else(|_| self.take(host, upload, who, coming.exactly(upload.counted())))
    }

    /// A request is no longer held for its answer, whatever its ending.
    pub fn release(&mut self, host: &mut (impl Store + Clock), upload: &mut Upload) {
        if let Some(who) = upload.who
            && upload.held != Hold::default()
        {
            // What takes less is never refused.
            let _ = self.change(host, upload, who, Hold::default());
        }
    }

    fn take(
        &mut self,
        host: &mut (impl Store + Clock),
        upload: &mut Upload,
        who: &Identity,
        wanted: Hold,
    ) -> Result<(), Over> {
        if wanted == upload.held {
            return Ok(());
        }
        let who = *upload.who.get_or_insert_with(|| Who::of(&who.org, &who.key_id));
        self.change(host, upload, who, wanted)
    }

    fn change(
        &mut self,
        host: &mut (impl Store + Clock),
        upload: &mut Upload,
        who: Who,
        wanted: Hold,
    ) -> Result<(), Over> {
        let more = wanted.beyond(upload.held);
        let now = host.now().unwrap_or(self.ticked);
        let mut mine = self.mine.clone();
        mine.change(who, upload.held, wanted);
        let admit = |ledger: &Ledger| {
            let sums = ledger.sums(self.number, &self.mine, who, now);
            self.policy.admit(&sums, more)
        };
        let written = state::update(host, "", |ledger: Option<Ledger>| {
            let mut ledger = ledger.unwrap_or_default();
            let admitted = admit(&ledger);
            ledger.put(self.number, &mine, now);
            (admitted, admitted.is_ok().then_some(ledger))
        });
        // Where the shared count fails this worker's own counts.
        written.unwrap_or_else(|_| admit(&Ledger::default()))?;
        self.unwritten = written.is_err();
        (self.mine, upload.held) = (mine, wanted);
        Ok(())
    }

    /// Writes what this worker holds once more, so that its section does not age.
    pub fn tick(&mut self, host: &mut (impl Store + Clock)) {
        let Some(now) = host.now() else { return };
        self.stalled = now.abs_diff(self.ticked) > STALLED;
        self.ticked = now;
        if self.mine.is_empty() && !self.unwritten {
            return;
        }
        let written = state::update(host, "", |ledger: Option<Ledger>| match ledger {
            Some(mut ledger) => {
                ledger.put(self.number, &self.mine, now);
                (true, Some(ledger))
            }
            None => (false, None),
        });
        self.unwritten = !written.unwrap_or(false);
    }

    /// Looks at a body that is still to come, after a tick: whether it may go on.
    pub fn look(
        &mut self,
        host: &mut (impl Store + Clock),
        upload: &mut Upload,
        who: &Identity,
    ) -> Result<(), Refused> {
        if upload.held.requests == 0 {
            self.count(host, upload, who).map_err(Refused::Over)?;
        }
        if self.stalled {
            upload.pace.restart(upload.len, self.ticked);
        } else if upload.pace.is_too_slow(&self.policy, upload.len, self.ticked) {
            return Err(Refused::TooSlow(self.policy.too_slow()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Bounds;
    use super::*;
    use crate::state::fake::Worker;

    const SECOND: u64 = 1_000_000_000;

    /// A worker of an Envoy, and what it holds.
    struct Stage {
        host: Worker,
        uploads: Uploads,
    }

    /// Workers with room for two requests of a key.
    fn stage<const N: usize>() -> [Stage; N] {
        let host = Worker::at(1_000 * SECOND);
        let policy = Policy {
            requests: Bounds {
                key: 2,
                organization: 3,
                total: 4,
            },
            least_rate: 1,
            ..Policy::default()
        };
        core::array::from_fn(|_| Stage {
            uploads: Uploads::join(&mut host.clone(), policy).unwrap(),
            host: host.clone(),
        })
    }

    impl Stage {
        fn came(&mut self, upload: &mut Upload, len: usize, end: bool) -> Result<(), Refused> {
            let who = Identity::sample("acme", "k1");
            self.uploads.came(&mut self.host, upload, &who, Some(len), end)
        }

        /// A body of which one piece has come.
        fn begin(&mut self) -> Result<Upload, Refused> {
            let mut upload = Upload::announced(None);
            self.came(&mut upload, 30, false).map(|()| upload)
        }

        fn is_full(&mut self) -> bool {
            matches!(self.begin(), Err(Refused::Over(_)))
        }

        fn look(&mut self, upload: &mut Upload) -> Result<(), Refused> {
            let who = Identity::sample("acme", "k1");
            self.uploads.look(&mut self.host, upload, &who)
        }

        fn tick(&mut self) {
            self.uploads.tick(&mut self.host);
        }
    }

    #[test]
    fn workers_count_together() {
        let [mut one, mut two] = stage();
        let (mut first, _second) = (one.begin().unwrap(), two.begin().unwrap());
        assert!(one.is_full() && two.is_full());
        // What is there at once is no upload.
        assert_eq!(two.came(&mut Upload::announced(Some(30)), 30, false), Ok(()));
        assert_eq!(one.came(&mut first, 30, true), Ok(()));
        assert!(two.begin().is_ok() && one.is_full());
    }

    #[test]
    fn no_upload_is_lost_between_workers() {
        let [mut one, mut two] = stage();
        let host = one.host.clone();
        host.before_write(move || {
            two.begin().unwrap();
        });
        one.begin().unwrap();
        assert!(one.is_full());
    }

    #[test]
    fn the_uploads_of_a_worker_that_is_gone_count_no_more() {
        let [mut one, mut two] = stage();
        let _lost = [one.begin().unwrap(), one.begin().unwrap()];
        assert!(two.is_full());
        two.host.pass(61 * SECOND);
        assert!(two.begin().is_ok());
    }

    #[test]
    fn an_upload_that_lasts_goes_on_counting() {
        let [mut one, mut two] = stage();
        let _lasting = [one.begin().unwrap(), one.begin().unwrap()];
        for _ in 0..7 {
            one.host.pass(9 * SECOND);
            one.tick();
        }
        assert!(two.is_full());
    }

    #[test]
    fn a_silent_upload_is_ended_and_makes_room() {
        let [mut one, mut two] = stage();
        let mut uploads = [one.begin().unwrap(), Upload::announced(None)];
        one.tick();
        for upload in &mut uploads {
            assert_eq!(one.look(upload), Ok(()));
        }
        assert!(
            two.is_full(),
            "one of which nothing came is found by the next tick"
        );
        let mut ended = 0;
        for _ in 0..10 {
            one.host.pass(SECOND);
            one.tick();
            for upload in &mut uploads {
                ended += usize::from(matches!(one.look(upload), Err(Refused::TooSlow(_))));
            }
        }
        assert_eq!(ended, 2);
        for mut upload in uploads {
            one.uploads.release(&mut one.host, &mut upload);
        }
        assert!(two.begin().is_ok());
    }

    #[test]
    fn a_worker_that_stood_still_judges_nobody() {
        let [mut one] = stage();
        let mut upload = one.begin().unwrap();
        one.tick();
        assert_eq!(one.look(&mut upload), Ok(()));
        one.host.pass(60 * SECOND);
        one.tick();
        assert_eq!(one.look(&mut upload), Ok(()));
    }

    #[test]
    fn where_the_count_cannot_be_shared_each_worker_has_its_own() {
        let [mut one, mut two] = stage();
        one.host.fail(true);
        let _own = [one.begin().unwrap(), one.begin().unwrap()];
        assert!(one.is_full() && two.begin().is_ok());
        // What was not written is with the next tick.
        one.host.fail(false);
        one.tick();
        assert!(two.is_full());
    }

    #[test]
    fn a_body_in_pieces_of_a_byte_is_no_work_for_long() {
        let pieces_of = |size: usize, whole: usize| {
            let [mut one] = stage();
            let mut upload = Upload::announced(None);
            let mut came = (1..=whole / size).map(|piece| one.came(&mut upload, piece * size, false));
            came.position(|came| came == Err(Refused::Fragmented))
        };
        assert_eq!(pieces_of(1, 100_000), Some(4_161));
        for size in [64, 100, 16_384] {
            assert_eq!(pieces_of(size, 2_000_000), None, "{size}");
        }
    }

    #[test]
    fn no_body_is_larger_than_allowed() {
        let [mut one] = stage();
        let body = Policy::default().body;
        let too_large = Err(Refused::TooLarge(body));
        let mut upload = Upload::announced(None);
        assert_eq!(one.came(&mut upload, body as usize + 1, false), too_large);
        let (host, who) = (&mut one.host, Identity::sample("acme", "k1"));
        let decoded = one.uploads.decoded(host, &mut upload, &who, body as usize + 1);
        assert_eq!(decoded, too_large);
    }
}
