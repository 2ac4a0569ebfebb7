//! Faults and hooks: what a test makes of chosen host calls.
//!
//! A fault answers in the host's place. A hook runs test code just before the host does its work, which is
//! how a test puts one worker's step between two host calls of another.

use std::cell::RefCell;
use std::rc::Rc;

use crate::hostcall::Hostcall;
use crate::status::Status;

/// The rules in force, in the order they were made; the first that fits a call decides.
#[derive(Default)]
pub(crate) struct Faults(Vec<Rc<RefCell<Rule>>>);

struct Rule {
    call: Hostcall,
    subject: Option<String>,
    skip: u32,
    left: Option<u32>,
    then: Then,
}

enum Then {
    Answer(Status),
    Run(Option<Box<dyn FnOnce()>>),
}

/// What befalls one call.
pub(crate) enum Befalls {
    Nothing,
    Answer(Status),
    Run(Box<dyn FnOnce()>),
}

/// A rule that was made; narrow it with the methods here. It is in force from the start, and stays when this
/// handle is dropped.
#[must_use = "a fault stays until it is cleared; bind it to `_` where it should stay for the whole test"]
pub struct Fault(Rc<RefCell<Rule>>);

impl Fault {
    /// Only calls about this: the property's path joined by dots, or the name of the header, shared-data key,
    /// metric, queue, cluster or foreign function.
    pub fn of(self, subject: &str) -> Self {
        self.0.borrow_mut().subject = Some(subject.to_owned());
        self
    }

    /// Only the `n`th such call from now on, counted from 1.
    pub fn nth(self, n: u32) -> Self {
        self.0.borrow_mut().skip = n.saturating_sub(1);
        self.times(1)
    }

    /// Only so many calls.
    pub fn times(self, times: u32) -> Self {
        self.0.borrow_mut().left = Some(times);
        self
    }

    /// Ends it.
    pub fn clear(self) {
        self.0.borrow_mut().left = Some(0);
    }
}

impl Faults {
    pub(crate) fn answer(&mut self, call: Hostcall, status: Status) -> Fault {
        self.add(call, None, Then::Answer(status))
    }

    pub(crate) fn run(&mut self, call: Hostcall, hook: Box<dyn FnOnce()>) -> Fault {
        self.add(call, Some(1), Then::Run(Some(hook)))
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn befalls(&mut self, call: Hostcall, subject: &str) -> Befalls {
        self.0.retain(|rule| rule.borrow().left != Some(0));
        self.0
            .iter()
            .find_map(|rule| rule.borrow_mut().meet(call, subject))
            .unwrap_or(Befalls::Nothing)
    }

    fn add(&mut self, call: Hostcall, left: Option<u32>, then: Then) -> Fault {
        let rule = Rc::new(RefCell::new(Rule {
            call,
            subject: None,
            skip: 0,
            left,
            then,
        }));
        self.0.push(rule.clone());
        Fault(rule)
    }
}

impl Rule {
    fn meet(&mut self, call: Hostcall, subject: &str) -> Option<Befalls> {
        let fits = self.call == call && self.subject.as_deref().is_none_or(|wanted| wanted == subject);
        if !fits {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        match &mut self.then {
            Then::Answer(status) => Some(Befalls::Answer(*status)),
            Then::Run(hook) => hook.take().map(Befalls::Run),
        }
    }
}
