//! Lists of changes to a directory: core reads one where its rules, said over a tree of it, hold, and where the reader of
//! whole documents reads its parts; and changes to nothing make what the whole document of them is.

use std::collections::BTreeSet;

use tollgate_core::directory::delta::{Delta, DeltaLoader};
use tollgate_core::directory::patch::Patch;
use tollgate_core::directory::{Compiled, Loader, Progress, bucket};
use tollgate_core::key::KeyHash;
use tollgate_core::state::{Memory, Store as _};

use crate::tree::Tree;

/// Whether the bytes are read as changes.
///
/// # Panics
/// When core reads them otherwise than they stand there, or makes something else of them.
pub fn check(data: &[u8]) -> bool {
    let tree: Option<Tree> = serde_json::from_slice(data).ok();
    let asked = tree.as_ref().and_then(Asked::of);
    let read = read(data, usize::MAX);
    let slowly = self::read(data, 1);
    assert_eq!(
        read.as_ref().map(Delta::after),
        slowly.as_ref().map(Delta::after),
        "it depends on the size of the steps"
    );
    assert_eq!(asked.is_some(), read.is_some(), "of {tree:?}");
    let (Some(asked), Some(delta)) = (asked, read) else {
        return false;
    };
    assert_eq!(delta.after(), asked.after);
    makes_its_document(delta, &asked);
    true
}

fn read(data: &[u8], keys: usize) -> Option<Delta> {
    let mut loader = DeltaLoader::new(data.to_vec());
    loop {
        loader = match loader.step(keys) {
            Progress::More(loader) => loader,
            Progress::Done(delta) => return Some(delta),
            Progress::Refused(errors) => {
                assert!(!errors.is_empty(), "refused, and nothing is wrong");
                return None;
            }
        };
    }
}

/// What a list of changes says.
struct Asked {
    after: String,
    orgs: Vec<(String, Tree)>,
    keys: Vec<Tree>,
    traffic: Option<Tree>,
    budgets: Option<Tree>,
    /// In lower case.
    removed: BTreeSet<String>,
}

impl Asked {
    /// `None` where it is to be refused.
    fn of(tree: &Tree) -> Option<Self> {
        const MEMBERS: [&str; 7] = [
            "version",
            "after",
            "orgs",
            "keys",
            "removed_keys",
            "traffic",
            "budgets",
        ];
        let Tree::Object(members) = tree else { return None };
        let known = members.iter().all(|(name, _)| MEMBERS.contains(&name.as_str()));
        let given = |name: &str| {
            members
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value)
        };
        if !known || tree.repeats_itself() || !matches!(given("version")?, Tree::Whole(1) | Tree::Real(1.0)) {
            return None;
        }
        let Tree::Text(after) = given("after")? else {
            return None;
        };
        let orgs = match given("orgs") {
            None => Vec::new(),
            Some(orgs @ Tree::Object(members)) if !orgs.repeats_itself() => members.clone(),
            Some(_) => return None,
        };
        let map = |name: &str| match given(name) {
            map @ (None | Some(Tree::Object(_))) => Some(map.cloned()),
            Some(_) => None,
        };
        let (traffic, budgets) = (map("traffic")?, map("budgets")?);
        let keys = list(given("keys"))?;
        let removed = list(given("removed_keys"))?;
        let hashes: Option<BTreeSet<String>> = removed.iter().map(hash).collect();
        let asked = Self {
            after: after.clone(),
            orgs: orgs.into_iter().filter(|(_, org)| *org != Tree::Null).collect(),
            keys: keys.to_vec(),
            traffic,
            budgets,
            removed: hashes.filter(|hashes| hashes.len() == removed.len())?,
        };
        // Whose the keys are is not known here: any tenant will do.
        let owned: Vec<Tree> = keys.iter().map(|key| owned(key.clone())).collect();
        let tenants = [(
            "o".to_owned(),
            object([("projects", object([("p", object([]))]))]),
        )];
        asked.document(&asked.orgs, &[])?;
        asked.document(&tenants, &owned)?;
        let both = keys.iter().filter_map(|key| hash(key.member("sha256")));
        let both = both.filter(|hash| asked.removed.contains(hash)).count();
        (both == 0).then_some(asked)
    }

    /// A whole document with these organizations and keys; `None` where that is refused.
    fn document(&self, orgs: &[(String, Tree)], keys: &[Tree]) -> Option<Compiled> {
        let mut members = vec![
            ("version".to_owned(), Tree::Whole(1)),
            ("orgs".to_owned(), Tree::Object(orgs.to_vec())),
            ("keys".to_owned(), Tree::List(keys.to_vec())),
        ];
        let rest = [("traffic", &self.traffic), ("budgets", &self.budgets)];
        let rest = rest
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        members.extend(rest);
        Loader::load(Tree::Object(members).json().into_bytes()).ok()
    }
}

fn list(value: Option<&Tree>) -> Option<&[Tree]> {
    match value {
        None => Some(&[]),
        Some(Tree::List(items)) => Some(items),
        Some(_) => None,
    }
}

/// 64 hexadecimal digits, in lower case.
fn hash(value: &Tree) -> Option<String> {
    match value {
        Tree::Text(text) if text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            Some(text.to_ascii_lowercase())
        }
        _ => None,
    }
}

fn object<const N: usize>(members: [(&str, Tree); N]) -> Tree {
    Tree::Object(
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

/// The row of a key of a tenant that there is.
fn owned(mut key: Tree) -> Tree {
    if let Tree::Object(members) = &mut key {
        for (name, value) in members {
            match (name.as_str(), &*value) {
                ("org", Tree::Text(_)) => *value = Tree::Text("o".to_owned()),
                ("project", Tree::Text(_)) => *value = Tree::Text("p".to_owned()),
                _ => {}
            }
        }
    }
    key
}

/// Made to an empty directory, the changes are taken where the whole document of them is, and each key has its record.
fn makes_its_document(delta: Delta, asked: &Asked) {
    let whole = asked.document(&asked.orgs, &asked.keys);
    let mut store = Memory::default();
    let mut patch = Patch::new(delta, Default::default(), true);
    let taken = loop {
        patch = match patch.step(&mut store) {
            Ok(Progress::More(patch)) => patch,
            Ok(Progress::Done(_)) => break true,
            Ok(Progress::Refused(_)) => break false,
            // Memory serves always; if not, the changes are not taken, and that shows.
            Err(_) => break false,
        };
    };
    assert_eq!(
        taken,
        whole.is_some(),
        "changes to nothing, and the whole of them"
    );
    let Some(whole) = whole else { return };
    let hashes: Vec<String> = asked
        .keys
        .iter()
        .filter_map(|key| hash(key.member("sha256")))
        .collect();
    assert_eq!(whole.keys(), hashes.len());
    for text in hashes.iter().chain(&asked.removed) {
        let hash = KeyHash::parse(text);
        let stored = hash.and_then(|hash| store.get(&bucket::store_key(bucket::of(&hash))).ok()?);
        let record = hash.and_then(|hash| bucket::find(&stored.as_ref()?.0, &hash));
        assert_eq!(record, hash.and_then(|hash| whole.record(&hash)), "{text}");
        assert_eq!(record.is_some(), !asked.removed.contains(text), "{text}");
    }
}
