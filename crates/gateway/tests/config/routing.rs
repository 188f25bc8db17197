//! Strategies, tiers, prices, affinity and fallbacks, as files say them.

use std::time::Duration;

use polygate::config::summary;
use polygate_engine::config::{Affinity, Fallbacks, Hedge, HedgeAfter, Model, Percent, Strategy};
use polygate_providers::Price;
use polygate_providers::price::{Long, Rates};

use crate::{good, report};

const PROVIDERS: &str = "providers: [{name: p, type: mock, api_base: 'http://127.0.0.1:9', priority: 2, api_keys: [{key: a, priority: -1}, {key: b}]}]\n";

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn every_word_for_a_strategy_is_known() {
    for (word, strategy) in [
        ("weighted", Strategy::Weighted),
        ("round_robin", Strategy::RoundRobin),
        ("fill-first", Strategy::FillFirst),
        ("priority", Strategy::FillFirst),
        ("random", Strategy::Random),
        ("least-busy", Strategy::LeastBusy),
        ("lowest-latency", Strategy::LowestLatency),
        ("latency", Strategy::LowestLatency),
        ("cheapest", Strategy::Cheapest),
        ("cost", Strategy::Cheapest),
    ] {
        let loaded = good(&format!("{PROVIDERS}routing: {{strategy: {word}}}"));
        assert_eq!(loaded.config.routing.strategy, strategy, "{word}");
    }
    let said = report(&format!("{PROVIDERS}routing: {{strategy: luck}}"));
    assert!(said.contains("least-busy"), "it says what there is: {said}");
}

#[test]
fn affinity_is_a_word_or_a_list_of_words() {
    let affinity = |said: &str| {
        let text = format!("{PROVIDERS}routing: {{affinity: {said}}}");
        good(&text).config.routing.affinity
    };
    let of = |session, prefix| Affinity { session, prefix };
    assert_eq!(affinity("off"), of(false, false));
    assert_eq!(affinity("session"), of(true, false));
    assert_eq!(affinity("prefix"), of(false, true));
    assert_eq!(affinity("session_or_prefix"), of(true, true));
    assert_eq!(affinity("[prefix, session]"), of(true, true));
    let said = report(&format!(
        "{PROVIDERS}routing: {{affinity: [session, luck]}}"
    ));
    assert!(said.contains("session-or-prefix"), "{said}");
}

#[test]
fn hedges_come_after_a_time_or_after_what_the_target_takes() {
    let hedge = |said: &str| {
        let text = format!(
            "{PROVIDERS}hedge: {{after: {said}}}\nmodels: {{m: {{targets: [{{provider: p}}], hedge: {{after: p95, max_percent: 7}}}}}}"
        );
        let config = good(&text).config;
        (config.hedge, config.models[0].hedge)
    };
    let of = |after, max_percent| Some(Hedge { after, max_percent });
    let own = of(HedgeAfter::P95, 7);
    let time = |millis| HedgeAfter::Time(Duration::from_millis(millis));
    assert_eq!(hedge("800ms"), (of(time(800), 5), own));
    assert_eq!(hedge("2"), (of(time(2000), 5), own));
    assert_eq!(hedge("p95"), (of(HedgeAfter::P95, 5), own));
    for wrong in ["p50", "0", "soon"] {
        let said = report(&format!("{PROVIDERS}hedge: {{after: {wrong}}}"));
        let expected = format!(
            "hedge.after: must be p95, or a time that is more than zero, such as 800ms or 5s, not '{wrong}'"
        );
        assert!(said.contains(&expected), "{said}");
    }
    let said = report(&format!("{PROVIDERS}hedge: {{}}"));
    assert!(said.contains("hedge.after: is missing"), "{said}");
}

