//! `cache`: rules with what they have of their own, and what cannot be meant.

use std::time::Duration;

use polygate::config::summary;
use polygate_engine::config::{CacheStore, Share};

use crate::{good, good_with, report};

#[test]
fn rules_have_what_the_section_says_unless_they_say_it_themselves() {
    let text = "cache: {ttl: 1m, share: team, max_bytes: 1MiB, max_entry: 1KiB, rules: [{}, {when: {models: [m]}, ttl: 2s, share: all, coalesce: true, on_request: true}]}";
    let loaded = good(text);
    let cache = loaded.config.cache.as_ref().expect("a cache");
    assert_eq!(
        (cache.store, cache.max_bytes, cache.max_entry),
        (CacheStore::Memory, 1 << 20, 1024)
    );
    let rules: Vec<_> = cache
        .rules
        .iter()
        .map(|rule| (rule.ttl, rule.share, rule.coalesce, rule.on_request))
        .collect();
    let (minute, two) = (Duration::from_secs(60), Duration::from_secs(2));
    assert_eq!(
        rules,
        [
            (minute, Share::Team, false, false),
            (two, Share::All, true, true)
        ]
    );
    let summary = summary(&loaded);
    for line in [
        "cache      in memory, 1048576 bytes, answers of up to 1024 bytes\n",
        "cache      every call: 60s, shared by team\n",
        "cache      models m: 2s, shared by all, coalesced, on request\n",
    ] {
        assert!(summary.contains(line), "{line} in {summary}");
    }
}

#[test]
fn nothing_is_kept_unless_asked_for() {
    for text in [
        "",
        "cache: {enabled: false}",
        "cache: {enabled: false, store: redis, rules: [{}]}",
    ] {
        assert!(good(text).config.cache.is_none(), "{text}");
    }
}

#[test]
fn answers_are_kept_in_a_redis_that_there_is() {
    let text = "cache: {store: redis, rules: [{}]}";
    assert_eq!(
        report(text),
        "cache.store: there is no Redis: set REDIS_URL or redis_url"
    );
    good_with(text, &[("REDIS_URL", "redis://127.0.0.1:1")]);
    good(&format!("redis_url: redis://127.0.0.1:1\n{text}"));
}

#[test]
fn what_cannot_be_meant_is_told() {
    for (text, expected) in [
        ("cache: {}", "cache.rules: is missing"),
        ("cache: {rules: []}", "cache.rules: is missing"),
        (
            "cache: {rules: [{tll: 1}]}",
            "cache.rules[0].tll: unknown key; did you mean 'ttl'?",
        ),
        (
            "cache: {ttl: 0, rules: [{}]}",
            "cache.ttl: must be more than zero",
        ),
        ("cache: {store: disk, rules: [{}]}", "cache.store: "),
        (
            "cache: {max_entry: 2MiB, max_bytes: 1MiB, rules: [{}]}",
            "cache.max_entry: is more than",
        ),
        (
            "cache: {rules: [{share: nobody}]}",
            "cache.rules[0].share: ",
        ),
        (
            "cache: {rules: [{when: {model: [m]}}]}",
            "cache.rules[0].when.model: unknown key",
        ),
    ] {
        let report = report(text);
        assert!(
            report.contains(expected) && report.lines().count() == 1,
            "{text}: {report}"
        );
    }
}
