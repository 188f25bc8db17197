//! The table of prices, made of LiteLLM's model price map: the same file always makes the same table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// Rows of our table, and what the price map calls them.
const ROWS: [(&str, &[&str]); 39] = [
    ("aihubmix", &["aihubmix"]),
    ("alibaba", &["dashscope"]),
    ("anthropic", &["anthropic"]),
    ("azure", &["azure"]),
    ("baseten", &["baseten"]),
    ("bedrock", &["bedrock", "bedrock_converse"]),
    ("cerebras", &["cerebras"]),
    ("cloudflare", &["cloudflare"]),
    ("cohere", &["cohere_chat"]),
    ("databricks", &["databricks"]),
    ("deepinfra", &["deepinfra"]),
    ("deepseek", &["deepseek"]),
    ("fireworks", &["fireworks_ai"]),
    ("friendli", &["friendliai"]),
    ("gemini", &["gemini"]),
    ("gmicloud", &["gmi"]),
    ("groq", &["groq"]),
    ("hunyuan", &["tencent"]),
    ("hyperbolic", &["hyperbolic"]),
    ("inception", &["inception"]),
    ("llama", &["meta"]),
    ("minimax", &["minimax"]),
    ("mistral", &["mistral"]),
    ("moonshot", &["moonshot"]),
    ("morph", &["morph"]),
    ("nebius", &["nebius"]),
    ("novita", &["novita"]),
    ("openai", &["openai"]),
    ("ovhcloud", &["ovhcloud"]),
    ("perplexity", &["perplexity"]),
    ("sambanova", &["sambanova"]),
    ("scaleway", &["scaleway"]),
    ("together", &["together_ai"]),
    ("vercel", &["vercel_ai_gateway"]),
    ("volcengine", &["volcengine"]),
    ("wandb", &["wandb"]),
    ("xai", &["xai"]),
    ("xiaomi", &["xiaomi_mimo"]),
    ("zai", &["zai"]),
];

/// Rows whose lists have single regions, as the beginning of a path: `eu/gpt-4o`.
const REGIONAL: [&str; 2] = ["azure", "bedrock"];

/// The row whose names begin with the place that answers, and what is taken where a name is not listed without: the list price.
const PLACED: &str = "bedrock";
const PLACES: [&str; 9] = [
    "global.", "us.", "eu.", "apac.", "us-gov.", "jp.", "au.", "ca.", "sa.",
];

/// What the map calls kinds of models that chat.
const MODES: [&str; 3] = ["chat", "responses", "completion"];

/// Micro-dollars per million tokens, for what is priced in dollars a token.
const SCALE: f64 = 1e12;

type Table = BTreeMap<&'static str, BTreeMap<String, [u64; 2]>>;

/// Reads the map and writes the table.
pub fn make(root: &Path, file: &Path, source: &str) -> Result<(), String> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let map: Value = serde_json::from_str(&text).map_err(|error| format!("{shown}: {error}"))?;
    // The map itself, or beside other members.
    let models = map.get("models").unwrap_or(&map).as_object();
    let models = models.ok_or_else(|| format!("{shown}: is no map of models"))?;
    let table = root.join("crates/providers/data/prices.toml");
    fs::write(&table, written(&read(models), source))
        .map_err(|error| format!("{}: {error}", table.display()))
}

fn read(models: &Map<String, Value>) -> Table {
    let mut table = Table::new();
    for (row, vendors) in ROWS {
        // By how far a name is from what the provider calls the model: the nearest counts.
        let mut found: BTreeMap<String, (usize, [u64; 2])> = BTreeMap::new();
        for (name, model) in models {
            let listed = vendors
                .iter()
                .find(|vendor| model["litellm_provider"] == **vendor);
            let Some((vendor, price)) = listed.zip(price(model)) else {
                continue;
            };
            let own = name
                .strip_prefix(vendor)
                .and_then(|name| name.strip_prefix('/'));
            let Some((rank, name)) = named(row, own.unwrap_or(name)) else {
                continue;
            };
            let known = found.get(name).map_or(usize::MAX, |(rank, _)| *rank);
            if rank < known {
                found.insert(name.to_owned(), (rank, price));
            }
        }
        let prices = found.into_iter().map(|(name, (_, price))| (name, price));
        table.insert(row, prices.collect());
    }
    table
}