#[test]
fn a_model_says_tiers_prices_and_fallbacks_by_cause() {
    let loaded = good(&format!(
        "{PROVIDERS}models:
  m:
    affinity: session
    targets: [{{provider: p, model: x, priority: 1, price: {{input: 3, output: 0.15}}}}, {{provider: p, model: y}}]
    fallbacks: {{quota: [f], content_policy: [f, g]}}
  f: {{targets: [{{provider: p}}], fallbacks: [g]}}
  g: {{targets: [{{provider: p}}]}}
"
    ));
    let [provider] = loaded.config.providers.as_slice() else {
        panic!("one provider");
    };
    let tiers: Vec<i32> = provider
        .credentials
        .iter()
        .map(|key| key.priority)
        .collect();
    assert_eq!((provider.priority, tiers), (2, vec![-1, 0]));
    let models = &loaded.config.models;
    let target = &models[0].targets[0];
    assert_eq!(
        (target.priority, models[0].targets[1].priority),
        (Some(1), None)
    );
    assert_eq!(target.price, Price::of_dollars(3.0, 0.15));
    let by_cause = Fallbacks {
        quota: names(&["f"]),
        content_policy: names(&["f", "g"]),
        ..Fallbacks::default()
    };
    assert_eq!(models[0].fallbacks, by_cause);
    assert_eq!(models[1].fallbacks.any, names(&["g"]));
}

/// A provider with models of its own, and these.
fn models(models: &str) -> String {
    format!(
        "providers: [{{name: p, type: mock, api_base: 'http://127.0.0.1:9', model_mapping: [x, 'gpt-*']}}]\nmodels:\n{models}"
    )
}

#[test]
fn a_model_may_be_another_name_or_have_routes_and_a_shadow() {
    let loaded = good(&models(
        "  alias: gpt-4
  smart:
    routes: [{when: {stream: true, headers: {X-Tier: gold}}, model: alias}, {percent: 12.5, model: x}, {model: gpt-4}]
    shadow: {model: x, percent: 0.5%}
  own: {routes: [{when: {tools: true}, model: smart}], targets: [{provider: p}], shadow: {model: x, max_concurrent: 3}}
",
    ));
    let [alias, smart, own] = loaded.config.models.as_slice() else {
        panic!("three models");
    };
    assert!(alias.routes[0].takes_all() && alias.targets.is_empty());
    let led: Vec<_> = smart.routes.iter().map(|route| &*route.model).collect();
    assert_eq!(led, ["alias", "x", "gpt-4"]);
    let said = smart.routes[0].when.to_string();
    assert_eq!(said, "header x-tier, stream true");
    assert_eq!(smart.routes[1].percent, Percent::of(12.5));
    let of = |model: &Model| {
        let shadow = model.shadow.as_ref().expect("a shadow");
        (shadow.percent.value(), shadow.max_concurrent)
    };
    assert_eq!((of(smart), of(own)), ((0.5, 10), (100.0, 3)));
    let told = summary(&loaded);
    assert!(told.contains("alias -> gpt-4\n"), "{told}");
    assert!(
        told.contains("smart -> alias (header x-tier, stream true), x (12.5 %), gpt-4, 0.5 % to x too (at most 10 at a time)"),
        "{told}"
    );
}

