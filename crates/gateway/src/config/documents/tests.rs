//! Documents over a file: what goes together is served, the rest is left out by name.

use polygate_core::Secret;
use serde_json::json;

use super::*;
use crate::config::parse;

const FILE: &str = "
providers: [{name: own, type: mock, api_base: 'http://h', api_key: k, model_mapping: [own-model]}]
models: {named: {targets: [{provider: own, model: own-model}]}}
teams: {red: {}}
";

/// A file with one of each kind.
pub fn base() -> Base {
    let parsed = parse(FILE, &Environment::default());
    assert!(
        parsed.findings.errors.is_empty(),
        "{:?}",
        parsed.findings.errors
    );
    Base {
        config: parsed.config,
        names: parsed.names,
        demo: None,
    }
}

fn sealer() -> Sealer {
    Sealer::new(&Secret::new("a secret of some length")).expect("a sealer")
}

fn documents(all: &[(Kind, &str, Value)]) -> Documents {
    let document = |(kind, name, body): &(Kind, &str, Value)| Document {
        kind: *kind,
        name: (*name).to_owned(),
        id: 1,
        body: body.to_string(),
        version: 1,
        created: 0,
        updated: 0,
    };
    Documents {
        version: 1,
        documents: all.iter().map(document).collect(),
    }
}

/// What is left out of these, by name and reason.
fn left_out(all: &[(Kind, &str, Value)]) -> Vec<(String, String)> {
    let composed = base().with(&documents(all), &sealer(), &|_| Ok(()));
    let left_out = composed.left_out.iter();
    left_out.map(|one| (one.name.clone(), one.why())).collect()
}

fn provider() -> Value {
    json!({"type": "mock", "api_base": "http://h", "api_key": "k", "model_mapping": ["theirs"]})
}

#[test]
fn documents_are_added_to_the_file() {
    let model =
        json!({"targets": [{"provider": "p"}, {"provider": "own"}], "fallbacks": ["named"]});
    let all = documents(&[
        (Kind::Provider, "p", provider()),
        (Kind::Model, "m", model),
        (Kind::Team, "blue", json!({"max_concurrent": 3})),
    ]);
    let composed = base().with(&all, &sealer(), &|_| Ok(()));
    assert_eq!(composed.left_out, []);
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(" ");
    let config = &composed.config;
    assert_eq!(
        names(config.providers.iter().map(|one| &one.name).collect()),
        "own p"
    );
    assert_eq!(
        names(config.models.iter().map(|one| &one.name).collect()),
        "named m"
    );
    assert_eq!(
        names(config.access.teams.iter().map(|one| &one.name).collect()),
        "red blue"
    );
}

#[test]
fn what_is_no_good_is_left_out_with_everything_that_is_wrong_with_it() {
    for (kind, name, body, why) in [
        (
            Kind::Provider,
            "own",
            provider(),
            "the file has one of this name",
        ),
        (
            Kind::Model,
            "named",
            json!({}),
            "the file has one of this name",
        ),
        (
            Kind::Team,
            "red",
            json!({}),
            "the file has one of this name",
        ),
        (Kind::Provider, "x", json!([1]), "must be a JSON object"),
        (
            Kind::Provider,
            "x",
            json!({"api_bsae": 1}),
            "did you mean 'api_base'",
        ),
        (
            Kind::Model,
            "x",
            json!({"targets": [{"provider": "none"}]}),
            "there is no provider 'none'",
        ),
        (
            Kind::Model,
            "x",
            json!({"targets": [{"provider": "own"}], "fallbacks": ["x"]}),
            "cannot fall back to itself",
        ),
        (
            Kind::Team,
            "x",
            json!({"max_concurrent": -1}),
            "max_concurrent",
        ),
        (
            Kind::Provider,
            "x",
            json!({"type": "mock", "api_key": "sealed:1:00"}),
            "does not open",
        ),
    ] {
        let good = (Kind::Provider, "p", provider());
        let said = left_out(&[good, (kind, name, body.clone())]);
        assert_eq!(said.len(), 1, "{body}: {said:?}");
        assert!(
            said[0].0 == name && said[0].1.contains(why),
            "{body}: {said:?}"
        );
    }
    let both = left_out(&[(Kind::Provider, "x", json!({"weight": "a", "priority": "b"}))]);
    assert!(
        both[0].1.contains(".weight: ")
            && both[0].1.contains("; ")
            && both[0].1.contains(".priority: "),
        "{both:?}"
    );
}

#[test]
fn where_nobody_can_be_told_to_be_at_fault_the_first_that_go_together_are_served() {
    let accept = |config: Config| match config.providers.len() {
        0..=3 => Ok(()),
        _ => Err(vec!["that is too many".to_owned()]),
    };
    let all: Vec<_> = ["a", "b", "c", "d"]
        .map(|name| (Kind::Provider, name, provider()))
        .into();
    let composed = base().with(&documents(&all), &sealer(), &accept);
    let names: Vec<&str> = composed
        .config
        .providers
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["own", "a", "b"]);
    let names: Vec<&str> = composed
        .left_out
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["c", "d"]);
}

#[test]
fn a_secret_opens_for_its_own_document_only() {
    let sealed = sealer().seal("provider/p", "sk-1").expect("sealed");
    let body = json!({"type": "mock", "api_base": "http://h", "api_keys": [{"key": sealed}]});
    let all = documents(&[
        (Kind::Provider, "p", body.clone()),
        (Kind::Provider, "q", body),
    ]);
    let composed = base().with(&all, &sealer(), &|_| Ok(()));
    let opened = composed.config.providers.last().expect("one");
    assert_eq!(
        (&*opened.name, opened.credentials[0].api_key.reveal()),
        ("p", "sk-1")
    );
    assert!(composed.left_out.len() == 1 && composed.left_out[0].name == "q");
}

#[test]
fn variables_are_not_replaced() {
    let body = json!({"type": "mock", "api_base": "http://h", "api_key": "${HOME}", "model_mapping": ["theirs"]});
    let composed = base().with(
        &documents(&[(Kind::Provider, "p", body)]),
        &sealer(),
        &|_| Ok(()),
    );
    let read = composed.config.providers.last().expect("one");
    assert_eq!(read.credentials[0].api_key.reveal(), "${HOME}");
}
