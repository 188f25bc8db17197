//! What of a configuration has a say in answers: where that changed, no answer of before is given.

use aws_lc_rs::digest::{SHA256, digest};

use crate::config::{Config, Credential, Mapping, Model, Provider, Target};
use crate::pattern::Pattern;

/// A number of what shapes answers, the same in every process of the same configuration. Whatever else shapes answers from the
/// configuration alone belongs in here; what does so by who calls belongs in `key`.
///
/// Members are named one by one, so that whoever adds one decides.
pub(super) fn shaping(config: &Config) -> [u8; 32] {
    // Another version of the gateway may read, translate or write it otherwise.
    let mut text = concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned();
    let mut add = |what: &str, said: &dyn std::fmt::Debug| {
        text.push_str(&format!("{what} {said:?}\n"));
    };
    add("stripped", &config.routing.provider_suffix);
    add("by prefix only", &config.routing.force_model_prefix);
    add("continuation", &config.continuation);
    add("headers", &config.header_policy);
    add("payload", &config.payload);
    add("guards", &config.guards.list);
    for provider in config.providers.iter().filter(|one| !one.disabled) {
        add("provider", &of_provider(provider));
    }
    for model in &config.models {
        add("model", &of_model(model));
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

fn of_provider(provider: &Provider) -> impl std::fmt::Debug {
    let Provider {
        name,
        kind,
        api_base,
        prefix,
        models,
        excluded_models,
        headers,
        cloak,
        header_policy,
        wire_api,
        api_version,
        region,
        credentials,
        // Who of several answers, how fast, and for how much.
        weight: _,
        priority: _,
        disabled: _,
        way: _,
        verify_ssl: _,
        ca_file: _,
        timeouts: _,
        max_concurrent: _,
        max_connections: _,
        health_model: _,
        limits: _,
    } = provider;
    let names = models.iter().map(of_mapping);
    let names: Vec<(String, Option<String>)> = names.collect();
    let excluded = excluded_models.iter().map(Pattern::source);
    let excluded: Vec<String> = excluded.map(str::to_owned).collect();
    let credentials = credentials.iter().filter(|one| !one.disabled);
    let credentials: Vec<_> = credentials.map(of_credential).collect();
    let place = (name.clone(), kind.clone(), api_base.clone(), region.clone());
    let words = (headers.clone(), *wire_api, api_version.clone());
    let policies = (cloak.clone(), header_policy.clone(), credentials);
    (place, words, policies, prefix.clone(), names, excluded)
}

/// The key itself is nobody's business, and says nothing of answers.
fn of_credential(credential: &Credential) -> impl std::fmt::Debug + use<> {
    let Credential {
        name,
        headers,
        models,
        excluded_models,
        api_key: _,
        weight: _,
        priority: _,
        disabled: _,
        way: _,
    } = credential;
    let sources = |list: &[Pattern]| -> Vec<String> {
        let sources = list.iter().map(Pattern::source);
        sources.map(str::to_owned).collect()
    };
    let (may, may_not) = (sources(models), sources(excluded_models));
    (name.clone(), headers.clone(), may, may_not)
}

fn of_mapping(mapping: &Mapping) -> (String, Option<String>) {
    let Mapping {
        pattern,
        target,
        price: _,
    } = mapping;
    (pattern.source().to_owned(), target.clone())
}

fn of_model(model: &Model) -> impl std::fmt::Debug {
    let Model {
        name,
        routes,
        targets,
        fallbacks,
        strict,
        continuation,
        strategy: _,
        affinity: _,
        timeouts: _,
        max_concurrent: _,
        hedge: _,
        limits: _,
        // Nobody gets its answers.
        shadow: _,
    } = model;
    let targets = targets.iter().map(|target| {
        let Target {
            provider,
            model,
            weight: _,
            priority: _,
            price: _,
        } = target;
        (provider.clone(), model.clone())
    });
    let targets: Vec<_> = targets.collect();
    (
        name.clone(),
        routes.clone(),
        targets,
        fallbacks.clone(),
        *strict,
        *continuation,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Condition;
    use crate::config::{Action, By, Fallbacks, Guard, Looks, ModelRoute, Shadow};
    use crate::payload::{Kind, Rule};
    use crate::status::tests::config;

    #[test]
    fn what_shapes_answers_changes_it_and_nothing_else_does() {
        type Change = fn(&mut Config);
        let before = shaping(&config());
        let shapes: [Change; 10] = [
            |config| {
                config.payload.push(Rule {
                    kind: Kind::Filter,
                    number: 0,
                    targets: Vec::new(),
                    when: Condition::default(),
                    params: Vec::new(),
                });
            },
            |config| {
                config.guards.list.push(Guard {
                    name: "g".to_owned(),
                    when: Condition::default(),
                    requests: true,
                    answers: true,
                    by: By::Looks(Looks {
                        action: Action::Block,
                        detectors: Vec::new(),
                        patterns: Vec::new(),
                        words: vec!["w".to_owned()],
                        case_sensitive: false,
                    }),
                });
            },
            |config| {
                config.models[0].routes.push(ModelRoute {
                    when: Condition::default(),
                    percent: None,
                    model: "n".to_owned(),
                });
            },
            |config| {
                let headers = &mut config.providers[0].credentials[0].headers;
                headers.insert("openai-organization".to_owned(), "o".to_owned());
            },
            |config| config.models[0].targets[0].model = Some("n".to_owned()),
            |config| {
                config.models[0].fallbacks = Fallbacks {
                    any: vec!["m".to_owned()],
                    ..Fallbacks::default()
                }
            },
            |config| config.models[0].strict = true,
            |config| config.providers[0].api_base = Some("http://other".to_owned()),
            |config| config.providers[0].models[0].target = Some("n".to_owned()),
            |config| config.providers[0].disabled = true,
        ];
        for (at, change) in shapes.into_iter().enumerate() {
            let mut config = config();
            change(&mut config);
            assert_ne!(shaping(&config), before, "{at}");
        }
        let others: [Change; 4] = [
            |config| {
                config.models[0].shadow = Some(Shadow {
                    model: "n".to_owned(),
                    percent: crate::config::Percent::ALL,
                    max_concurrent: 1,
                });
            },
            |config| config.providers[0].weight = 7,
            |config| config.models[0].max_concurrent = Some(7),
            |config| config.metrics_open = false,
        ];
        for (at, change) in others.into_iter().enumerate() {
            let mut config = config();
            change(&mut config);
            assert_eq!(shaping(&config), before, "{at}");
        }
    }
}
