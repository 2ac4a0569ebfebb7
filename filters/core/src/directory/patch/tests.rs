//! Random directories, and the changes that lead from one to the next, found by comparing them here.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::directory::delta::DeltaLoader;
use crate::directory::publication::Publication;
use crate::directory::{Loader, OnStale, Source};
use crate::key::ApiKey;
use crate::state::Keyspace;
use crate::state::fake::Worker;

/// Keys that there may be.
const KEYS: u64 = 12;

fn key(n: u64) -> ApiKey {
    let mut random = [7; 40];
    random[..8].copy_from_slice(&n.to_be_bytes());
    ApiKey::mint(&random)
}

/// Of three organizations with up to three projects each, and of twelve keys of theirs.
fn documents() -> impl Strategy<Value = Value> {
    let project = proptest::option::of(any::<bool>());
    let org = proptest::option::weighted(0.7, (any::<bool>(), [project.clone(), project.clone(), project]));
    let row = proptest::option::of((0..3_usize, proptest::option::of(0..3_usize), any::<bool>()));
    let rows = proptest::collection::vec(row, KEYS as usize);
    let traffic = prop_oneof![
        Just(json!({})),
        Just(json!({"drained": ["a"]})),
        Just(json!({"shed": [{"tier": "default", "model": "m"}]})),
    ];
    let budgets = prop_oneof![
        Just(json!({})),
        Just(json!({"b": {"scope": {"org": "o1"}, "unit": "tokens"}})),
        Just(json!({"b": {"scope": {"project": "o1/p1"}, "unit": "tokens"}})),
    ];
    let parts = ([org.clone(), org.clone(), org], rows, traffic, budgets);
    parts.prop_map(|(orgs, rows, traffic, budgets)| {
        let mut document = document(&orgs, &rows);
        document["traffic"] = traffic;
        document["budgets"] = budgets;
        document
    })
}

type Org = Option<(bool, [Option<bool>; 3])>;
type Row = Option<(usize, Option<usize>, bool)>;

fn document(orgs: &[Org; 3], rows: &[Row]) -> Value {
    let status = |frozen: bool| if frozen { "suspended" } else { "active" };
    // Who is frozen has a bound and a cap of its own too.
    let limits = |frozen: bool| match frozen {
        true => json!({"key-rpm": {"rate": "5/minute"}}),
        false => json!({}),
    };
    let mut given = Map::new();
    for (at, org) in orgs.iter().enumerate() {
        let Some((frozen, projects)) = org else { continue };
        let projects: Map<String, Value> = projects
            .iter()
            .enumerate()
            .filter_map(|(at, frozen)| Some((format!("p{at}"), json!({"status": status((*frozen)?)}))))
            .collect();
        given.insert(
            format!("o{at}"),
            json!({"status": status(*frozen), "models": ["*"], "projects": projects, "limits": limits(*frozen)}),
        );
    }
    let mut keys = Vec::new();
    for (n, row) in (0..).zip(rows) {
        let Some((org, project, frozen)) = *row else {
            continue;
        };
        let org = format!("o{org}");
        let project = project.map(|project| format!("p{project}"));
        let Some(known) = given.get(&org) else { continue };
        if project
            .as_ref()
            .is_some_and(|project| known["projects"].get(project).is_none())
        {
            continue;
        }
        let key = key(n);
        let mut row =
            json!({"id": key.id(), "sha256": key.sha256_hex(), "org": org, "status": status(frozen)});
        if frozen {
            row["limits"] = limits(frozen);
            row["cap"] = json!({"rate": "3/second"});
        }
        if let Some(project) = project {
            row["project"] = json!(project);
        }
        keys.push(row);
    }
    json!({"version": 1, "orgs": given, "keys": keys})
}

