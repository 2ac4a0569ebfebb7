//! Shared data and shared queues: one map for each `vm_id`, seen by every VM of that id.

use std::collections::{BTreeMap, VecDeque};

use crate::status::Status;

/// What every worker sees. Nothing is ever deleted and nothing expires, as in Envoy.
#[derive(Default)]
pub(crate) struct Shared {
    data: BTreeMap<(String, Vec<u8>), (Vec<u8>, u32)>,
    /// One sequence for all keys and ids; 0 is never given, since it means "unconditionally" in a write.
    last_cas: u32,
    queues: Vec<Queue>,
}

/// A queue, and who registered it last: the VM's number and the root context that is told of new entries.
struct Queue {
    vm_id: String,
    name: Vec<u8>,
    entries: VecDeque<Vec<u8>>,
    owner: (usize, u32),
    untold: usize,
}

impl Shared {
    pub(crate) fn get(&self, vm_id: &str, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        self.data
            .get(&(vm_id.to_owned(), key.to_vec()))
            .cloned()
            .ok_or(Status::NotFound)
    }

    /// Writes when `cas` is 0, when the key is new (whatever `cas` says), or when `cas` is the value's own.
    pub(crate) fn set(&mut self, vm_id: &str, key: &[u8], value: &[u8], cas: u32) -> Result<(), Status> {
        let place = (vm_id.to_owned(), key.to_vec());
        match self.data.get(&place) {
            Some((_, current)) if cas != 0 && cas != *current => return Err(Status::CasMismatch),
            _ => {}
        }
        self.last_cas = self.last_cas.checked_add(1).unwrap_or(1);
        self.data.insert(place, (value.to_vec(), self.last_cas));
        Ok(())
    }

    pub(crate) fn keys(&self, vm_id: &str) -> Vec<Vec<u8>> {
        self.data
            .keys()
            .filter(|(id, _)| id == vm_id)
            .map(|(_, key)| key.clone())
            .collect()
    }

    pub(crate) fn register(&mut self, vm_id: &str, name: &[u8], owner: (usize, u32)) -> u32 {
        if let Ok(token) = self.resolve(vm_id, name) {
            self.queues[index(token)].owner = owner;
            return token;
        }
        let (vm_id, name) = (vm_id.to_owned(), name.to_vec());
        self.queues.push(Queue {
            vm_id,
            name,
            entries: VecDeque::new(),
            owner,
            untold: 0,
        });
        u32::try_from(self.queues.len()).expect("few queues")
    }

    pub(crate) fn resolve(&self, vm_id: &str, name: &[u8]) -> Result<u32, Status> {
        let found = self
            .queues
            .iter()
            .position(|queue| queue.vm_id == vm_id && queue.name == name);
        found
            .and_then(|index| u32::try_from(index + 1).ok())
            .ok_or(Status::NotFound)
    }

    pub(crate) fn enqueue(&mut self, token: u32, value: &[u8]) -> Result<(), Status> {
        let queue = self.queue(token)?;
        queue.entries.push_back(value.to_vec());
        queue.untold += 1;
        Ok(())
    }

    pub(crate) fn dequeue(&mut self, token: u32) -> Result<Vec<u8>, Status> {
        self.queue(token)?.entries.pop_front().ok_or(Status::Empty)
    }

    /// The next owner to tell of an entry, and the queue's token.
    pub(crate) fn next_told(&mut self) -> Option<((usize, u32), u32)> {
        let found = self.queues.iter_mut().position(|queue| queue.untold > 0)?;
        self.queues[found].untold -= 1;
        Some((self.queues[found].owner, u32::try_from(found + 1).ok()?))
    }

    fn queue(&mut self, token: u32) -> Result<&mut Queue, Status> {
        token
            .checked_sub(1)
            .and_then(|at| self.queues.get_mut(at as usize))
            .ok_or(Status::NotFound)
    }
}

fn index(token: u32) -> usize {
    token as usize - 1
}

#[cfg(test)]
mod tests {
    use super::Shared;
    use crate::status::Status;

    #[test]
    fn cas_is_checked_only_where_there_is_a_value_and_a_cas() {
        let mut shared = Shared::default();
        assert_eq!(shared.get("a", b"k"), Err(Status::NotFound));
        // Envoy takes any cas for a key that does not exist.
        assert_eq!(shared.set("a", b"k", b"1", 77), Ok(()));
        let (_, cas) = shared.get("a", b"k").unwrap();
        assert_eq!(shared.set("a", b"k", b"2", cas), Ok(()));
        assert_eq!(shared.set("a", b"k", b"3", cas), Err(Status::CasMismatch));
        assert_eq!(shared.set("a", b"k", b"4", 0), Ok(()));
        assert_eq!(shared.get("a", b"k").unwrap().0, b"4");
        assert_eq!(shared.get("b", b"k"), Err(Status::NotFound));
    }
}
