//! Of which limits this Envoy's member should know: what workers leave for it.

use tollgate_shares::Key;

use super::fair::Org;
use crate::state::{Keyspace, Store, StoreError, Value, update};

/// A limit of which the member should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    /// Which.
    pub(crate) key: Key,
    /// Whose request left it.
    pub(crate) org: Org,
}

/// What workers leave notes of, each in a value of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notes {
    /// Shares that were too small.
    Short,
    /// Limits on what is in use of which a part is used that nobody granted.
    InUse,
}

impl Notes {
    /// So many wait for the member at most. Others are left there another time.
    pub(crate) const MAX: usize = 2_048;
    /// The same of one organization, so that none takes the others' room.
    pub(crate) const MAX_OF_ONE: usize = Self::MAX / 8;

    /// Leaves a note; whether there was room.
    pub(crate) fn add(self, store: &mut impl Store, note: Note) -> Result<bool, StoreError> {
        update(store, self.name(), |stored: Option<List>| {
            let List(mut all) = stored.unwrap_or_default();
            if all.iter().any(|one| one.key == note.key) {
                return (true, None);
            }
            let of_one = all.iter().filter(|one| one.org == note.org).count();
            if all.len() >= Self::MAX || of_one >= Self::MAX_OF_ONE {
                return (false, None);
            }
            all.push(note);
            (true, Some(List(all)))
        })
    }

    /// Takes all of them out.
    pub(crate) fn take(self, store: &mut impl Store) -> Result<Vec<Note>, StoreError> {
        update(store, self.name(), |stored: Option<List>| match stored {
            Some(List(all)) if !all.is_empty() => (all, Some(List::default())),
            _ => (Vec::new(), None),
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Short => "",
            Self::InUse => "in-use",
        }
    }
}

/// Layout: 16 bytes of a key and 8 of an organization, for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct List(Vec<Note>);

impl Value for List {
    const KEYSPACE: Keyspace = Keyspace::SHORT;

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (notes, rest) = bytes.as_chunks::<24>();
        let note = |bytes: &[u8; 24]| {
            let (key, org) = bytes.split_first_chunk()?;
            let org = Org::from_bytes(org.try_into().ok()?);
            Some(Note { key: Key(*key), org })
        };
        let notes = notes.iter().map(note).collect::<Option<_>>();
        notes.filter(|_| rest.is_empty()).map(Self)
    }

    fn encode(&self) -> Vec<u8> {
        let notes = self.0.iter().map(|note| (note.key.0, note.org.to_bytes()));
        notes.flat_map(|(key, org)| key.into_iter().chain(org)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Memory;

    fn note(key: usize, org: &str) -> Note {
        Note {
            key: Key((key as u128).to_be_bytes()),
            org: Org::named(org),
        }
    }

    #[test]
    fn each_is_there_once_until_it_is_taken() {
        let mut store = Memory::default();
        for at in [1, 2, 1] {
            assert_eq!(Notes::Short.add(&mut store, note(at, "acme")), Ok(true));
        }
        assert_eq!(Notes::InUse.add(&mut store, note(3, "acme")), Ok(true));
        let two = vec![note(1, "acme"), note(2, "acme")];
        assert_eq!(Notes::Short.take(&mut store), Ok(two));
        assert_eq!(Notes::Short.take(&mut store), Ok(vec![]));
        assert_eq!(Notes::InUse.take(&mut store), Ok(vec![note(3, "acme")]));
    }

    #[test]
    fn none_takes_the_room_of_others() {
        let mut store = Memory::default();
        let fill = |store: &mut Memory, org: &str, from: usize| {
            let notes = (from..from + Notes::MAX).map(|at| note(at, org));
            notes
                .filter(|note| Notes::Short.add(store, *note) == Ok(true))
                .count()
        };
        assert_eq!(fill(&mut store, "acme", 0), Notes::MAX_OF_ONE);
        assert_eq!(fill(&mut store, "globex", Notes::MAX), Notes::MAX_OF_ONE);
        for org in 2..10 {
            fill(&mut store, &org.to_string(), org * Notes::MAX);
        }
        assert_eq!(Notes::Short.take(&mut store).map(|all| all.len()), Ok(Notes::MAX));
    }
}