/// What differs between two documents.
fn difference(before: &Value, after: &Value) -> Value {
    let orgs = |document: &Value| document["orgs"].as_object().unwrap().clone();
    let rows = |document: &Value| -> BTreeMap<String, Value> {
        let rows = document["keys"].as_array().unwrap().iter();
        rows.map(|row| (row["sha256"].as_str().unwrap().to_owned(), row.clone()))
            .collect()
    };
    let (old, new) = (orgs(before), orgs(after));
    let mut changed: Map<String, Value> = new
        .iter()
        .filter(|(name, org)| old.get(*name) != Some(org))
        .map(|(name, org)| (name.clone(), org.clone()))
        .collect();
    for gone in old.keys().filter(|name| !new.contains_key(*name)) {
        changed.insert(gone.clone(), Value::Null);
    }
    let (old, new) = (rows(before), rows(after));
    let keys: Vec<&Value> = new
        .iter()
        .filter(|(hash, row)| old.get(*hash) != Some(row))
        .map(|(_, row)| row)
        .collect();
    let removed: Vec<&String> = old.keys().filter(|hash| !new.contains_key(*hash)).collect();
    let mut changes =
        json!({"version": 1, "after": "v", "orgs": changed, "keys": keys, "removed_keys": removed});
    for member in ["traffic", "budgets"] {
        if before[member] != after[member] {
            changes[member] = after[member].clone();
        }
    }
    changes
}

/// Shares a whole document.
fn publish(document: &Value, store: &mut impl Store) -> Result<Census, StoreError> {
    let directory = Loader::load(document.to_string().into_bytes()).unwrap();
    let mut publication = Publication::new(directory);
    while !publication.step(store)? {}
    publication.announce(0, store).map(|(_, census)| census)
}

fn read(changes: &Value) -> Delta {
    let mut loader = DeltaLoader::new(changes.to_string().into_bytes());
    loop {
        loader = match loader.step(1) {
            Progress::More(loader) => loader,
            Progress::Done(delta) => return delta,
            Progress::Refused(errors) => panic!("{errors:?}"),
        };
    }
}

/// Makes changes to what is shared.
fn patch(changes: &Value, census: Census, store: &mut impl Store) -> Result<Census, Vec<String>> {
    let failed = |error: StoreError| vec![format!("{error:?}")];
    let mut patch = Patch::new(read(changes), census, true);
    loop {
        patch = match patch.step(store).map_err(failed)? {
            Progress::More(patch) => patch,
            Progress::Done(patch) => {
                let (_, census) = patch.announce(0, store).map_err(failed)?;
                return Ok(census);
            }
            Progress::Refused(errors) => return Err(errors.iter().map(ToString::to_string).collect()),
        };
    }
}

/// What workers find, but for how often it changed.
fn shared(worker: &Worker) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut filled = worker.filled();
    filled.retain(|key, value| !key.starts_with(Keyspace::DIRECTORY.prefix()) && value.as_slice() != [0]);
    filled
}

/// A store whose `n`th write fails, and all that follow.
struct Breaking(Worker, usize);

impl Store for Breaking {
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError> {
        self.0.get(key)
    }

    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError> {
        self.0.swap(key, value, version)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.1 = self.1.checked_sub(1).ok_or(StoreError::Failed)?;
        self.0.put(key, value)
    }
}

fn lookup(worker: &mut Worker) -> crate::directory::lookup::Lookup {
    let source = Source::Http {
        max_stale: u64::MAX,
        on_stale: OnStale::Deny,
    };
    crate::directory::lookup::Lookup::new(std::sync::Arc::new(source), worker)
}