#[test]
fn routes_that_lead_nowhere_or_round_are_refused() {
    let deep: String = (0..10)
        .map(|at| format!("  d{at}: d{}\n", at + 1))
        .collect();
    for (said, expected) in [
        (
            "  a: {routes: [{model: gone}]}",
            "models.a.routes[0].model: there is no model 'gone'",
        ),
        ("  a: gone", "models.a: there is no model 'gone'"),
        ("  a: a", "a model cannot lead to itself"),
        (
            "  a: {targets: [{provider: p}], shadow: {model: a}}",
            "a model cannot lead to itself",
        ),
        (
            "  a: {targets: [{provider: p}], shadow: {model: gone}}",
            "models.a.shadow.model: there is no model 'gone'",
        ),
        (
            "  a: b\n  b: c\n  c: a",
            "its routes and fallbacks go round in a circle: a -> b -> c -> a",
        ),
        (
            "  a: {routes: [{model: b}]}\n  b: {targets: [{provider: p}], fallbacks: [a]}",
            "its routes and fallbacks go round in a circle: a -> b -> a",
        ),
        (
            &format!("{deep}  d10: x"),
            "models.d0: its routes lead through more than 8 models",
        ),
        (
            "  a: {routes: [{percent: 10, model: x}]}",
            "models.a.targets: is missing",
        ),
        ("  a: {routes: []}", "models.a.targets: is missing"),
        (
            "  a: {routes: [{model: x}, {model: gpt-4}]}",
            "routes[1]: no call comes here",
        ),
        (
            "  a: {routes: [{when: {stream: true}}]}",
            "models.a.routes[0].model: is missing",
        ),
        (
            "  a: {routes: [{percent: 101, model: x}]}",
            "must be a number from 0 to 100",
        ),
        (
            "  a: {routes: [{when: {colour: red}, model: x}]}",
            "models.a.routes[0].when.colour: unknown key",
        ),
        (
            "  a: {targets: [{provider: p}], shadow: {model: x, max_concurrent: 0}}",
            "must be at least 1",
        ),
        (
            "  a: {conditions: [], targets: [{provider: p}], routes: 7}",
            "models.a.routes: must be a list",
        ),
    ] {
        let said = report(&models(said));
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn prices_are_said_by_tier_wherever_prices_are() {
    let price = "{input: 3, output: 15, cache_read: 0.3, cache_write: 3.75, cache_write_1h: 6, input_audio: 0, output_audio: 30, \
                 reasoning: 12.5, long_prompt: {above: 200000, input: 6, output: 22.5, cache_read: 0.6}}";
    let loaded = good(&format!(
        "providers: [{{name: p, type: openai, api_key: k, model_mapping: {{a: {{mapped_model: b, price: {price}}}}}}}]
models: {{m: {{targets: [{{provider: p, price: {price}}}]}}}}
"
    ));
    let rates = Rates {
        input: 3_000_000,
        output: 15_000_000,
        cache_read: Some(300_000),
        cache_write: Some(3_750_000),
        cache_write_1h: Some(6_000_000),
        input_audio: Some(0),
        output_audio: Some(30_000_000),
        reasoning: Some(12_500_000),
    };
    let long = Rates {
        input: 6_000_000,
        output: 22_500_000,
        cache_read: Some(600_000),
        ..rates
    };
    let said = Some(Price {
        rates,
        long: Some(Long {
            above: 200_000,
            rates: long,
        }),
    });
    assert_eq!(loaded.config.models[0].targets[0].price, said);
    assert_eq!(loaded.config.providers[0].models[0].price, said);
}

#[test]
fn a_price_that_is_none_is_refused_at_its_place() {
    for (price, expected) in [
        (
            "{input: 1, output: cheap}",
            "price.output: must be in USD per million tokens, zero or more, not 'cheap'",
        ),
        (
            "{input: 1, output: 1, cache_read: -0.1}",
            "price.cache_read: must be in USD per million tokens",
        ),
        ("{input: 1, output: 1, cache: 1}", "price.cache"),
        (
            "{input: 1, output: 1, long_prompt: {input: 1, output: 1}}",
            "price.long_prompt.above: is missing",
        ),
        (
            "{input: 1, output: 1, long_prompt: {above: 9, input: 1}}",
            "price.long_prompt.output: is missing",
        ),
        (
            "{input: 1, output: 1, long_prompt: {above: 9, input: 1, output: 1, long_prompt: {}}}",
            "price.long_prompt.long_prompt",
        ),
    ] {
        let said = report(&format!(
            "{PROVIDERS}models: {{m: {{targets: [{{provider: p, price: {price}}}]}}}}"
        ));
        assert!(said.contains(expected), "{price}: {said}");
    }
}

#[test]
fn fallbacks_alone_may_lead_back() {
    good(&models(
        "  a: {targets: [{provider: p}], fallbacks: [b]}\n  b: {targets: [{provider: p}], fallbacks: {any: [c], quota: [a]}}\n  \
         c: {targets: [{provider: p}], routes: [{percent: 1, model: x}], fallbacks: [b]}",
    ));
}

#[test]
fn what_is_wrong_is_told_together() {
    let said = report(&format!(
        "{PROVIDERS}models:
  a: {{targets: [{{provider: p, price: {{input: -1, output: 1}}}}], fallbacks: [b]}}
  b: {{targets: [{{provider: p, price: {{input: 1}}}}], routes: [{{when: {{stream: true}}, model: c}}]}}
  c: {{targets: [{{provider: p, priority: high}}], fallbacks: {{any: [b, a], sometimes: [a]}}}}
"
    ));
    for piece in [
        "USD per million tokens",
        "output",
        "priority",
        "sometimes",
        "a -> b -> c -> a",
        "b -> c -> b",
    ] {
        assert!(said.contains(piece), "{piece}: {said}");
    }
    assert_eq!(said.matches("in a circle").count(), 2, "each once: {said}");
}
