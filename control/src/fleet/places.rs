//! Who may wait for an answer. Of one token so many messages wait at a time, so that one which somebody stole fills no line
//! in which others stand.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::problem::Problem;

/// So many messages of one token may wait. A thousand gateways that share one have some twenty under way.
const MOST: usize = 128;

/// How many messages of each token wait.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<String, usize>>);

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'p> {
    places: &'p Places,
    token: String,
}

impl Places {
    /// A place for one more message of a token; 429 where too many wait.
    pub(super) fn take(&self, token: &str) -> Result<Place<'_>, Problem> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(token.to_owned()).or_default();
        if *count >= MOST {
            return Err(Problem::too_many_messages());
        }
        *count += 1;
        Ok(Place {
            places: self,
            token: token.to_owned(),
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.token) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_so_many_places_and_gets_them_back() {
        let places = Places::default();
        let mut taken: Vec<_> = (0..MOST).map(|_| places.take("a").unwrap()).collect();
        assert_eq!(places.take("a").unwrap_err().status, 429);
        assert!(places.take("b").is_ok());
        taken.pop();
        drop(places.take("a").unwrap());
        drop(taken);
        assert!(places.0.lock().unwrap().is_empty());
    }
}
