//! Documents in, judgements out; and a plain model of the directory that the compiled one must agree with.

use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::auth::{Refusal, authorize};
use crate::bound::{Bound, CAP, Overrides};
use crate::budget::Budgets;
use crate::endpoint::{Scope, Scopes};
use crate::gcra::Quota;
use crate::identity::Identity;
use crate::key::{ApiKey, KeyHash};
use crate::request::Request;
use crate::state::fake::{Told, Worker};
use crate::traffic::{Traffic, Withheld};

fn key(n: u64) -> ApiKey {
    let mut random = [0; 40];
    random[..8].copy_from_slice(&n.to_be_bytes());
    random[8..16].copy_from_slice(&n.to_be_bytes());
    ApiKey::mint(&random)
}

fn hash(key: &ApiKey) -> KeyHash {
    KeyHash::of(key.reveal().as_bytes())
}

fn row(key: &ApiKey, more: Value) -> Value {
    let mut row = json!({"id": key.id(), "sha256": key.sha256_hex(), "org": "acme"});
    row.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    row
}

fn document(keys: &[Value]) -> Value {
    json!({
        "version": 1.0,
        "orgs": {
            "acme": {"tier": "pro", "models": ["llama-*"], "labels": {"region": "eu", "cost_center": "1"}, "projects": {
                "search": {"models": ["llama-70b"], "labels": {"cost_center": "42"}},
                "frozen": {"status": "suspended"},
            }},
            "frozen": {"status": "suspended", "projects": {"p": {}}},
        },
        "keys": keys,
    })
}

