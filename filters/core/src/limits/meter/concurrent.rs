//! So many requests in flight.

use super::{Ask, Held, Hit, LimitRecord, Meter, Reading, Wait};

/// The most that may be in flight.
pub(super) struct Max(pub(super) u32);

/// After so many nanoseconds a client may ask again for a slot: nobody knows when one will be free.
const PAUSE: u64 = 1_000_000_000;

impl Meter for Max {
    fn takes(&self, _hit: &Hit<'_>, _ask: &Ask<'_>) -> u64 {
        1
    }

    fn wait(&self, record: &LimitRecord, hit: &Hit<'_>, ask: &Ask<'_>) -> Option<Wait> {
        (in_flight(record, hit, ask) >= u64::from(self.0)).then_some(Wait::Nanos(PAUSE))
    }

    fn charge(&self, record: &mut LimitRecord, hit: &Hit<'_>, ask: &Ask<'_>) -> (Held, Reading) {
        let (id, worker) = (hit.row.id, ask.workers.id());
        let used = record.change_slots(id, |slots| {
            slots.keep(ask.workers);
            slots.take(worker);
            slots.in_use()
        });
        (Held::Slot { id, worker }, self.reading(used))
    }

    fn read(&self, record: &LimitRecord, hit: &Hit<'_>, ask: &Ask<'_>) -> Reading {
        self.reading(in_flight(record, hit, ask))
    }
}

impl Max {
    /// Nobody knows when the others end, so no reset is told.
    const fn reading(&self, used: u64) -> Reading {
        Reading {
            used,
            remaining: (self.0 as u64).saturating_sub(used),
            reset: 0,
        }
    }
}

fn in_flight(record: &LimitRecord, hit: &Hit<'_>, ask: &Ask<'_>) -> u64 {
    let slots = record.slots(hit.row.id);
    slots.map_or(0, |slots| slots.in_use_by(ask.workers))
}
