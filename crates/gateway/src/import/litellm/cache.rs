//! LiteLLM's cache: where answers are kept, and for how long.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{is_on, is_reference, text, time};
use crate::import::{At, Notes};

/// Who gets whose answers, where LiteLLM asks nobody.
const SHARE: &str =
    "cache: a key gets its own answers; LiteLLM's go to every key: cache.share: all";

/// Calls that LiteLLM keeps answers of unless `supported_call_types` says otherwise, as far as Polygate does too.
const KEPT: [&str; 3] = ["completion", "embedding", "text_completion"];

/// Reads `cache` and `cache_params`; what of the native file comes of it.
pub(super) fn read(section: &At<'_>, notes: &mut Notes) -> Map<String, Value> {
    let (cache, params) = (section.get("cache"), section.get("cache_params"));
    let mut out = Map::new();
    let is_off = cache.as_ref().is_none_or(|at| is_on(at) == Some(false));
    if is_off {
        if let Some(at) = &cache {
            notes.carried(at, "nothing is kept without cache.rules");
        }
        if let Some(at) = &params {
            notes.missing(at, "litellm_settings.cache is not on, so nothing is kept");
        }
        return out;
    }
    if let Some(at) = &cache {
        match is_on(at) {
            Some(_) => notes.changed(at, SHARE),
            None => notes.missing(at, "no switch"),
        }
    }
    let mut native = Map::new();
    let mut rule = Map::new();
    let entries = params.as_ref().map_or_else(Vec::new, At::entries);
    // As LiteLLM has it where nothing is said.
    native.insert("store".to_owned(), "redis".into());
    for (key, at) in entries.iter().filter(|(_, at)| !at.node.is_null()) {
        match *key {
            "type" => native.extend([("store".to_owned(), store(at, notes).into())]),
            "ttl" | "default_in_redis_ttl" | "default_in_memory_ttl" => {
                if let Some(time) = time(at, notes) {
                    notes.carried(at, "cache.ttl");
                    native.entry("ttl").or_insert(time);
                }
            }
            "mode" => mode(at, &mut rule, notes),
            "supported_call_types" => call_types(at, notes),
            "host" | "port" | "password" | "username" | "ssl" | "db" | "url" => {}
            "namespace" => notes.missing(
                at,
                "answers in Redis are under polygate:answers; cache.share says who gets whose",
            ),
            _ => notes.missing(at, "Polygate has none of this"),
        }
    }
    if native.get("store").is_some_and(|store| *store == "redis") {
        let url = params.as_ref().and_then(|params| redis_url(params, notes));
        out.extend(url.map(|url| ("redis_url".to_owned(), url.into())));
    }
    native.insert("rules".to_owned(), json!([rule]));
    out.insert("cache".to_owned(), native.into());
    out
}

fn store(at: &At<'_>, notes: &mut Notes) -> &'static str {
    match at.text().unwrap_or_default() {
        "local" => {
            notes.carried(at, "cache.store: memory");
            "memory"
        }
        "redis" => {
            notes.carried(at, "cache.store: redis");
            "redis"
        }
        said => {
            let what = match said.ends_with("semantic") {
                true => "only what is asked in the very same words has the same answer",
                false => "answers are kept in memory or in Redis",
            };
            notes.changed(at, format!("cache.store: memory; {what}"));
            "memory"
        }
    }
}

fn mode(at: &At<'_>, rule: &mut Map<String, Value>, notes: &mut Notes) {
    match at.text().unwrap_or_default() {
        "default_on" => notes.carried(at, "cache.rules"),
        "default_off" => {
            notes.changed(
                at,
                "cache.rules: on_request; requests say x-polygate-cache: on where they said use-cache",
            );
            rule.insert("on_request".to_owned(), true.into());
        }
        _ => notes.missing(at, "no such mode"),
    }
}

/// Which of those that answers are kept of.
fn call_types(at: &At<'_>, notes: &mut Notes) {
    let items = at.items();
    let named: Vec<&str> = items.iter().filter_map(At::text).collect();
    let has = |kind: &str| {
        let is = |name: &&str| *name == kind || name.strip_prefix('a') == Some(kind);
        named.iter().any(is)
    };
    match KEPT.iter().all(|kind| has(kind)) {
        true => notes.carried(at, "chats, completions and embeddings are what answers are kept of"),
        false => notes.missing(
            at,
            "answers of chats, completions and embeddings are kept alike: cache.rules, when: {endpoints: […]}, says of which",
        ),
    }
}

/// The Redis that the parameters name; `None`: whichever REDIS_URL does.
fn redis_url(params: &At<'_>, notes: &mut Notes) -> Option<String> {
    if let Some(at) = params.get("url") {
        let url = text(&at)?;
        notes.changed(&at, "redis_url: limits are shared by replicas there too");
        return Some(url);
    }
    let said = |key| params.get(key).and_then(|at| Some((text(&at)?, at)));
    let Some((host, at)) = said("host") else {
        notes.general(
            "litellm_settings.cache_params",
            "no host of a Redis is named: set REDIS_URL",
        );
        return None;
    };
    notes.changed(&at, "redis_url: limits are shared by replicas there too");
    let is_tls = params.get("ssl").as_ref().and_then(is_on) == Some(true);
    let mut url = String::from(if is_tls { "rediss://" } else { "redis://" });
    for (key, mark) in [("username", ""), ("password", ":")] {
        if let Some((text, at)) = said(key) {
            let message = match is_reference(&text) {
                true => "in redis_url: percent-encode in the variable what an address cannot have",
                false => {
                    "in redis_url; it stands in the file, and in the new one: put it into a variable, and ${NAME} here"
                }
            };
            notes.changed(&at, message);
            let _ = write!(url, "{mark}{}", encoded(&text));
        }
    }
    if said("username").is_some() || said("password").is_some() {
        url.push('@');
    }
    url.push_str(&host);
    for (key, mark) in [("port", ':'), ("db", '/')] {
        if let Some((text, at)) = said(key) {
            notes.carried(&at, "in redis_url");
            let _ = write!(url, "{mark}{text}");
        }
    }
    Some(url)
}

/// As addresses have it; references stay.
fn encoded(text: &str) -> String {
    if is_reference(text) {
        return text.to_owned();
    }
    let mut out = String::new();
    for byte in text.replace("$$", "$").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
