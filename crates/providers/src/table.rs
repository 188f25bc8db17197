//! The provider table: rows of `data/providers.toml`, read once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use polygate_wire::{Format, Quirks};
use serde::Deserialize;

use crate::forward::Forward;

/// One provider: everything that data can say about it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What configuration calls it.
    pub name: String,
    /// Other names it goes by.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Where its API is; `None` where every user has an address of their own.
    pub base: Option<String>,
    /// Host suffixes by which an address is known as this provider's, each with how its path begins where that matters.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Added to a base that has no version.
    #[serde(default = "v1")]
    pub version: String,
    /// Variables that hold a key, best first.
    #[serde(default)]
    pub env: Vec<String>,
    /// A key in one of them is enough to start with it where nothing is configured.
    #[serde(default = "yes")]
    pub starts: bool,
    /// Wire formats it speaks, best first.
    pub formats: Vec<Format>,
    /// How the key travels.
    pub auth: Auth,
    /// Name patterns that are surely its own.
    #[serde(default)]
    pub models: Vec<String>,
    /// Client headers that reach it.
    #[serde(default)]
    pub forward: Forward,
    /// Headers it always gets.
    #[serde(default)]
    pub defaults: BTreeMap<String, String>,
    /// The format in which it counts a request's tokens, where it does.
    pub counts: Option<Format>,
    /// Where it is unless configuration says otherwise: `{region}` in its address.
    pub region: Option<String>,
    /// Variables that name the region, best first.
    #[serde(default)]
    pub region_env: Vec<String>,
    /// Its chat takes `stream_options`.
    #[serde(default = "yes")]
    pub stream_options: bool,
    /// It tries further models itself: those of a request's `models`.
    #[serde(default)]
    pub further_models: bool,
    /// It is OpenAI's own: what rules mean by `openai`.
    #[serde(default)]
    pub openai: bool,
    /// It has OpenAI's legacy completions.
    #[serde(default = "yes")]
    pub completions: bool,
    /// How its dialect of OpenAI's formats differs from what most compatible providers speak.
    #[serde(default)]
    pub quirks: Quirks,
    /// The row whose quirks it has too, where it speaks the same dialect elsewhere.
    pub dialect: Option<String>,
    /// The row whose models and prices it has too: another address of theirs.
    pub vendor: Option<String>,
    /// The file that knows what the row cannot say.
    #[serde(default)]
    pub code: Code,
}

/// How a key travels.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// `Authorization: Bearer`.
    Bearer,
    /// `x-api-key`.
    XApiKey,
    /// `x-goog-api-key`.
    XGoogApiKey,
    /// `api-key`.
    ApiKey,
}

/// Which code serves a row.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// [`crate::compat`]: the row says everything.
    #[default]
    Compat,
    /// [`crate::azure`].
    Azure,
    /// [`crate::bedrock`].
    Bedrock,
}

#[derive(Deserialize)]
struct Table {
    provider: Vec<Row>,
}

static TABLE: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let table: Result<Table, _> = toml::from_str(include_str!("../data/providers.toml"));
    let mut rows = table
        .expect("the built-in provider table is valid: a test reads it")
        .provider;
    share_dialects(&mut rows);
    share_models(&mut rows);
    // What the native lane is not to add, the translated one is not to write.
    for row in rows.iter_mut().filter(|row| !row.stream_options) {
        row.quirks.refuses.push("stream_options".to_owned());
    }
    rows
});

fn share_dialects(rows: &mut [Row]) {
    let spoken: BTreeMap<String, Quirks> = rows
        .iter()
        .map(|row| (row.name.clone(), row.quirks.clone()))
        .collect();
    for row in rows {
        let shared = row.dialect.as_ref().and_then(|name| spoken.get(name));
        if let Some(shared) = shared {
            row.quirks = shared.clone();
        }
    }
}

fn share_models(rows: &mut [Row]) {
    let named: BTreeMap<String, Vec<String>> = rows
        .iter()
        .map(|row| (row.name.clone(), row.models.clone()))
        .collect();
    for row in rows {
        let shared = row.vendor.as_ref().and_then(|name| named.get(name));
        row.models.extend(shared.into_iter().flatten().cloned());
    }
}

/// All rows, in the file's order.
pub fn table() -> &'static [Row] {
    &TABLE
}

/// The row of this name or alias, upper and lower case alike.
pub fn row_named(name: &str) -> Option<&'static Row> {
    let is = |candidate: &String| candidate.eq_ignore_ascii_case(name);
    table()
        .iter()
        .find(|row| is(&row.name) || row.aliases.iter().any(is))
}

/// The row that is at this host and path: the one that says most of them.
pub fn row_at(host: &str, path: &str) -> Option<&'static Row> {
    let (host, path) = (host.to_ascii_lowercase(), path.trim_start_matches('/'));
    let fit = |place: &String| {
        let (suffix, begin) = place.split_once('/').unwrap_or((place, ""));
        let above = host.strip_suffix(suffix)?;
        let below = path.strip_prefix(begin)?;
        let is_host = above.is_empty() || above.ends_with('.');
        let is_path = begin.is_empty() || below.is_empty() || below.starts_with('/');
        (is_host && is_path).then_some(place.len())
    };
    let rows = table().iter();
    let rows = rows.filter_map(|row| Some((row.hosts.iter().filter_map(fit).max()?, row)));
    rows.max_by_key(|(length, _)| *length).map(|(_, row)| row)
}

fn yes() -> bool {
    true
}

fn v1() -> String {
    "/v1".to_owned()
}
