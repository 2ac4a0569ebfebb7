//! Stories of the whole table over a store in memory, which can be overtaken and can fail.

mod answers;
mod differential;
mod directory;
mod documents;
mod fleet;
mod later;
mod races;
pub(super) mod random;
mod stories;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::bound::Overrides;
use crate::config::{ConfigError, Object, from_json};
use crate::endpoint::Endpoint;
use crate::gcra::Quota;
use crate::state::{Store, StoreError};
use crate::workers::Workers;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

fn parse(json: &str) -> Result<Table, Vec<ConfigError>> {
    let raw: Vec<Object<RawLimit>> = from_json(json.as_bytes()).map_err(|error| vec![error])?;
    raw.try_into()
}

fn table(json: &str) -> Table {
    parse(json).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A store in memory.
#[derive(Default)]
struct Memory {
    values: BTreeMap<Vec<u8>, (Vec<u8>, u32)>,
    /// So many calls succeed, then all fail.
    fails_after: Option<usize>,
    /// So many swaps are lost first.
    losses: usize,
    gets: usize,
    swaps: usize,
}

impl Memory {
    fn call(&mut self) -> Result<(), StoreError> {
        match &mut self.fails_after {
            None => Ok(()),
            Some(0) => Err(StoreError::Failed),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn contents(&self) -> Vec<(&Vec<u8>, &Vec<u8>)> {
        self.values.iter().map(|(key, (value, _))| (key, value)).collect()
    }
}

impl Store for Memory {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        self.gets += 1;
        self.call()?;
        Ok(self.values.get(key).cloned())
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        self.swaps += 1;
        self.call()?;
        if self.losses > 0 {
            self.losses -= 1;
            return Ok(false);
        }
        if self.values.get(key).map(|(_, version)| *version) != version {
            return Ok(false);
        }
        let next = version.map_or(1, |version| version + 1);
        self.values.insert(key.to_vec(), (value.to_vec(), next));
        Ok(true)
    }

    fn put(&mut self, _key: &[u8], _value: &[u8]) -> Result<(), StoreError> {
        unreachable!("limits write nothing that they have not read")
    }
}

/// A customer of `acme`.
fn acme() -> Subject<'static> {
    Subject {
        key: "7f3kq9x2mzd4",
        org: "acme",
        project: Some("search"),
        tier: "pro",
        model: "llama-70b",
        endpoint: Endpoint::Chat,
        address: Some(IpAddr::from([192, 0, 2, 1])),
        overrides: &Overrides::NONE,
    }
}

fn globex() -> Subject<'static> {
    Subject {
        key: "another",
        org: "globex",
        project: None,
        tier: "free",
        ..acme()
    }
}

fn tokens(input: u64, output: u64) -> Amounts {
    Amounts {
        input,
        output,
        cost: 0,
    }
}

/// A worker to whom everybody lives.
fn who_sees_all(id: u32) -> &'static Workers {
    Box::leak(Box::new(Workers::who_sees_all(id)))
}

fn ask<'a>(subject: &'a Subject<'a>, now: u64, amounts: Amounts) -> Ask<'a> {
    Ask {
        subject,
        now,
        amounts,
        certain: amounts,
        workers: who_sees_all(1),
    }
}

impl Table {
    fn go(
        &self,
        store: &mut impl Store,
        subject: &Subject<'_>,
        now: u64,
        amounts: Amounts,
    ) -> Result<Admitted, Refused> {
        self.reserve(store, &ask(subject, now, amounts))
    }

    /// How many requests pass at once, each of these amounts.
    fn how_many(&self, store: &mut Memory, subject: &Subject<'_>, now: u64, amounts: Amounts) -> usize {
        (0..10_000)
            .take_while(|_| self.go(store, subject, now, amounts).is_ok())
            .count()
    }
}

impl Refused {
    fn denied(self) -> Denied {
        match self.reason {
            Reason::Limited(denied) => *denied,
            Reason::Store(error) => panic!("{error:?}"),
        }
    }
}

impl Denied {
    fn nanos(&self) -> u64 {
        match self.wait {
            Wait::Nanos(nanos) => nanos,
            Wait::Never => panic!("never"),
        }
    }
}
