//! What is in upload, as all workers of this Envoy count it.

use tollgate_core::identity::Identity;
use tollgate_core::route::Refusal;
use tollgate_core::uploads::{Hold, Ledger, Mine, Over, Pace, Policy, Who, weight};
use tollgate_host::{Result, Status, create_shared, now_nanos, set_shared_if, shared};

/// The shared count.
const KEY: &[u8] = b"uploads-1";
/// Lost races before a worker goes by its own count until the next tick: each one means that another wrote.
const TRIES: usize = 64;
/// Nanoseconds between two ticks from which on this worker was too busy to see what came meanwhile.
const STALLED: u64 = 3_000_000_000;

/// What this worker holds, and what it knows of the others.
pub(crate) struct Uploads {
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
#[derive(Default)]
pub(crate) struct Upload {
    who: Option<Who>,
    /// How long its body will be, as its client says.
    announced: Option<u64>,
    len: u64,
    /// What its pieces take of memory.
    weight: u64,
    held: Hold,
    pace: Pace,
}

impl Upload {
    /// How many bytes count: each stands for at most two of memory.
    fn counted(&self) -> u64 {
        self.len.max(self.weight / 2)
    }

    /// A body that is to come.
    pub(crate) fn announced(length: Option<u64>) -> Self {
        Self {
            announced: length,
            ..Self::default()
        }
    }
}

impl Uploads {
    /// Takes a number for this worker. `Err` where the count can't be shared.
    pub(crate) fn join(policy: Policy) -> Result<Self> {
        let mut uploads = Self {
            policy,
            number: 0,
            mine: Mine::default(),
            unwritten: false,
            ticked: 0,
            stalled: false,
        };
        for _ in 0..TRIES {
            let found = shared(KEY)?;
            let mut ledger = read(found.as_ref().map(|(record, _)| record.as_slice()));
            uploads.number = ledger.join();
            let written = match found {
                Some((_, cas)) => set_shared_if(KEY, &ledger.write(), cas),
                None => create_shared(KEY, &ledger.write()),
            };
            match written {
                Ok(()) => return Ok(uploads),
                Err(Status::CasMismatch) => {}
                Err(status) => return Err(status),
            }
        }
        Err(Status::CasMismatch)
    }

    /// Most bytes of one body.
    pub(crate) const fn most(&self) -> u64 {
        self.policy.body
    }

    /// `len` bytes of a body have come, as many as before where there is none; all of it at `end`.
    pub(crate) fn came(
        &mut self,
        upload: &mut Upload,
        who: &Identity,
        len: Option<usize>,
        end: bool,
    ) -> core::result::Result<(), Refusal> {
        let len = len.map_or(upload.len, |len| len as u64);
        upload.weight = upload
            .weight
            .saturating_add(weight(len.saturating_sub(upload.len)));
        upload.len = len;
        if len > self.policy.body {
            return Err(Refusal::TooLarge(Some(self.policy.body)));
        }
        if end {
            return self
                .take(upload, who, Hold::whole(upload.counted()))
                .map_err(Refusal::Uploads);
        }
        // Over HTTP/1.1 the end comes as a piece of its own, right behind the last: what is there by its length is not
        // worth counting. If the end does not come, the next tick finds it.
        let all_there = upload.held.requests == 0 && upload.announced == Some(len);
        if all_there || (upload.held.requests > 0 && upload.counted() <= upload.held.bytes) {
            return Ok(());
        }
        self.count(upload, who).map_err(Refusal::Uploads)
    }

    /// A body was decoded, and has so many bytes now, in one piece.
    pub(crate) fn decoded(
        &mut self,
        upload: &mut Upload,
        who: &Identity,
        len: usize,
    ) -> core::result::Result<(), Refusal> {
        (upload.len, upload.weight) = (0, 0);
        self.came(upload, who, Some(len), true)
    }

    fn count(&mut self, upload: &mut Upload, who: &Identity) -> core::result::Result<(), Over> {
        let coming = Hold::coming(upload.counted(), upload.announced);
        // No upload is refused for what would be counted ahead of itself.
        self.take(upload, who, coming)
            .or_else(|_| self.take(upload, who, coming.exactly(upload.counted())))
    }

    /// A request is no longer held for its answer, whatever its ending.
    pub(crate) fn release(&mut self, upload: &mut Upload) {
        if let Some(who) = upload.who
            && upload.held != Hold::default()
        {
            // What takes less is never refused.
            let _ = self.change(upload, who, Hold::default());
        }
    }

    fn take(&mut self, upload: &mut Upload, who: &Identity, wanted: Hold) -> core::result::Result<(), Over> {
        if wanted == upload.held {
            return Ok(());
        }
        let who = *upload.who.get_or_insert_with(|| Who::of(&who.org, &who.key_id));
        self.change(upload, who, wanted)
    }

    fn change(&mut self, upload: &mut Upload, who: Who, wanted: Hold) -> core::result::Result<(), Over> {
        let more = wanted.beyond(upload.held);
        let now = now_nanos().unwrap_or(self.ticked);
        let mut mine = self.mine.clone();
        mine.change(who, upload.held, wanted);
        for _ in 0..TRIES {
            // Where the shared count can't be read this worker's own counts.
            let found = shared(KEY).unwrap_or_default();
            let mut ledger = read(found.as_ref().map(|(record, _)| record.as_slice()));
            self.policy
                .admit(&ledger.sums(self.number, &self.mine, who, now), more)?;
            ledger.put(self.number, &mine, now);
            let written = match found {
                Some((_, cas)) => set_shared_if(KEY, &ledger.write(), cas),
                None => create_shared(KEY, &ledger.write()),
            };
            self.unwritten = written.is_err();
            if written != Err(Status::CasMismatch) {
                break;
            }
        }
        (self.mine, upload.held) = (mine, wanted);
        Ok(())
    }

    /// Writes what this worker holds once more, so that its section does not age.
    pub(crate) fn tick(&mut self) {
        let Ok(now) = now_nanos() else { return };
        self.stalled = now.abs_diff(self.ticked) > STALLED;
        self.ticked = now;
        if self.mine.is_empty() && !self.unwritten {
            return;
        }
        let Ok(Some((record, cas))) = shared(KEY) else {
            return;
        };
        let mut ledger = Ledger::read(&record);
        ledger.put(self.number, &self.mine, now);
        self.unwritten = set_shared_if(KEY, &ledger.write(), cas).is_err();
    }

    /// Looks at a body that is still to come, after a tick: whether it may go on.
    pub(crate) fn look(&mut self, upload: &mut Upload, who: &Identity) -> core::result::Result<(), Refusal> {
        if upload.held.requests == 0 {
            self.count(upload, who).map_err(Refusal::Uploads)?;
        }
        if self.stalled {
            upload.pace.restart(upload.len, self.ticked);
        } else if upload.pace.is_too_slow(&self.policy, upload.len, self.ticked) {
            return Err(Refusal::SlowUpload(self.policy.too_slow()));
        }
        Ok(())
    }
}

fn read(record: Option<&[u8]>) -> Ledger {
    record.map(Ledger::read).unwrap_or_default()
}