/// The name without its place, and how much the place says against it; `None` where its price is that of a few.
fn named<'a>(row: &str, name: &'a str) -> Option<(usize, &'a str)> {
    let is_tuned = name.starts_with("ft:");
    if is_tuned || (REGIONAL.contains(&row) && name.contains('/')) {
        return None;
    }
    let places = PLACES.iter().enumerate().filter(|_| row == PLACED);
    let placed = places
        .filter_map(|(at, place)| Some((at + 1, name.strip_prefix(place)?)))
        .next();
    Some(placed.unwrap_or((0, name)))
}

/// Input and output; `None` where it does not chat, or costs nothing as far as the list knows.
fn price(model: &Value) -> Option<[u64; 2]> {
    let mode = model["mode"].as_str()?;
    if !MODES.contains(&mode) {
        return None;
    }
    let of = |member: &str| Some((model[member].as_f64()? * SCALE).round() as u64);
    let price = [of("input_cost_per_token")?, of("output_cost_per_token")?];
    (price != [0, 0]).then_some(price)
}

fn written(table: &Table, source: &str) -> String {
    let mut text = format!(
        "# What models cost: row, model, and USD per million tokens of input and of output, in millionths of a dollar.
#
# List prices of models that chat, without discounts for caches, batches, tiers or single regions. Facts as listed by LiteLLM's
# model price map (MIT) of {source}, taken for the providers of our table; names are those that the
# provider's own interface takes. Only used to compare (`strategy: cheapest`): `price` in the configuration is stronger.
#
# Made by `cargo run -p xtask -- prices FILE SOURCE` of that map (model_prices_and_context_window.json); not edited by hand.
"
    );
    for (row, prices) in table {
        let _ = write!(text, "\n[{row}]\n");
        for (name, [input, output]) in prices {
            let _ = writeln!(text, "{} = [{input}, {output}]", Value::from(name.as_str()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_price_of_what_chats_is_taken() {
        let map = serde_json::json!({
            "sample_spec": {"litellm_provider": "one of them", "mode": "chat"},
            "gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05},
            "ft:gpt-4o": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-05},
            "whisper-1": {"litellm_provider": "openai", "mode": "audio_transcription", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
            "groq/a/b": {"litellm_provider": "groq", "mode": "chat", "input_cost_per_token": 1e-07, "output_cost_per_token": 3e-07},
            "groq/free": {"litellm_provider": "groq", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0.0},
            "azure/eu/gpt-4o": {"litellm_provider": "azure", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
            "us.x.one": {"litellm_provider": "bedrock_converse", "mode": "chat", "input_cost_per_token": 3e-06, "output_cost_per_token": 3e-06},
            "x.one": {"litellm_provider": "bedrock", "mode": "chat", "input_cost_per_token": 2e-06, "output_cost_per_token": 2e-06},
            "us.x.two": {"litellm_provider": "bedrock_converse", "mode": "chat", "input_cost_per_token": 3e-06, "output_cost_per_token": 3e-06},
            "global.x.two": {"litellm_provider": "bedrock_converse", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
        });
        let table = read(map.as_object().expect("a map"));
        let all: Vec<_> = table
            .iter()
            .flat_map(|(row, prices)| {
                prices
                    .iter()
                    .map(move |(name, price)| (*row, &**name, *price))
            })
            .collect();
        assert_eq!(
            all,
            [
                ("bedrock", "x.one", [2_000_000, 2_000_000]),
                ("bedrock", "x.two", [1_000_000, 1_000_000]),
                ("groq", "a/b", [100_000, 300_000]),
                ("openai", "gpt-4o", [2_500_000, 10_000_000]),
            ]
        );
    }
}
