//! Who may call: `master_keys` and `allow_anonymous`.

use polygate_core::Secret;
use polygate_engine::admit::Hash;
use polygate_engine::config::{Access, Allowance, Key, RateLimit};
use polygate_engine::pattern::Pattern;
use polygate_engine::quota::{Measure, Period};
use polygate_store::Sealer;

use crate::config::names::Named;
use crate::config::pieces::{max_concurrent, patterns};
use crate::config::reader::{Item, Section};
use crate::config::yaml::Kind;

/// Burst of a rate limit that names none, as published.
const BURST: u32 = 10;

/// The keys, and whether it takes any.
pub fn read(top: &Section<'_>) -> Access {
    let allow_anonymous = top.boolean("allow_anonymous").unwrap_or(false);
    let section = top.item("master_keys");
    let keys = section.map(|section| {
        let items = section.list().into_iter().enumerate();
        items.filter_map(|(at, item)| key(at, &item)).collect()
    });
    if allow_anonymous && keys.is_some() {
        top.warn(
            "allow_anonymous",
            "has no effect: master_keys says who may call",
        );
    }
    Access {
        keys,
        allow_anonymous,
    }
}

fn key(at: usize, item: &Item<'_>) -> Option<Key> {
    let section = item.section()?;
    let name = section
        .text("name")
        .unwrap_or_else(|| format!("key-{}", at + 1));
    let key = section.required("key").and_then(|item| item.secret());
    let described = described(section, name);
    let key = Key {
        key: key?,
        ..described
    };
    let named = Named::new(&key.name, &item.spot);
    item.names().borrow_mut().keys.push(named);
    Some(key)
}

/// A key of which only the keyed hash is known, with that.
pub fn hashed(name: &str, item: &Item<'_>) -> Option<(Hash, Key)> {
    let section = item.section()?;
    // For people, and for those who look at it.
    section.item("name");
    section.item("key_preview");
    let hash = section.required("key_hash").and_then(|item| {
        item.parsed("a keyed hash of 64 hexadecimal digits", |text| {
            Sealer::hash_of(text)
        })
    });
    Some((hash?, described(section, name.to_owned())))
}

/// What else there is to say of a key.
fn described(section: Section<'_>, name: String) -> Key {
    section.item("description");
    let enabled = section.boolean("enabled").unwrap_or(true);
    let allowed_models = patterns(&section, "allowed_models", Pattern::mapping);
    let strict = section.boolean("strict").unwrap_or(false);
    let rate_limit = section
        .item("rate_limit")
        .and_then(|item| rate_limit(&item));
    let max_concurrent = max_concurrent(&section);
    let limits = section.section("limits").map(limits).unwrap_or_default();
    section.finish();
    Key {
        name,
        key: Secret::new(""),
        enabled,
        strict,
        allowed_models,
        rate_limit,
        max_concurrent,
        limits,
    }
}

/// What may be limited, by key.
const LIMITS: [(&str, Measure, Period); 4] = [
    ("requests_per_minute", Measure::Requests, Period::Minute),
    ("requests_per_day", Measure::Requests, Period::Day),
    ("tokens_per_minute", Measure::Tokens, Period::Minute),
    ("tokens_per_day", Measure::Tokens, Period::Day),
];

fn limits(section: Section<'_>) -> Vec<Allowance> {
    let allowances = LIMITS.into_iter().filter_map(|(key, measure, period)| {
        Some(Allowance {
            measure,
            period,
            most: section.number(key)?,
        })
    });
    let allowances = allowances.collect();
    section.finish();
    allowances
}

/// Requests per second; a number alone is their burst too, as llm-proxy has it.
fn rate_limit(item: &Item<'_>) -> Option<RateLimit> {
    if matches!(item.node.kind, Kind::Scalar { .. }) {
        let number = item.parsed(
            "a whole number, or requests_per_second and burst_size",
            |text| text.parse().ok(),
        );
        return number.map(|number| RateLimit {
            requests_per_second: number,
            burst_size: number,
        });
    }
    let section = item.section()?;
    section.required("requests_per_second");
    let requests_per_second = section.number("requests_per_second");
    let burst_size = section.number("burst_size").unwrap_or(BURST);
    section.finish();
    Some(RateLimit {
        requests_per_second: requests_per_second?,
        burst_size,
    })
}
