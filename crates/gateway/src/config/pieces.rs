//! Pieces that several dialects have.

use std::collections::BTreeMap;
use std::fmt::Display;

use polygate_core::Secret;
use polygate_engine::config::{
    Affinity, Credential, Deadlines, Hedge, HedgeAfter, Provider, Proxy, Way, WireApi,
};
use polygate_engine::pattern::Pattern;
use polygate_providers::Price;
use polygate_providers::forward::Never;
use polygate_providers::price::{Long, Rates, millionths};

use super::headers::refusal;
use super::reader::{Item, Section};
use super::values;
use super::yaml::Kind;

/// Names of OpenAI's two interfaces.
pub const WIRE_APIS: [(&str, WireApi); 2] =
    [("chat", WireApi::Chat), ("responses", WireApi::Responses)];

/// The most headers that a provider's requests get: a header map of very many panics.
const HEADERS: usize = 100;

/// Puts a value where the file has one.
pub fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// A pattern of this syntax; a bad one is told.
pub fn pattern<E: Display>(
    item: &Item<'_>,
    text: &str,
    syntax: fn(&str) -> Result<Pattern, E>,
) -> Option<Pattern> {
    match syntax(text) {
        _ if text.is_empty() => {
            item.error("is empty");
            None
        }
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let error = error.to_string();
            // The regex crate draws a picture first.
            let reason = error.lines().last().unwrap_or_default();
            let reason = reason.trim().trim_start_matches("error: ");
            item.error(format!("'{text}' is no valid pattern: {reason}"));
            None
        }
    }
}

/// Patterns of a list.
pub fn patterns<E: Display>(
    section: &Section<'_>,
    key: &'static str,
    syntax: fn(&str) -> Result<Pattern, E>,
) -> Vec<Pattern> {
    let items = section.items(key);
    let items = items.iter();
    items
        .filter_map(|item| pattern(item, item.text()?.trim(), syntax))
        .collect()
}

/// `max_concurrent`: how many calls at a time.
pub fn max_concurrent(section: &Section<'_>) -> Option<usize> {
    at_least_one(section, "max_concurrent")
}

/// A limit that can be left out.
pub fn at_least_one(section: &Section<'_>, key: &'static str) -> Option<usize> {
    let number = section.number(key)?;
    if number == 0 {
        section.error(
            key,
            "must be at least 1; leave it out for no limit of its own",
        );
    }
    Some(number)
}

/// How many of a hundred calls may have a second attempt unless the file says.
const HEDGED: u32 = 5;

/// `hedge`: a second attempt beside a slow first one.
pub fn hedge(section: &Section<'_>) -> Option<Hedge> {
    let item = section.item("hedge")?;
    let entry = item.section()?;
    let after = entry.required("after").and_then(|item| hedge_after(&item));
    let max_percent = entry.number("max_percent").unwrap_or(HEDGED);
    if max_percent > 100 {
        entry.error("max_percent", "must be at most 100");
    }
    entry.finish();
    Some(Hedge {
        after: after?,
        max_percent,
    })
}

/// A time, or the word for what the target itself usually takes.
fn hedge_after(item: &Item<'_>) -> Option<HedgeAfter> {
    let expected = "p95, or a time that is more than zero, such as 800ms or 5s";
    item.parsed(expected, |text| match text {
        "p95" => Some(HedgeAfter::P95),
        _ => values::duration(text)
            .filter(|time| !time.is_zero())
            .map(HedgeAfter::Time),
    })
}

/// `timeouts` of something that has some of its own.
pub fn deadlines(section: &Section<'_>, has_total: bool) -> Deadlines {
    let Some(section) = section.section("timeouts") else {
        return Deadlines::default();
    };
    let deadlines = Deadlines {
        first_event: section.patience("first_event"),
        idle: section.patience("idle"),
        request: section.patience("request"),
        total: has_total.then(|| section.patience("total")).flatten(),
    };
    section.finish();
    deadlines
}

/// `price`: USD per million tokens, by tier.
pub fn price(section: &Section<'_>) -> Option<Price> {
    let entry = section.section("price")?;
    let price = rates_of(&entry);
    entry.finish();
    price
}

