//! What LiteLLM says that a model costs, by the token: as a target's `price`, by the million.

use polygate_providers::catalogue::Catalogue;
use polygate_providers::row_named;
use serde_json::{Map, Value, json};

use crate::config::objects::amounts;
use crate::import::{At, Notes};

/// LiteLLM's rates and ours.
const RATES: [(&str, &str); 8] = [
    ("input_cost_per_token", "input"),
    ("output_cost_per_token", "output"),
    ("cache_read_input_token_cost", "cache_read"),
    ("cache_creation_input_token_cost", "cache_write"),
    (
        "cache_creation_input_token_cost_above_1hr",
        "cache_write_1h",
    ),
    ("output_cost_per_reasoning_token", "reasoning"),
    ("input_cost_per_audio_token", "input_audio"),
    ("output_cost_per_audio_token", "output_audio"),
];

/// A price while it is read.
#[derive(Debug, Default)]
pub struct Price(Map<String, Value>);

impl Price {
    /// Reads a rate; whether the key is that of one.
    pub fn read(&mut self, key: &str, at: &At<'_>, notes: &mut Notes) -> bool {
        let Some((rate, above)) = rate(key) else {
            return false;
        };
        match (per_million(at), above) {
            (None, _) => notes.missing(at, "no price"),
            (Some(dollars), None) => {
                self.0.insert(rate.to_owned(), dollars);
            }
            (Some(dollars), Some(above)) => self.long(rate, above, dollars, at, notes),
        }
        true
    }

    /// The rate of long prompts, of which there is one kind.
    fn long(&mut self, rate: &str, above: u64, dollars: Value, at: &At<'_>, notes: &mut Notes) {
        let long = self.0.entry("long_prompt");
        let long = long.or_insert_with(|| json!({ "above": above }));
        match long {
            Value::Object(long) if long.get("above") == Some(&above.into()) => {
                long.insert(rate.to_owned(), dollars);
            }
            _ => notes.missing(at, "a price has one length from which prompts are long"),
        }
    }

    /// Whether nothing is said yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The catalogue's price of another model, where it has one.
    pub fn of(row: &str, model: &str) -> Option<Self> {
        let listing = Catalogue::built_in().listing(row_named(row)?, model)?;
        Some(Self(amounts(&listing.price?)))
    }

    /// As a target has it; `None` where it is none.
    pub fn finish(self, entry: &At<'_>, notes: &mut Notes) -> Option<Value> {
        let is_whole = ["input", "output"]
            .iter()
            .all(|rate| self.0.contains_key(*rate));
        if !is_whole && !self.0.is_empty() {
            let message = "a price needs both input and output: the catalogue's is used";
            notes.missing(entry, message);
        }
        is_whole.then_some(Value::Object(self.0))
    }
}

/// Our rate of this key, and the length of prompts from which it counts.
fn rate(key: &str) -> Option<(&'static str, Option<u64>)> {
    let ours = |key: &str| {
        let found = RATES.iter().find(|(theirs, _)| *theirs == key);
        found.map(|(_, ours)| *ours)
    };
    if let Some(rate) = ours(key) {
        return Some((rate, None));
    }
    let (key, above) = key.strip_suffix("k_tokens")?.rsplit_once("_above_")?;
    let above: u64 = above.parse().ok()?;
    Some((ours(key)?, Some(above.checked_mul(1000)?)))
}

/// USD a token → USD a million tokens.
fn per_million(at: &At<'_>) -> Option<Value> {
    let rate: f64 = at.text()?.parse().ok()?;
    let rate = (rate * 1e12).round() / 1e6;
    (0.0..1e6).contains(&rate).then(|| json!(rate))
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn rates_are_known_by_their_keys() {
        for (key, expected) in [
            ("input_cost_per_token", Some(("input", None))),
            (
                "output_cost_per_token_above_200k_tokens",
                Some(("output", Some(200_000))),
            ),
            (
                "cache_creation_input_token_cost_above_1hr",
                Some(("cache_write_1h", None)),
            ),
            ("input_cost_per_second", None),
            ("input_cost_per_token_above_k_tokens", None),
        ] {
            assert_eq!(rate(key), expected, "{key}");
        }
    }
}
