//! The end of a request: what it used is settled, and its usage record made.

use std::rc::Rc;

use super::{InFlight, Limiter, Rejection};
use crate::exchange::Host;
use crate::identity::Identity;
use crate::limits::{Holds, Refusal};
use crate::settlement::{self, Answer, Settlement};
use crate::spending::Expense;
use crate::spent::Spent;
use crate::usage::record::{Outcome, Record, Request, Used};

/// A request that is over.
#[derive(Debug)]
pub struct Finished {
    /// Whose it was.
    pub who: Rc<Identity>,
    /// The model that was asked.
    pub model: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What it was charged.
    pub used: Used,
    /// Milliseconds until the answer began; `None` if none did.
    pub first_byte_ms: Option<u64>,
    /// Status of a model server's answer; 0 where there was none.
    pub status: u16,
    /// The members of its usage record.
    pub record: String,
}

impl Limiter {
    /// Settles a request. `spent` are attempts that came to nothing; `host` tells how it ended.
    pub fn finish(
        &mut self,
        host: &mut impl Host,
        holds: &mut Holds,
        request: Box<InFlight>,
        spent: Spent,
    ) -> Finished {
        let InFlight {
            who,
            model,
            terms,
            reservation,
            spending,
            slot,
            would_refuse,
            began,
            answer,
            ..
        } = *request;
        let settlement = settlement::settle(&terms, answer.as_ref(), spent, host, |host| {
            self.estimates.of(host, &who.org, &model)
        });
        if let Some(sample) = &settlement.sample {
            self.estimates.learn(&who.org, &model, &terms.demand, sample);
        }
        let now = host.now().unwrap_or(began);
        settlement.carry_out(&who.org, reservation, host, &mut self.pending(holds), now);
        let spent = Expense::recorded(&settlement.used);
        self.spending.keep(spending.settle(&spent).carry_out(host));
        if let Some(slot) = slot {
            // Lost only with the store, and with it all slots.
            let _ = slot.release(host, &self.workers, now);
        }
        let Settlement { outcome, used, .. } = settlement;
        let first_byte_ms = answer.as_ref().map(Answer::first_byte_ms);
        let status = answer.as_ref().map_or(0, Answer::status);
        let record = Record {
            caller: who.caller(),
            request: Some(terms.request(&model)),
            outcome,
            used,
            first_byte_ms,
            limit: None,
            budget: None,
            would_limit: &self.names(&would_refuse),
        };
        let record = record.members();
        Finished {
            who,
            model,
            outcome,
            used,
            first_byte_ms,
            status,
            record,
        }
    }

    /// The end of a request that was refused.
    pub fn finish_rejected(&self, request: Rejection) -> Finished {
        let limit = match request.refusal() {
            Refusal::Limit(row) => self.config.limits.row(row),
            Refusal::Capacity | Refusal::Unavailable | Refusal::Budget => None,
        };
        let record = Record {
            caller: request.who.caller(),
            request: Some(Request {
                endpoint: request.endpoint,
                model: &request.model,
                stream: request.stream,
                reserved_tokens: request.reserved_tokens,
            }),
            outcome: Outcome::Limited,
            used: Used::NOTHING,
            first_byte_ms: None,
            limit: limit.map(|row| row.name.as_str()),
            budget: request.budget(),
            would_limit: &self.names(request.would_refuse()),
        };
        let (outcome, used, record) = (record.outcome, record.used, record.members());
        let Rejection { who, model, .. } = request;
        Finished {
            who,
            model,
            outcome,
            used,
            first_byte_ms: None,
            status: 0,
            record,
        }
    }

    fn names(&self, rows: &[usize]) -> Vec<String> {
        let rows = rows.iter().filter_map(|row| self.config.limits.row(*row));
        rows.map(|row| row.name.clone()).collect()
    }
}

/// The members of the record of a request that came to no limit, as another filter answered it with this status.
pub fn record_of_another(who: &Identity, status: u64) -> String {
    let outcome = match status {
        // The list of models.
        200..400 => Outcome::Complete,
        _ => Outcome::Refused,
    };
    Record::before_limits(who.caller(), outcome).members()
}
