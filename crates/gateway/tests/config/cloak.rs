//! Cloaks of providers, in the words of both dialects.

use polygate::config::summary;
use polygate_engine::config::{Cloak, CloakMode, UserId};

use crate::{good, report, warnings};

fn cloak(text: &str) -> Option<Cloak> {
    good(text).config.providers.remove(0).cloak
}

#[test]
fn both_dialects_say_it_in_their_words() {
    let expected = Cloak {
        mode: CloakMode::Auto,
        system_prompt: Some("Ours.".to_owned()),
        strict: true,
        user_id: UserId::PerRequest,
        headers: [("x-title".to_owned(), "Example".to_owned())].into(),
        sensitive_words: vec!["Aurora".to_owned()],
    };
    let kebab = "{mode: auto, system-prompt: Ours., strict-mode: true, user-id: per-request, headers: {X-Title: Example}, sensitive-words: [Aurora]}";
    let snake = kebab
        .replace("system-", "system_")
        .replace("strict-", "strict_")
        .replace("user-", "user_")
        .replace("per-", "per_")
        .replace("sensitive-", "sensitive_");
    for text in [
        format!("providers: [{{name: openai, api_key: k, cloak: {kebab}}}]"),
        format!("providers: [{{name: openai, api_key: k, cloak: {snake}}}]"),
        format!("claude-api-key: [{{api-key: k, cloak: {kebab}}}]"),
        format!("openai-api-key: [{{api-key: k, cloak: {kebab}}}]"),
        format!("gemini-api-key: [{{api-key: k, cloak: {kebab}}}]"),
        format!("openai-compatibility: [{{api-key: k, base-url: 'http://h', cloak: {kebab}}}]"),
    ] {
        assert_eq!(cloak(&text).as_ref(), Some(&expected), "{text}");
    }
    let unset = cloak("providers: [{name: openai, api_key: k, cloak: {mode: always}}]");
    let unset = unset.expect("a cloak");
    assert_eq!((unset.user_id, unset.strict), (UserId::PerKey, false));
    assert_eq!(cloak("providers: [{name: openai, api_key: k}]"), None);
}

#[test]
fn what_cannot_be_meant_is_told() {
    for (cloak, told) in [
        ("{mode: sometimes}", "cloak.mode: must be one of: never"),
        ("{user-id: mine}", "cloak.user-id: must be one of: none"),
        (
            "{mode: always, headers: {Authorization: x}}",
            "cloak.headers: 'authorization' is no header of who calls",
        ),
        (
            "{mode: always, headers: {'a b': x}}",
            "cloak.headers: 'a b' is no header of who calls",
        ),
        (
            "{mode: always, sensitive-words: [' ']}",
            "cloak.sensitive-words[0]: must have 1 to 1024 bytes",
        ),
        (
            "{mode: always, system-promt: x}",
            "unknown key; did you mean 'system-prompt'?",
        ),
        (
            "{mode: always, headers: {x-title: \"a\\nb\"}}",
            "the value of header 'x-title' is not allowed",
        ),
    ] {
        let report = report(&format!(
            "providers: [{{name: openai, api_key: k, cloak: {cloak}}}]"
        ));
        assert!(report.contains(told), "{cloak}: {report}");
    }
}

#[test]
fn what_has_no_effect_is_warned_of() {
    for (cloak, told) in [
        ("{system-prompt: x}", "cloak.mode: is 'never' unless set"),
        (
            "{mode: always, strict-mode: true}",
            "cloak.strict-mode: has no effect",
        ),
    ] {
        let loaded = good(&format!(
            "providers: [{{name: openai, api_key: k, cloak: {cloak}}}]"
        ));
        let warnings = warnings(&loaded).join("\n");
        assert!(warnings.contains(told), "{cloak}: {warnings}");
    }
}

#[test]
fn the_summary_says_what_a_provider_is_told() {
    let text = "
providers:
  - {name: openai, api_key: k, cloak: {mode: always, system-prompt: Ours., headers: {x-title: secret-1}}}
  - {name: gemini, api_key: k, cloak: {mode: never, system-prompt: Ours.}}
";
    let summary = summary(&good(text));
    let told = "cloak always (end user per-key, its own instructions first, headers x-title)";
    assert!(summary.contains(told), "{summary}");
    assert_eq!(summary.matches("cloak a").count(), 1, "{summary}");
    assert!(!summary.contains("secret-1"), "{summary}");
}