/// Whose each key is, and whether it is frozen; `None` for one that nobody finds.
fn found(worker: &mut Worker) -> Vec<Option<String>> {
    let mut lookup = lookup(worker);
    let mut find = |n: u64| {
        let key = key(n);
        let bearer = format!("Bearer {}", key.reveal());
        let request = crate::request::Request::read([(&b"authorization"[..], bearer.as_bytes())].into_iter());
        let found = lookup
            .key(crate::auth::presented(&request).unwrap(), worker)
            .unwrap()?;
        let tenant = &found.tenant;
        Some(format!(
            "{} {:?} {:?} {} {} {:?} {:?}",
            tenant.org,
            tenant.project,
            found.status,
            tenant.org_suspended,
            tenant.project_suspended,
            found.identity().unwrap().withheld,
            found.identity().unwrap().budgets
        ))
    };
    (0..KEYS).map(&mut find).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn changes_lead_where_the_whole_document_does(documents in proptest::collection::vec(documents(), 2..6)) {
        let mut worker = Worker::at(0);
        let mut before = &documents[0];
        let mut census = publish(before, &mut worker).unwrap();
        for document in &documents[1..] {
            census = patch(&difference(before, document), census, &mut worker).unwrap();
            before = document;
            let mut other = Worker::at(0);
            let whole = publish(document, &mut other).unwrap();
            prop_assert_eq!(shared(&worker), shared(&other));
            prop_assert_eq!(found(&mut worker), found(&mut other));
            prop_assert_eq!((census.keys(), census.orgs()), (whole.keys(), whole.orgs()));
            let keys = |worker: &mut Worker| Published::read(worker).unwrap().keys;
            prop_assert_eq!(keys(&mut worker), keys(&mut other));
        }
    }

    /// A server that does not list the keys of tenants that are gone: who is found is the same.
    #[test]
    fn keys_of_tenants_that_are_gone_need_not_be_listed(documents in proptest::collection::vec(documents(), 2..8)) {
        let mut worker = Worker::at(0);
        let mut before = &documents[0];
        let mut census = publish(before, &mut worker).unwrap();
        for document in &documents[1..] {
            let mut changes = difference(before, document);
            let is_gone = |hash: &Value| {
                let row = before["keys"].as_array().unwrap().iter().find(|row| row["sha256"] == *hash).unwrap();
                let org = &document["orgs"][row["org"].as_str().unwrap()];
                let project = row["project"].as_str();
                org.is_null() || project.is_some_and(|project| org["projects"][project].is_null())
            };
            changes["removed_keys"].as_array_mut().unwrap().retain(|hash| !is_gone(hash));
            census = match patch(&changes, census, &mut worker) {
                Ok(census) => census,
                Err(refused) => {
                    prop_assert!(refused.iter().all(|said| said.contains("never taken out")), "{refused:?}");
                    publish(document, &mut worker).unwrap()
                }
            };
            before = document;
            let mut other = Worker::at(0);
            let whole = publish(document, &mut other).unwrap();
            prop_assert_eq!(found(&mut worker), found(&mut other));
            prop_assert_eq!((census.keys(), census.orgs()), (whole.keys(), whole.orgs()));
        }
    }

    /// Wherever the store fails, the next whole document brings everything to one state.
    #[test]
    fn what_ends_half_way_is_mended(documents in [documents(), documents(), documents()], writes in 0..20_usize) {
        let [before, after, next] = documents;
        let mut worker = Worker::at(0);
        let census = publish(&before, &mut worker).unwrap();
        let mut breaking = Breaking(worker.clone(), writes);
        let _ = patch(&difference(&before, &after), census, &mut breaking);
        publish(&next, &mut worker).unwrap();
        let mut other = Worker::at(0);
        publish(&next, &mut other).unwrap();
        prop_assert_eq!(shared(&worker), shared(&other));
    }

    #[test]
    fn no_changes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = DeltaLoader::new(bytes).step(usize::MAX);
    }

    /// Good changes with a byte changed are read only if they are JSON.
    #[test]
    fn no_damage_slips_through(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let row = json!({"id": key(1).id(), "sha256": key(1).sha256_hex(), "org": "o0"});
        let mut text = json!({
            "version": 1, "after": "v", "orgs": {"o0": {"projects": {"p0": {}}}, "o1": null}, "keys": [row],
            "removed_keys": [key(2).sha256_hex()],
        }).to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        if matches!(DeltaLoader::new(text.clone()).step(usize::MAX), Progress::Done(_)) {
            prop_assert!(serde_json::from_slice::<Value>(&text).is_ok());
        }
    }
}

fn row(n: u64, org: &str) -> Value {
    json!({"id": key(n).id(), "sha256": key(n).sha256_hex(), "org": org})
}

