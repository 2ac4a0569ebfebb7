//! Catalogues in, decisions out.

use serde_json::{Value, json};

use super::choose::side;
use super::document::RawCatalogue;
use super::*;
use crate::body::read_json;
use crate::bound::Overrides;
use crate::config::from_json;
use crate::endpoint::{Endpoint, Scopes};
use crate::identity::{Grants, Identity};
use crate::traffic::Withheld;

fn load(models: Value) -> Result<Catalogue, Vec<String>> {
    let raw: RawCatalogue = from_json(json!({"models": models}).to_string().as_bytes()).unwrap();
    Catalogue::try_from(raw).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn models() -> Value {
    json!({
        "llama-70b": {
            "aliases": ["llama"], "endpoints": ["chat", "completions"], "context_window": 1000, "max_output": 100,
            "targets": [{"cluster": "a", "weight": 3}, {"cluster": "b"}, {"cluster": "own", "weight": 0}, {"cluster": "next", "weight": 0}],
            "rules": [
                {"when": {"org": ["acme"], "label": {"region": "eu"}}, "targets": ["own"]},
                {"when": {"tier": ["free"], "endpoint": ["completions"]}, "targets": ["b", "a"]},
            ],
            "canary": {"target": "next", "percent": 5},
        },
        "embed": {"endpoints": ["embeddings"], "targets": [{"cluster": "e"}]},
    })
}

fn who(org: &str) -> Identity {
    Identity {
        key_id: "k".into(),
        org: org.into(),
        project: Some("p".into()),
        tier: "free".into(),
        scopes: Scopes::UNRESTRICTED,
        models: Grants {
            org: vec!["llama-*".into()],
            project: None,
            key: None,
        },
        labels: vec![],
        overrides: Overrides::NONE,
        withheld: Withheld::NOTHING,
        budgets: Vec::new(),
    }
}

fn order(who: &Identity, endpoint: Endpoint, draw: u64) -> Vec<String> {
    let catalogue = load(models()).unwrap();
    let model = catalogue.get("llama-70b").unwrap();
    model
        .candidates(who, endpoint, draw)
        .iter()
        .map(|c| format!("{} {}", c.cluster, c.route.name()))
        .collect()
}

#[test]
fn grants_of_every_level_must_agree() {
    let catalogue = load(models()).unwrap();
    let find = |name: &str, who: &Identity| {
        catalogue
            .find(name, Endpoint::Chat, who)
            .map(|model| model.name.clone())
    };
    let mut acme = who("acme");
    assert_eq!(find("llama-70b", &acme), Ok("llama-70b".into()));
    assert_eq!(
        find("llama", &acme),
        Ok("llama-70b".into()),
        "an alias stands for the model"
    );
    // No grant and no model look the same.
    assert_eq!(find("embed", &acme).unwrap_err().answer().status, 404);
    let (unknown, ungranted) = (
        find("nope!", &acme).unwrap_err().answer(),
        find("embed", &acme).unwrap_err().answer(),
    );
    assert_eq!(
        unknown.message.replace("nope!", ""),
        ungranted.message.replace("embed", "")
    );
    acme.models.project = Some(vec!["other".into()]);
    let refused = find("llama-70b", &acme).unwrap_err().answer();
    assert_eq!((refused.status, refused.code), (403, "model_not_found"));
    assert_eq!(
        refused.message,
        "Project `p` does not have access to model `llama-70b`."
    );
    acme.models.project = None;
    acme.models.key = Some(vec![]);
    assert_eq!(
        find("llama-70b", &acme),
        Err(Refusal::KeyNotGranted("llama-70b".into()))
    );
    acme.models = Grants {
        org: vec!["*".into()],
        project: None,
        key: None,
    };
    assert_eq!(find("embed", &acme), Err(Refusal::WrongEndpoint("embed".into())));
    assert_eq!(catalogue.granted(&acme).count(), 2);
    assert_eq!(catalogue.granted(&who("acme")).count(), 1);
}

#[test]
fn a_model_has_bounds() {
    let catalogue = load(models()).unwrap();
    let model = catalogue.get("llama").unwrap();
    let accepts = |body: &str| {
        model.accepts(
            Endpoint::Chat,
            &read_json(Endpoint::Chat, body.as_bytes()).unwrap(),
        )
    };
    assert_eq!(accepts(r#"{"max_tokens": 100}"#), Ok(()));
    for (too_long, param) in [
        (r#"{"max_tokens": 101}"#, "max_tokens"),
        (
            r#"{"max_tokens": 1, "max_completion_tokens": 101}"#,
            "max_completion_tokens",
        ),
        // Some server may obey what the endpoint does not have.
        (r#"{"max_output_tokens": 101}"#, "max_output_tokens"),
        (r#"{"max_tokens": 1, "n_predict": 101}"#, "n_predict"),
        (r#"{"n_predict": 100.5}"#, "n_predict"),
        (r#"{"max_tokens": 1, "thinking_budget": 101}"#, "thinking_budget"),
        (r#"{"max_tokens": 0, "min_tokens": 101}"#, "min_tokens"),
        (
            r#"{"max_tokens": 1, "thinking": {"budget_tokens": 101}}"#,
            "thinking",
        ),
        (r#"{"max_tokens": 1, "options": {"num_predict": 101}}"#, "options"),
    ] {
        assert_eq!(
            accepts(too_long),
            Err(Refusal::OutputTooLong(Cap {
                limit: 100,
                asked: 101,
                param,
            }))
        );
    }
    // The window is known, and reserved.
    assert_eq!(accepts(r#"{"max_tokens": 1, "n_predict": -1}"#), Ok(()));
    let long = |bytes: usize| format!(r#"{{"prompt": "{}"}}"#, "x".repeat(bytes));
    assert_eq!(accepts(&long(15_900)), Ok(()));
    assert_eq!(
        accepts(&long(16_100)),
        Err(Refusal::ContextTooLong(Cap {
            limit: 1000,
            asked: 1007,
            param: "prompt",
        }))
    );
}

#[test]
fn weights_are_kept() {
    let org = (0..)
        .map(|n| format!("o{n}"))
        .find(|org| side("llama-70b", org) >= 500)
        .unwrap();
    let mut first = std::collections::BTreeMap::new();
    for draw in 0..4_000_u64 {
        let order = order(
            &who(&org),
            Endpoint::Chat,
            draw.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        );
        *first.entry(order[0].clone()).or_insert(0) += 1;
        // Every other target but the canary is there for when it is broken.
        assert_eq!(order.len(), 3);
        assert!(order[1..].iter().all(|choice| choice.ends_with("breaker-open")));
        assert!(order.iter().all(|choice| !choice.starts_with("next")));
        assert_eq!(order[2], "own breaker-open");
    }
    assert!((2_900..3_100).contains(&first["a primary"]), "{first:?}");
    assert_eq!(first.len(), 2, "{first:?}");
}

#[test]
fn rules_go_before_weights() {
    let mut acme = who("acme");
    acme.labels = vec![("region".into(), "eu".into())];
    assert_eq!(order(&acme, Endpoint::Chat, 7), ["own primary"]);
    let mut free = order(&who("globex"), Endpoint::Completions, 7);
    free.sort();
    assert_eq!(free.len(), 2);
    assert!(free[0].starts_with("a ") && free[1].starts_with("b "));
}

#[test]
fn a_canary_is_sticky_and_grows_without_giving_back() {
    let at = |percent: u32, org: &str| {
        let mut models = models();
        models["llama-70b"]["canary"]["percent"] = json!(percent);
        let catalogue = load(models).unwrap();
        let sides: Vec<bool> = (0..5)
            .map(|draw| {
                catalogue
                    .get("llama")
                    .unwrap()
                    .candidates(&who(org), Endpoint::Chat, draw)[0]
                    .route
                    == Route::Canary
            })
            .collect();
        assert!(
            sides.iter().all(|side| *side == sides[0]),
            "the same side each time"
        );
        sides[0]
    };
    let orgs: Vec<String> = (0..400).map(|n| format!("org-{n}")).collect();
    let five: Vec<bool> = orgs.iter().map(|org| at(5, org)).collect();
    let ten: Vec<bool> = orgs.iter().map(|org| at(10, org)).collect();
    assert!(five.iter().zip(&ten).all(|(five, ten)| !five || *ten));
    let share = |side: &[bool]| side.iter().filter(|side| **side).count();
    assert!(
        (8..35).contains(&share(&five)) && (20..65).contains(&share(&ten)),
        "{} {}",
        share(&five),
        share(&ten)
    );
    assert!(!at(0, "org-1") && at(100, "org-1"));
}

#[test]
fn prices_are_for_a_million_tokens() {
    let mut priced = models();
    priced["llama-70b"]["price"] = json!({"input": "0.6", "output": 2.4});
    let catalogue = load(priced).unwrap();
    let price = catalogue.get("llama-70b").unwrap().price.unwrap();
    assert_eq!(
        (price.input, price.cached_input, price.output),
        (600_000, 600_000, 2_400_000)
    );
    assert_eq!(catalogue.get("embed").unwrap().price, None);
}

#[test]
fn what_is_wrong_is_said_with_its_path() {
    let mut bad = models();
    bad["llama-70b"]["targets"][0]["weight"] = json!(-1);
    bad["llama-70b"]["rules"][0]["targets"] = json!(["nowhere"]);
    bad["llama-70b"]["rules"][1]["when"] = json!({});
    bad["llama-70b"]["canary"] = json!({"target": "zz", "percent": 101});
    bad["llama-70b"]["fallback"] = json!(["llama"]);
    bad["llama-70b"]["max_output"] = json!(0);
    bad["llama-70b"]["price"] = json!({"input": -1});
    bad["embed"]["aliases"] = json!(["llama", "a b"]);
    bad["embed"]["endpoints"] = json!([]);
    bad["embed"]["targets"] = json!([]);
    bad["embed"]["sunset_at"] = json!("soon");
    let said = load(bad).unwrap_err();
    for path in [
        "models.llama-70b.targets[0].weight",
        "models.llama-70b.rules[0].targets[0]",
        "models.llama-70b.rules[1].when",
        "models.llama-70b.canary.target",
        "models.llama-70b.canary.percent",
        "models.llama-70b.fallback[0]",
        "models.llama-70b.max_output",
        "models.llama-70b.aliases[0]",
        "models.llama-70b.price.input",
        "models.embed.aliases[1]",
        "models.embed.endpoints",
        "models.embed.targets",
        "models.embed.sunset_at",
    ] {
        assert!(
            said.iter().any(|error| error.starts_with(&format!("{path}: "))),
            "{path} is not in {said:#?}"
        );
    }
    assert_eq!(said.len(), 13, "{said:#?}");
}
