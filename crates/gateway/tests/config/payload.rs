//! Payload rules: what is read, refused, warned of and shown.

use polygate::config::summary;

use crate::{good, good_with, report, warnings};

const PROVIDER: &str =
    "providers: [{name: p, type: anthropic, api_key: k, model_mapping: {m: claude-x}}]\n";

/// The rules of a file: each with its places and what it puts there.
fn rules(text: &str) -> Vec<String> {
    let rules = good(text).config.payload;
    let line = |rule: &polygate_engine::payload::Rule| {
        let params = rule.params.iter();
        let params: Vec<String> = params
            .map(|(path, json)| format!("{path}={json}"))
            .collect();
        format!("{rule} {}", params.join(" "))
    };
    rules.iter().map(line).collect()
}

#[test]
fn both_dialects_have_it_and_values_are_of_yaml() {
    let payload = r#"
payload:
  filter: [{params: [a, 'b\.c.-1']}]
  default:
    - models: [{name: "claude-*", protocol: CLAUDE}, claude-x]
      params: {n: 1e5, s: "1", t: true, z: ~, l: [1, {x: yes}], o: {}, "logit_bias.50256": -100}
"#;
    let expected = [
        r#"default[0] n=1e5 s="1" t=true z=null l=[1,{"x":"yes"}] o={} logit_bias.50256=-100"#,
        r"filter[0] a=null b\.c.-1=null",
    ];
    let native = format!("{PROVIDER}{payload}");
    let published =
        format!("claude-api-key: [{{api-key: k, models: [{{id: claude-x}}]}}]\n{payload}");
    for text in [native, published] {
        assert_eq!(rules(&text), expected, "{text}");
    }
    let text = format!(
        "{PROVIDER}payload:\n  default:\n    - params:\n        n: '${{N}}'\n        m: ${{N}}\n"
    );
    let loaded = good_with(&text, &[("N", "7")]);
    let params = &loaded.config.payload[0].params;
    assert_eq!((&*params[0].1, &*params[1].1), (r#""7""#, "7"));
}

#[test]
fn what_cannot_be_meant_is_told() {
    for (payload, told) in [
        (
            "{override: [{params: {model: gpt-5}}]}",
            "payload.override[0].params.model: 'model' is not for rules: a rule does not change which model is asked",
        ),
        (
            "{filter: [{params: [stream]}]}",
            "'stream' is not for rules: a rule does not change whether a call streams",
        ),
        (
            "{default: [{params: {requests.0.model: x}}]}",
            "'requests.0.model' is not for rules",
        ),
        ("{default: [{params: {a..b: 1}}]}", "is no path"),
        (
            "{override: [{params: {'messages.*.x': 1}}]}",
            "'messages.*.x' is no path such as a.b.0.c: there are no wildcards",
        ),
        (
            "{override: [{params: {'messages.#.x': 1}}]}",
            "there are no wildcards",
        ),
        ("{default: [{params: {$.a: 1}}]}", "it begins with a name"),
        (
            "{filter: [{params: ['messages[0].x']}]}",
            "no brackets: a.0",
        ),
        (
            "{filter: [{params: [messages.99999999999]}]}",
            "no list is so long",
        ),
        (
            "{filter: [{params: [messages.-]}]}",
            "payload.filter[0].params[0]: 'messages.-' is of the place behind a list's last item",
        ),
        (
            "{default: [{models: [{name: m}]}]}",
            "payload.default[0].params: is missing",
        ),
        (
            "{default: [{models: [{name: m, protocol: cohere}], params: {a: 1}}]}",
            "must be one of openai",
        ),
        ("{overide: []}", "unknown key; did you mean 'override'?"),
        (
            "{default: [{params: {a: 1}, when: {key: x}}]}",
            "unknown key; did you mean 'keys'?",
        ),
    ] {
        let report = report(&format!("{PROVIDER}payload: {payload}"));
        assert!(report.contains(told), "{payload}: {report}");
    }
}

#[test]
fn what_has_no_effect_is_warned_of() {
    for (payload, told) in [
        (
            "{default: [{params: {}}]}",
            "names no place: the rule does nothing",
        ),
        (
            "{default: [{models: [], params: {a: 1}}]}",
            "is for no model",
        ),
        (
            "{default: [{models: [{name: 'gpt-*'}], params: {a: 1}}]}",
            "payload.default[0]: no provider here has a model 'gpt-*'",
        ),
        (
            "{default: [{models: [{name: '*', protocol: gemini}], params: {a: 1}}]}",
            "payload.default[0]: no provider here has a model '*'",
        ),
        (
            "{override: [{params: {a.b: 1}}], filter: [{params: [a]}]}",
            "payload.override[0]: payload.filter[0] takes out 'a.b' again",
        ),
    ] {
        let loaded = good(&format!("{PROVIDER}payload: {payload}"));
        let warnings = warnings(&loaded).join("\n");
        assert!(warnings.contains(told), "{payload}: {warnings}");
    }
    for payload in [
        "{default: [{models: [{name: 'claude-*', protocol: claude}], params: {a: 1}}]}",
        "{override: [{models: [claude-x], params: {a.b: 1}}], filter: [{models: [claude-y*, claude-x], params: [a.b.c]}]}",
    ] {
        let loaded = good(&format!("{PROVIDER}payload: {payload}"));
        assert_eq!(warnings(&loaded), [""; 0], "{payload}");
    }
}

#[test]
fn a_rule_for_a_model_that_nobody_may_call_is_warned_of() {
    let told = |name: &str, more: &str| {
        let loaded = good(&format!(
            "{PROVIDER}{more}payload: {{default: [{{when: {{models: ['{name}']}}, params: {{x: 1}}}}]}}\n"
        ));
        warnings(&loaded).join("\n")
    };
    let said = told("zzz", "");
    assert!(said.contains("no model here is called 'zzz'"), "{said}");
    for (name, more) in [
        ("m", ""),
        ("*", ""),
        ("v", "models: {v: {targets: [{provider: p, model: m}]}}\n"),
    ] {
        assert_eq!(told(name, more), "", "{name}");
    }
}

#[test]
fn a_rule_for_names_that_nobody_here_has_is_warned_of() {
    let provider =
        "providers: [{name: p, type: gemini, api_key: k, model_mapping: ['gemini-*', o3]}]\n";
    for (name, is_idle) in [
        ("claude-x", true),
        ("claude-*", true),
        ("gemini-2.5-pro", false),
        ("gem*", false),
        ("gemini-2*", false),
        ("*", false),
        ("o?", false),
    ] {
        let rule =
            format!("payload: {{default: [{{models: [{{name: '{name}'}}], params: {{a: 1}}}}]}}");
        let loaded = good(&format!("{provider}{rule}"));
        let warnings = warnings(&loaded).join("\n");
        assert_eq!(
            warnings.contains("no provider here"),
            is_idle,
            "{name}: {warnings}"
        );
    }
}

#[test]
fn the_summary_says_places_and_no_values() {
    let text = format!(
        "{PROVIDER}payload: {{override: [{{models: [{{name: 'claude-*', protocol: claude}}], when: {{stream: true}}, params: {{a.b: secret-1, c: 1}}}}]}}"
    );
    let summary = summary(&good(&text));
    let told = "payload    override[0] a.b, c for claude-* (claude), when stream true\n";
    assert!(summary.contains(told), "{summary}");
    assert!(!summary.contains("secret-1"), "{summary}");
}