/// An organization may go without its keys being listed: they are found no more, and not again either.
#[test]
fn keys_that_their_organization_left_behind_do_not_come_back_with_its_name() {
    let mut worker = Worker::at(0);
    let orgs = json!({"acme": {"projects": {"search": {}}}, "globex": {}});
    let mut of_project = row(2, "acme");
    of_project["project"] = json!("search");
    let before = json!({"version": 1, "orgs": orgs, "keys": [row(1, "acme"), of_project, row(3, "globex")]});
    let census = publish(&before, &mut worker).unwrap();
    let gone = json!({"version": 1, "after": "v", "orgs": {"acme": null}});
    let census = patch(&gone, census, &mut worker).unwrap();
    assert_eq!((census.keys(), census.orgs()), (1, 1));
    assert_eq!(Published::read(&mut worker).unwrap().keys, 1);
    let is_found = |worker: &mut Worker| found(worker).iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(is_found(&mut worker)[1..4], [false, false, true]);
    // Its keys are taken out belatedly, and then its name is free.
    let removed = [key(1).sha256_hex(), key(2).sha256_hex()];
    let taken_out = json!({"version": 1, "after": "v", "removed_keys": removed});
    let back = json!({"version": 1, "after": "v", "orgs": {"acme": {"projects": {"search": {}}}}});
    let again = publish(&before, &mut worker).unwrap();
    let again = patch(&gone, again, &mut worker).unwrap();
    let again = patch(&taken_out, again, &mut worker).unwrap();
    let again = patch(&back, again, &mut worker).unwrap();
    assert_eq!((again.keys(), again.orgs()), (1, 2));
    // Or else it is not.
    publish(&before, &mut worker).unwrap();
    patch(&gone, publish(&before, &mut worker).unwrap(), &mut worker).unwrap();
    let census = {
        let mut other = Worker::at(0);
        let census = publish(&before, &mut other).unwrap();
        patch(&gone, census, &mut other).unwrap()
    };
    let refused = patch(&back, census, &mut worker).unwrap_err();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[0].contains("keys of the one that was gone were never taken out"));
    assert_eq!(is_found(&mut worker)[1..4], [false, false, true]);
}

/// A change of one key among many reads and writes a few values.
#[test]
fn one_change_costs_a_few_values() {
    let mut worker = Worker::at(0);
    let rows: Vec<Value> = (0..2_000).map(|n| row(n, "acme")).collect();
    let document = json!({"version": 1, "orgs": {"acme": {}}, "keys": rows});
    let census = publish(&document, &mut worker).unwrap();
    let before = worker.calls();
    let changes = json!({"version": 1, "after": "v", "keys": [row(9_999, "acme")], "removed_keys": [key(1).sha256_hex()]});
    let census = patch(&changes, census, &mut worker).unwrap();
    assert_eq!(census.keys(), 2_000);
    assert!(worker.calls() - before < 20, "{}", worker.calls() - before);
}

/// A name whose internal id is that of another tenant takes nobody's place.
#[test]
fn a_name_that_shares_an_id_is_refused() {
    let mut worker = Worker::at(0);
    let document = json!({"version": 1, "orgs": {"acme": {}}, "keys": []});
    let census = publish(&document, &mut worker).unwrap();
    // As if `globex` had the id of another.
    let id = bucket::profile_store_key(ProfileId::of("globex", None));
    let acme = worker.get(&bucket::profile_store_key(ProfileId::of("acme", None)));
    let (acme, _) = acme.unwrap().unwrap();
    worker.put(&id, &acme).unwrap();
    let changes = json!({"version": 1, "after": "v", "orgs": {"globex": {}}});
    let refused = patch(&changes, census, &mut worker).unwrap_err();
    assert_eq!(
        refused,
        ["orgs.globex: shares an internal id with another one; rename it"]
    );
    let census = publish(&document, &mut worker).unwrap();
    worker.put(&id, &acme).unwrap();
    let changes = json!({"version": 1, "after": "v", "keys": [row(1, "globex")]});
    let refused = patch(&changes, census, &mut worker).unwrap_err();
    assert!(
        refused[0].starts_with("keys[0].org: found `globex`"),
        "{refused:?}"
    );
}

#[test]
fn a_bucket_that_cannot_be_read_is_not_changed() {
    let mut worker = Worker::at(0);
    let document = json!({"version": 1, "orgs": {"acme": {}}, "keys": [row(1, "acme")]});
    let census = publish(&document, &mut worker).unwrap();
    let number = bucket::of(&KeyHash::parse(&key(1).sha256_hex()).unwrap());
    worker.put(&bucket::store_key(number), b"what?").unwrap();
    let changes = json!({"version": 1, "after": "v", "removed_keys": [key(1).sha256_hex()]});
    assert_eq!(patch(&changes, census, &mut worker).unwrap_err(), ["Failed"]);
}