fn load(document: &Value) -> Result<Compiled, Vec<String>> {
    Loader::load(document.to_string().into_bytes())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn errors(document: &Value) -> Vec<String> {
    load(document).map(|_| ()).unwrap_err()
}

fn find(directory: &Compiled, key: &ApiKey) -> Option<Credential> {
    let tenant = |id| {
        let profile = directory.profile(id);
        let tenant = profile
            .and_then(|profile| Tenant::from_record(profile, directory.traffic(), directory.budgets()));
        Ok::<_, ()>(tenant.map(Rc::new))
    };
    Credential::from_record(directory.record(&hash(key))?, directory.budgets(), tenant).unwrap()
}

fn identity(credential: &Credential) -> Identity {
    Identity::decode(&credential.state).unwrap()
}

fn judge(credential: &Credential, headers: &[(&str, &str)], now: i64, address: &str) -> Result<(), Refusal> {
    let request = Request::read(headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
    let mut host = Worker::at(now as u64 * 1_000_000_000);
    host.tell(Told {
        client: address.parse().ok(),
        ..Told::default()
    });
    authorize(credential, &request, || "masked".into(), &mut host)
}

const CHAT: &[(&str, &str)] = &[(":path", "/v1/chat/completions")];

#[test]
fn a_key_inherits_from_project_and_organization() {
    let key = key(1);
    let rows = [row(
        &key,
        json!({"project": "search", "scopes": ["chat"], "models": ["llama-70b"], "name": "ci"}),
    )];
    let found = find(&load(&document(&rows)).unwrap(), &key).unwrap();
    let identity = identity(&found);
    assert_eq!(
        (identity.org.as_str(), identity.project.as_deref()),
        ("acme", Some("search"))
    );
    assert_eq!(identity.tier, "pro");
    assert_eq!(identity.models.org, ["llama-*"]);
    assert_eq!(
        identity.models.project.as_deref(),
        Some(["llama-70b".to_owned()].as_slice())
    );
    let labels = [
        ("cost_center".into(), "42".into()),
        ("region".into(), "eu".into()),
    ];
    assert_eq!(identity.labels, labels);
    assert_eq!(
        (identity.key_id.as_str(), identity.scopes),
        (key.id(), Scopes::of(&[Scope::Chat]))
    );
    for cut in 0..found.state.len() {
        assert_eq!(Identity::decode(&found.state[..cut]), None);
    }
}

/// What replaces bounds of limits, and caps, are told apart by whose they are.
#[test]
fn bounds_travel_with_the_identity() {
    let (plain, special) = (key(1), key(2));
    let rows = [
        row(&plain, json!({"project": "search"})),
        row(
            &special,
            json!({"limits": {"key-rpm": {"rate": "5000/minute", "burst": 9000}}, "cap": {"rate": "3/second"}}),
        ),
    ];
    let mut document = document(&rows);
    document["orgs"]["acme"]["limits"] = json!({"org-concurrent": {"max": 40}});
    let directory = load(&document).unwrap();
    let overrides = |key| identity(&find(&directory, key).unwrap()).overrides;
    let rate = |rate: &str, burst| Bound::Rate(Quota::new(rate.parse().unwrap(), burst).unwrap());
    for key in [&plain, &special] {
        let org = overrides(key).org.unwrap();
        assert_eq!(org.of("org-concurrent"), Some(Bound::Max(40)));
        assert_eq!(org.of("key-rpm").or(org.of(CAP)), None);
    }
    assert_eq!(overrides(&plain).key, None);
    let own = overrides(&special).key.unwrap();
    assert_eq!(own.of("key-rpm"), Some(rate("5000/minute", 9_000)));
    assert_eq!(own.of(CAP), Some(rate("3/second", 3)));
}

/// A budget covers whom its scope names.
#[test]
fn budgets_travel_with_the_identity() {
    let (one, other) = (key(1), key(2));
    let rows = [row(&one, json!({})), row(&other, json!({"project": "search"}))];
    let mut document = document(&rows);
    let whole = [
        ("of-org", json!({"org": "acme"})),
        ("of-key", json!({"key": one.id()})),
        ("of-pool", json!({"pool": ["acme", "globex"]})),
        (
            "acme:of-label",
            json!({"label": {"name": "cost_center", "value": "1"}}),
        ),
        ("of-others", json!({"org": "globex"})),
    ];
    for (id, scope) in &whole {
        document["budgets"][id] = json!({"scope": scope, "unit": "tokens"});
    }
    let budgets = |document: &Value, key: &ApiKey| {
        let found = identity(&find(&load(document).unwrap(), key).unwrap()).budgets;
        found.into_iter().map(|budget| budget.id).collect::<Vec<_>>()
    };
    assert_eq!(
        budgets(&document, &one),
        ["of-org", "of-pool", "acme:of-label", "of-key"]
    );
    // Labels are the organization's, whatever its projects have; and a key's budget follows its rotation.
    assert_eq!(budgets(&document, &other), ["of-org", "of-pool", "acme:of-label"]);
    document["keys"][1]["rotation_root"] = json!(one.id());
    assert_eq!(
        budgets(&document, &other),
        ["of-org", "of-pool", "acme:of-label", "of-key"]
    );
    document["budgets"] = json!({});
    assert_eq!(budgets(&document, &one), [""; 0]);

    document["budgets"] = json!({
        "a b": {"scope": {"org": "acme"}, "unit": "requests"},
        "c": {"scope": {"project": "acme"}, "unit": "requests", "ends_at": "tomorrow"},
    });
    assert_eq!(
        errors(&document),
        [
            "budgets.a b: found `a b`, expected 1 to 64 characters of `A-Z a-z 0-9 . _ -`, perhaps behind `ORG:`",
            "budgets.c.ends_at: found `tomorrow`, expected a time by RFC 3339",
            "budgets.c.scope.project: found `acme`, expected `org/project`",
        ]
    );
}

/// What is out of use concerns all callers, or those of a tier.
#[test]
fn what_is_out_of_use_travels_with_the_identity() {
    let key = key(1);
    let mut document = document(&[row(&key, json!({}))]);
    document["traffic"] =
        json!({"drained": ["gpu-a"], "shed": [{"tier": "pro", "model": "llama-*"}, {"tier": "free"}]});
    let withheld = |document: &Value| identity(&find(&load(document).unwrap(), &key).unwrap()).withheld;
    let pro = withheld(&document);
    assert!(pro.has_target("gpu-a") && pro.has_model("llama-70b") && !pro.has_model("qwen"));
    document["orgs"]["acme"]["tier"] = json!("free");
    let free = withheld(&document);
    assert!(free.has_target("gpu-a") && free.has_model("llama-70b") && free.has_model("qwen"));
    document["traffic"] = json!({});
    assert_eq!(withheld(&document), Withheld::NOTHING);

    document["traffic"] =
        json!({"drained": ["gpu-*", "a b"], "shed": [{"tier": "a b", "model": ""}, {"model": "m"}]});
    assert_eq!(errors(&document).len(), 1, "a tier is missing");
    document["traffic"]["shed"] = json!([{"tier": "a b", "model": ""}]);
    let pattern = "expected a model name or pattern: 1 to 128 characters of `A-Z a-z 0-9 . _ - / : @ +`, `*` for any run";
    let cluster = "expected the name of a cluster: 1 to 128 characters of `A-Z a-z 0-9 . _ - / : @ +`";
    assert_eq!(
        errors(&document),
        [
            format!("traffic.drained[0]: found `gpu-*`, {cluster}"),
            format!("traffic.drained[1]: found `a b`, {cluster}"),
            "traffic.shed[0].tier: found `a b`, expected 1 to 64 characters of `A-Z a-z 0-9 . _ -`".into(),
            format!("traffic.shed[0].model: found ``, {pattern}"),
        ]
    );
    document["traffic"] = json!({"drained": vec!["a"; 33]});
    assert_eq!(
        errors(&document),
        ["traffic.drained: found `33`, expected at most 32 rows"]
    );
}

/// Whoever has none pays one byte for it in the key's record, and one in the tenant's.
#[test]
fn no_bounds_are_a_byte() {
    let key = key(1);
    let directory = load(&document(&[row(&key, json!({}))])).unwrap();
    let credential = find(&directory, &key).unwrap();
    assert_eq!(identity(&credential).overrides, Overrides::NONE);
    let record = directory.record(&hash(&key)).unwrap();
    assert_eq!(record.last(), Some(&0));
    assert_eq!(credential.state.last(), Some(&0));
}

#[test]
fn wrong_bounds_are_said_with_their_path() {
    let key = key(1);
    let mut document = document(&[row(
        &key,
        json!({"limits": {"key-rpm": {"max": 0}, "a b": {"max": 1}}, "cap": {"rate": "x"}}),
    )]);
    document["orgs"]["acme"]["limits"] = json!({"org-rpm": {"rate": "60"}, "cap": {"max": 1}});
    let rate = "a rate such as `30/second`, `30/minute`, `30/hour` or `30/day`, from 1 to 1000000000000";
    assert_eq!(
        errors(&document),
        [
            "orgs.acme.limits.cap: is no limit of a table: it is set by the member `cap` beside `limits`"
                .to_owned(),
            format!("orgs.acme.limits.org-rpm.rate: found `60`, expected {rate}"),
            "keys[0].limits.a b: found `a b`, expected 1 to 40 characters of `a-z 0-9 -`".into(),
            "keys[0].limits.key-rpm.max: found `0`, expected a whole number from 1 to 4294967295".into(),
            format!("keys[0].cap.rate: found `x`, expected {rate}"),
        ]
    );
    document["orgs"]["acme"]["limits"] = json!({});
    document["orgs"]["acme"]["cap"] = json!({"rate": "1/second", "max": 1});
    assert_eq!(
        errors(&document)[0],
        "orgs.acme.cap.max: unknown field `max`, expected `rate` or `burst`"
    );
}

#[test]
fn nothing_is_granted_by_default() {
    let key = key(1);
    let mut document = document(&[row(&key, json!({}))]);
    document["orgs"]["acme"].as_object_mut().unwrap().remove("models");
    let models = identity(&find(&load(&document).unwrap(), &key).unwrap()).models;
    assert!(models.org.is_empty() && models.project.is_none() && models.key.is_none());
}

#[test]
fn a_freeze_above_a_key_freezes_it() {
    let keys: Vec<_> = (0..4).map(key).collect();
    let rows = [
        row(&keys[0], json!({"org": "frozen"})),
        row(&keys[1], json!({"org": "frozen", "project": "p"})),
        row(&keys[2], json!({"project": "frozen"})),
        row(&keys[3], json!({"status": "suspended"})),
    ];
    let directory = load(&document(&rows)).unwrap();
    let refusals: Vec<_> = keys
        .iter()
        .map(|key| judge(&find(&directory, key).unwrap(), CHAT, 0, "::1").unwrap_err())
        .collect();
    use Refusal::{KeySuspended, OrganizationSuspended, ProjectSuspended};
    assert_eq!(
        refusals,
        [
            OrganizationSuspended,
            OrganizationSuspended,
            ProjectSuspended,
            KeySuspended
        ]
    );
}

#[test]
fn a_key_has_its_time_its_place_and_its_endpoints() {
    let key = key(1);
    let rows = [row(
        &key,
        json!({"not_before": "1970-01-01T00:01:40Z", "expires_at": "1970-01-01T01:03:20+01:00",
               "networks": ["10.0.0.0/8", "2001:db8::/32"], "scopes": ["chat"]}),
    )];
    let credential = find(&load(&document(&rows)).unwrap(), &key).unwrap();
    let at = |now| judge(&credential, CHAT, now, "10.1.2.3");
    assert_eq!(at(99), Err(Refusal::NotYetValid("masked".into())));
    assert_eq!((at(100), at(199)), (Ok(()), Ok(())));
    assert_eq!(at(200), Err(Refusal::Expired("masked".into())));
    let from = |address| judge(&credential, CHAT, 150, address);
    assert_eq!((from("::ffff:10.9.9.9"), from("2001:db8:1::1")), (Ok(()), Ok(())));
    for address in ["11.0.0.1", "2001:db9::1", "pipe"] {
        assert_eq!(from(address), Err(Refusal::AddressNotAllowed), "{address}");
    }
    let to = |path| judge(&credential, &[(":path", path)], 150, "10.1.2.3");
    assert_eq!(
        to("/v1/embeddings"),
        Err(Refusal::InsufficientScope("embeddings"))
    );
    assert_eq!(to("/metrics"), Err(Refusal::InsufficientScope("")));
}

#[test]
fn what_is_wrong_is_said_with_its_path() {
    let key = key(1);
    let bad = [
        row(&key, json!({"org": "nobody"})),
        row(&key, json!({"project": "nothing"})),
        row(
            &key,
            json!({"expires_at": "soon", "networks": ["10.0.0.1/8", "10.0.0.0/8", "x"]}),
        ),
        row(&key, json!({"scopes": ["chat", "chatting"]})),
        row(&key, json!({"sha256": key.reveal()})),
        row(&key, json!({"expires": "2026-01-01T00:00:00Z"})),
        row(&key, json!({"models": ["llama 70b"], "scopes": []})),
        row(&key, json!({"id": "a\r\nx-tollgate-org: globex"})),
        json!(7),
    ];
    let said = errors(&document(&bad));
    let network = "a network such as `10.0.0.0/8` or `2001:db8::/32`, with no bits set behind its length";
    assert_eq!(
        said,
        [
            "keys[0].org: found `nobody`, expected an organization under `orgs`".to_owned(),
            "keys[1].project: found `nothing`, expected a project under `orgs.acme.projects`".into(),
            "keys[2].expires_at: found `soon`, expected a time such as `2026-12-31T23:59:59Z` (RFC 3339)".into(),
            format!("keys[2].networks[0]: found `10.0.0.1/8`, expected {network}"),
            format!("keys[2].networks[2]: found `x`, expected {network}"),
            "keys[3].scopes[1]: unknown variant `chatting`, expected one of `chat`, `embeddings`, `moderations`, \
             `images`, `audio`, `models`"
                .into(),
            "keys[4].sha256: expected the SHA-256 of the key as 64 hexadecimal digits".into(),
            "keys[5].expires: unknown field `expires`, expected one of `id`, `sha256`, `org`, `project`, `rotation_root`, `name`, \
             `status`, `scopes`, `models`, `not_before`, `expires_at`, `networks`, `limits`, `cap`"
                .into(),
            "keys[6].models[0]: found `llama 70b`, expected a model name or pattern: 1 to 128 characters of \
             `A-Z a-z 0-9 . _ - / : @ +`, `*` for any run"
                .into(),
            "keys[6].scopes: is empty, so the key is good for nothing; leave it out for all, or set \
             `status: suspended`"
                .into(),
            "keys[7].id: found `a\\r\\nx-tollgate-org: globex`, expected 1 to 64 characters of `A-Z a-z 0-9 . _ -`".into(),
            "keys[8]: invalid type: integer `7`, expected a key".into(),
        ]
    );
    assert!(!said.concat().contains(key.reveal()));
}

#[test]
fn organizations_are_checked_too() {
    let mut document = document(&[]);
    document["orgs"]["a b"] = json!({"models": [""], "projects": {"p/q": {"labels": {"x": "line\nbreak"}}}});
    assert_eq!(errors(&document).len(), 4);
    document["orgs"] = json!({"acme": {"teir": "pro"}});
    assert_eq!(
        errors(&document),
        [
            "orgs.acme.teir: unknown field `teir`, expected one of `tier`, `status`, `models`, `labels`, `projects`, `limits`, `cap`"
        ]
    );
}

#[test]
fn a_key_given_twice_is_an_error() {
    let (one, two) = (key(1), key(2));
    let same_hash = [row(&one, json!({})), row(&one, json!({"id": "other"}))];
    assert_eq!(errors(&document(&same_hash)).len(), 1);
    let same_id = [row(&one, json!({})), row(&two, json!({"id": one.id()}))];
    assert_eq!(
        errors(&document(&same_id)),
        [format!("keys: id `{}` is given twice", one.id())]
    );
}

#[test]
fn a_broken_document_is_refused_whole() {
    let good = document(&[row(&key(1), json!({}))]).to_string();
    for cut in 0..good.len() {
        assert!(
            Loader::load(good.as_bytes()[..cut].to_vec()).is_err(),
            "cut at {cut}"
        );
    }
    for bad in [
        "{}",
        "[]",
        "null",
        "{\"version\": 2, \"orgs\": {}, \"keys\": []}",
        "<html>",
        "\u{feff}{}",
        "{\"version\":1,\"orgs\":{},\"keys\":{}}",
        "{\"version\":1,\"orgs\":{},\"keys\":[],\"keys\":[]}",
        "{\"version\":1,\"orgs\":{},\"keys\":[],}",
        "{\"version\":1 \"orgs\":{},\"keys\":[]}",
        "{,\"version\":1,\"orgs\":{},\"keys\":[]}",
        "{\"version\":1,\"orgs\":{},\"keys\":[]}}",
        "{\"version\":1,\"orgs\":{},\"keys\":[,]}",
        "{\"keys\":[1 2],\"version\":1,\"orgs\":{}}",
    ] {
        assert!(Loader::load(bad.into()).is_err(), "{bad}");
    }
}

#[test]
fn few_errors_are_collected_from_many() {
    let rows: Vec<_> = (0..1_000)
        .map(|n| row(&key(n), json!({"org": "nobody"})))
        .collect();
    assert_eq!(errors(&document(&rows)).len(), 20);
}

/// In which order the members stand makes no difference, nor does the size of the steps.
#[test]
fn order_and_steps_make_no_difference() {
    let rows: Vec<_> = (0..50)
        .map(|n| row(&key(n), json!({"project": "search"})))
        .collect();
    let document = document(&rows);
    let (version, orgs, keys) = (&document["version"], &document["orgs"], &document["keys"]);
    for text in [
        format!("{{\"version\": {version}, \"orgs\": {orgs}, \"keys\": {keys}}}"),
        format!("{{\"keys\":{keys},\"orgs\":{orgs}\n,\"version\":1}} \n"),
        format!("{{\"orgs\":{orgs},\"keys\":{keys},\"version\":1}}"),
    ] {
        for step in [1, 3, usize::MAX] {
            let mut loader = Loader::new(text.clone().into_bytes());
            let directory = loop {
                loader = match loader.step(step) {
                    Progress::More(loader) => loader,
                    Progress::Done(directory) => break directory,
                    Progress::Refused(errors) => panic!("{errors:?}"),
                };
            };
            assert_eq!((directory.keys(), directory.orgs()), (50, 2));
            assert!((0..50).all(|n| find(&directory, &key(n)).is_some()));
        }
    }
}

proptest! {
    /// What buckets and profiles say is what the table says, for keys that exist and keys that don't.
    #[test]
    fn buckets_agree_with_the_table(numbers in proptest::collection::btree_set(0_u64..500, 0..200), asked in 0_u64..500) {
        let rows: Vec<_> = numbers.iter().map(|n| row(&key(*n), json!({"models": ["llama-7b"]}))).collect();
        let directory = load(&document(&rows)).unwrap();
        let buckets: BTreeMap<u16, Vec<u8>> = (0..=255).flat_map(|part| bucket::of_part(&directory, part)).collect();
        let profiles: BTreeMap<_, _> = directory.profiles().iter().cloned().collect();
        let hash = hash(&key(asked));
        let found = buckets
            .get(&bucket::of(&hash))
            .and_then(|bytes| bucket::find(bytes, &hash))
            .and_then(|record| {
                let tenant = |id| {
                    let profile: Option<&Vec<u8>> = profiles.get(&id);
                    Ok::<_, ()>(profile.and_then(|profile| Tenant::from_record(profile, &Traffic::default(), &Budgets::default())).map(Rc::new))
                };
                Credential::from_record(record, &Budgets::default(), tenant).unwrap()
            });
        prop_assert_eq!(found.is_some(), numbers.contains(&asked));
        prop_assert_eq!(found, find(&directory, &key(asked)));
    }

    #[test]
    fn no_document_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Loader::load(bytes);
    }

    /// A good document with a few bytes changed is accepted only if serde_json can read it.
    #[test]
    fn no_damage_slips_through(at in any::<prop::sample::Index>(), byte in any::<u8>(), keys_first in any::<bool>()) {
        let document = document(&[row(&key(1), json!({})), row(&key(2), json!({}))]);
        let mut text = if keys_first {
            format!("{{\"keys\":{},\"orgs\":{},\"version\":1}}", document["keys"], document["orgs"])
        } else {
            document.to_string()
        }.into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        if Loader::load(text.clone()).is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&text).is_ok());
        }
    }

    /// Whatever stands in the filter state, no bound is read from it that no document could have.
    #[test]
    fn a_damaged_identity_has_no_bound_that_none_can_have(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let key = key(1);
        let limits = json!({"a": {"rate": "5000/minute", "burst": 9000}, "b": {"max": 3}});
        let mut document = document(&[row(&key, json!({"limits": limits, "cap": {"rate": "7/day"}}))]);
        document["orgs"]["acme"]["limits"] = limits;
        let mut state = find(&load(&document).unwrap(), &key).unwrap().state;
        prop_assert_eq!(Identity::decode(&state[..cut.index(state.len())]), None);
        let at = at.index(state.len());
        state[at] = byte;
        let Some(identity) = Identity::decode(&state) else { return Ok(()) };
        let Overrides { org, key } = identity.overrides;
        for bound in [org, key].iter().flatten().flat_map(|bounds| ["a", "b", CAP].map(|name| bounds.of(name))) {
            match bound {
                Some(Bound::Rate(quota)) => {
                    let (amount, period, burst) = quota.parts();
                    prop_assert!(Quota::from_parts(amount, period, burst).is_some());
                }
                Some(Bound::Max(max)) => prop_assert!(max > 0),
                None => {}
            }
        }
    }

    #[test]
    fn no_bucket_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), n in any::<u64>()) {
        let hash = hash(&key(n));
        let _ = bucket::find(&bytes, &hash);
        let _ = Credential::from_record(&bytes, &Budgets::default(), |_| Ok::<_, ()>(Tenant::from_record(&bytes, &Traffic::default(), &Budgets::default()).map(Rc::new)));
        let _ = Identity::decode(&bytes);
    }
}
