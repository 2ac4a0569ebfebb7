use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Count(u8);

impl Value for Count {
    const KEYSPACE: Keyspace = Keyspace::WORKERS;

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [count] => Some(Self(*count)),
            _ => None,
        }
    }

    fn encode(&self) -> Vec<u8> {
        vec![self.0]
    }
}

/// A store in which another worker is quicker so many times.
struct Contended(Memory, usize);

impl Store for Contended {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        self.0.get(key)
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        if self.1 > 0 {
            self.1 -= 1;
            let other = self.0.get(key)?.and_then(|(bytes, _)| Count::decode(&bytes));
            self.0
                .put(key, &[other.map_or(10, |count| count.0.wrapping_add(10))])?;
        }
        self.0.swap(key, value, version)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.0.put(key, value)
    }
}

fn one_more(count: Option<Count>) -> (u8, Option<Count>) {
    let next = count.map_or(1, |count| count.0 + 1);
    (next, Some(Count(next)))
}

#[test]
fn no_change_is_lost_to_others() {
    let mut store = Contended(Memory::default(), 3);
    assert_eq!(update(&mut store, "x", one_more), Ok(31));
    assert_eq!(read(&mut store, "x"), Ok(Some(Count(31))));
    assert_eq!(read::<Count>(&mut store, "y"), Ok(None));
    write(&mut store, "x", Count(7)).unwrap();
    assert_eq!(update(&mut store, "x", one_more), Ok(8));
}

#[test]
fn there_is_an_end_to_trying() {
    let mut store = Contended(Memory::default(), ATTEMPTS);
    let never = |_: Option<Count>| ((), Some(Count(0)));
    assert_eq!(update(&mut store, "x", never), Err(StoreError::Contended));
}

#[test]
fn what_is_not_changed_is_not_written() {
    let mut store = Memory::default();
    let asked = update(&mut store, "x", |count: Option<Count>| (count, None));
    assert_eq!(asked, Ok(None));
    assert_eq!(store.get(b"workers-1-x"), Ok(None));
}

/// One more, up to 30.
fn up_to_30(count: &mut Count) -> Option<u8> {
    count.0 += 1;
    (count.0 <= 30).then_some(count.0)
}

#[test]
fn what_is_changed_where_it_stands_is_as_if_it_were_read_and_written() {
    let new = || Count(7);
    let mut store = Contended(Memory::default(), 2);
    assert_eq!(store.modify(b"x", &mut None, new, up_to_30), Ok(Some(21)));
    let read = store.load::<Count>(b"x").unwrap();
    assert_eq!(read, (Some(Count(21)), Some(3)));
    let mut contended = Contended(Memory::default(), ATTEMPTS);
    let never = contended.modify(b"x", &mut None, new, |_| Some(()));
    assert_eq!(never, Err(StoreError::Contended));
}

#[test]
fn a_change_that_comes_to_nothing_is_seen_and_not_written() {
    let mut store = Contended(Memory::default(), 0);
    store.put(b"x", &[30]).unwrap();
    let (mut seen, new) = (None, || Count(7));
    assert_eq!(store.modify(b"x", &mut seen, new, up_to_30), Ok(None));
    assert_eq!(store.get(b"x"), Ok(Some((vec![30], 1))));
    assert_eq!(seen, Some((Count(31), Some(1))));
    // The next one begins with it, unless another worker was quicker.
    let change = |count: &mut Count| Some(count.0);
    assert_eq!(store.modify(b"x", &mut seen.clone(), new, change), Ok(Some(31)));
    assert_eq!(store.modify(b"x", &mut seen, new, change), Ok(Some(31)));
    store.put(b"x", &[5]).unwrap();
    let mut seen = Some((Count(31), Some(1)));
    assert_eq!(store.modify(b"x", &mut seen, new, change), Ok(Some(5)));
}

#[test]
fn no_kind_of_value_is_found_as_another() {
    for one in KEYSPACES {
        let text = core::str::from_utf8(one.prefix()).unwrap();
        let (kind, layout) = text.strip_suffix('-').unwrap().rsplit_once('-').unwrap();
        assert!(kind.bytes().all(|byte| byte.is_ascii_lowercase()), "{text}");
        assert!(layout.parse::<u8>().unwrap() > 0, "{text}");
        let others = KEYSPACES
            .iter()
            .filter(|other| other.prefix().starts_with(one.prefix()));
        assert_eq!(others.count(), 1, "{text}");
    }
}