/// What stands in `price`, or in a document of a price.
pub fn rates_of(entry: &Section<'_>) -> Option<Price> {
    let usual = rates(entry);
    let long = entry.section("long_prompt").and_then(|entry| {
        entry.required("above");
        let (above, long) = (entry.number("above"), rates(&entry));
        entry.finish();
        let rates = long?.or(&usual?);
        Some(Long {
            above: above?,
            rates,
        })
    });
    usual.map(|rates| Price { rates, long })
}

fn rates(section: &Section<'_>) -> Option<Rates> {
    let rate = |key: &'static str| {
        let in_dollars = |text: &str| text.parse().ok().and_then(millionths);
        section
            .item(key)?
            .parsed("in USD per million tokens, zero or more", in_dollars)
    };
    section.required("input");
    section.required("output");
    let (input, output) = (rate("input"), rate("output"));
    let parts = Rates {
        cache_read: rate("cache_read"),
        cache_write: rate("cache_write"),
        cache_write_1h: rate("cache_write_1h"),
        input_audio: rate("input_audio"),
        output_audio: rate("output_audio"),
        reasoning: rate("reasoning"),
        ..Rates::default()
    };
    Some(Rates {
        input: input?,
        output: output?,
        ..parts
    })
}

/// What keeps calls together, as words.
const AFFINITIES: [(&str, Affinity); 4] = [
    ("off", affinity_of(false, false)),
    ("session", affinity_of(true, false)),
    ("prefix", affinity_of(false, true)),
    ("session-or-prefix", affinity_of(true, true)),
];

const fn affinity_of(session: bool, prefix: bool) -> Affinity {
    Affinity { session, prefix }
}

/// `affinity`: a word, or a list of them.
pub fn affinity(section: &Section<'_>) -> Option<Affinity> {
    let item = section.item("affinity")?;
    let Kind::List(_) = &item.node.kind else {
        return item.word(&AFFINITIES);
    };
    let items = item.list();
    let words = items.iter().filter_map(|item| item.word(&AFFINITIES));
    Some(words.fold(Affinity::default(), |all, one| {
        affinity_of(all.session || one.session, all.prefix || one.prefix)
    }))
}

/// A mapping of header names to values.
pub fn headers(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let Some(map) = section.section(key) else {
        return BTreeMap::new();
    };
    let entries = map.entries();
    if entries.len() > HEADERS {
        section.error(key, format!("must not have more than {HEADERS} headers"));
        return BTreeMap::new();
    }
    let mut headers = BTreeMap::new();
    for (name, item) in entries {
        let name = name.to_ascii_lowercase();
        match Never::of(&name) {
            Some(never @ Never::Framing) => item.error(refusal(never)),
            _ => {
                headers.extend(item.text().map(|value| (name, value)));
            }
        }
    }
    headers
}

/// A proxy's address; an empty one is no proxy. What is wrong is told without the address: there may be a password in it.
pub fn way(section: &Section<'_>, key: &'static str) -> Option<Way> {
    let item = section.item(key)?;
    let text = item.text()?;
    let text = text.trim();
    if matches!(text, "" | "direct" | "none") {
        return Some(Way::Direct);
    }
    match Proxy::parse(text) {
        Ok(proxy) => Some(Way::Through(proxy)),
        Err(error) => {
            item.error(error);
            None
        }
    }
}

/// The provider's next key, by its number unless it has a name.
pub fn add_key(provider: &mut Provider, api_key: Secret) {
    let name = format!("{}#{}", provider.name, provider.credentials.len() + 1);
    provider.credentials.push(Credential::new(name, api_key));
}

/// Puts a provider into the configuration, or among those that are absent.
pub fn keep(section: &Section<'_>, provider: Provider, is_sound: bool) -> Option<Provider> {
    let names = &mut section.reading.names.borrow_mut();
    if is_sound {
        let named = super::names::Named::new(&provider.name, &section.spot);
        names.providers.push(named);
        Some(provider)
    } else {
        names.absent.push(provider.name);
        None
    }
}

/// So long a text may be that is looked for.
const WORD: usize = 1024;

/// Texts to be looked for.
pub fn words(section: &Section<'_>, key: &'static str) -> Vec<String> {
    let items = section.items(key);
    let word = |item: &Item<'_>| {
        let word = item.text()?;
        let is_good = (1..=WORD).contains(&word.trim().len());
        if !is_good {
            item.error(format!("must have 1 to {WORD} bytes"));
        }
        is_good.then_some(word)
    };
    items.iter().filter_map(word).collect()
}
