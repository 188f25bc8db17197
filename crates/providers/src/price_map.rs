//! LiteLLM's map of models and prices, as a catalogue: the same map always makes the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;

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
    ("cohere", &["cohere_chat", "cohere"]),
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

/// And those that answer with numbers, whose answers cost nothing.
const EMBEDDING: &str = "embedding";

/// Micro-dollars per million tokens, for what is priced in dollars a token.
const SCALE: f64 = 1e12;

/// What a price is of: our word and the map's.
const TIERS: [(&str, &str); 8] = [
    ("in", INPUT),
    ("out", OUTPUT),
    ("read", "cache_read_input_token_cost"),
    ("write", "cache_creation_input_token_cost"),
    ("write_1h", "cache_creation_input_token_cost_above_1hr"),
    ("audio_in", "input_cost_per_audio_token"),
    ("audio_out", "output_cost_per_audio_token"),
    ("reasoning", "output_cost_per_reasoning_token"),
];
const INPUT: &str = "input_cost_per_token";
const OUTPUT: &str = "output_cost_per_token";

/// How a call is served: our word, with a space, and the end of the map's.
const SERVED: [(&str, &str); 4] = [
    ("", ""),
    ("batch ", "_batches"),
    ("flex ", "_flex"),
    ("priority ", "_priority"),
];

/// What a model can do: our word and the map's.
const CAPABILITIES: [(&str, &str); 7] = [
    ("tools", "supports_function_calling"),
    ("vision", "supports_vision"),
    ("reasoning", "supports_reasoning"),
    ("structured", "supports_response_schema"),
    ("audio_in", "supports_audio_input"),
    ("audio_out", "supports_audio_output"),
    ("pdf", "supports_pdf_input"),
];

type Table = BTreeMap<&'static str, BTreeMap<String, String>>;

/// The catalogue that a price map makes; or what is wrong with it.
pub fn catalogue(map: &Value, date: &str, source: &str) -> Result<String, String> {
    // The map itself, or beside other members.
    let models = map.get("models").unwrap_or(map).as_object();
    let models = models.ok_or("it is no map of models")?;
    Ok(written(&read(models), date, source))
}

fn read(models: &Map<String, Value>) -> Table {
    let mut table = Table::new();
    for (row, vendors) in ROWS {
        // By how far a name is from what the provider calls the model: the nearest counts.
        let mut found: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for (name, model) in models {
            let listed = vendors
                .iter()
                .find(|vendor| model["litellm_provider"] == **vendor);
            let Some((vendor, line)) = listed.zip(line(model)) else {
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
                found.insert(name.to_owned(), (rank, line));
            }
        }
        let lines = found.into_iter().map(|(name, (_, line))| (name, line));
        table.insert(row, lines.collect());
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

/// What the catalogue says of a model; `None` where it neither chats nor embeds, or nothing is known.
fn line(model: &Value) -> Option<String> {
    let mode = model["mode"].as_str()?;
    if mode != EMBEDDING && !MODES.contains(&mode) {
        return None;
    }
    let mut groups = vec![facts(model)];
    // As far as the list knows it costs nothing as usual: then it is not known what it costs.
    let has_price = [INPUT, OUTPUT]
        .iter()
        .any(|member| model[*member].as_f64() > Some(0.0));
    let prices = SERVED
        .iter()
        .flat_map(|(word, end)| {
            let long = longs(model).map(move |above| {
                let end = format!("_above_{above}k_tokens{end}");
                Some(format!("{word}above={above}000 {}", prices(model, &end)?))
            });
            let usual = prices(model, end).map(|prices| format!("{word}{prices}"));
            [usual.clone(), long.and_then(|long| usual.and(long))]
        })
        .flatten();
    if has_price && self::prices(model, "").is_some() {
        groups.extend(prices);
    }
    (groups.len() > 1 || !groups.concat().is_empty()).then(|| groups.join("; "))
}

fn facts(model: &Value) -> String {
    let size = |word: &str, member: &str| {
        let size = model[member].as_u64().filter(|size| *size > 0)?;
        Some(format!("{word}={size}"))
    };
    let can = CAPABILITIES
        .iter()
        .filter(|(_, member)| model[*member] == true);
    let can: Vec<&str> = can.map(|(word, _)| *word).collect();
    let facts = [
        size("context", "max_input_tokens"),
        size("cap", "max_output_tokens"),
        (!can.is_empty()).then(|| format!("can={}", can.join(","))),
    ];
    facts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// From how many thousand tokens on a prompt is long.
fn longs(model: &Value) -> Option<u64> {
    let members = model.as_object()?.keys();
    let above = members.filter_map(|member| {
        let end = member.strip_prefix(INPUT)?.strip_prefix("_above_")?;
        end.strip_suffix("k_tokens")?.parse().ok()
    });
    above.min()
}

/// Prices under names of this end; `None` where there is none for input or for output.
fn prices(model: &Value, end: &str) -> Option<String> {
    let of = |member: &str| model[format!("{member}{end}")].as_f64();
    of(INPUT)?;
    let embeds = model["mode"] == EMBEDDING;
    let output = of(OUTPUT).or(embeds.then_some(0.0))?;
    let tiers = TIERS.iter().filter_map(|(word, member)| {
        let price = if *member == OUTPUT {
            Some(output)
        } else {
            of(member)
        };
        Some(format!("{word}={}", dollars(price?)))
    });
    Some(tiers.collect::<Vec<_>>().join(" "))
}

/// USD per million tokens, exactly to the millionth.
fn dollars(per_token: f64) -> String {
    let millionths = (per_token * SCALE).round() as u64;
    let text = format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn written(table: &Table, date: &str, source: &str) -> String {
    let mut text = format!(
        "# What is listed of models: a line each under the row of their provider, named as the provider's own interface takes them.
# Date: {date}
# Source: facts of LiteLLM's model price map (MIT), {source}, of models that chat or embed, without those of single regions.
#
# First what a model is: context=TOKENS, cap=TOKENS of output, can=WHAT. Then prices in USD per million tokens, groups between
# semicolons: in, out, read and write (prompt caches), write_1h, audio_in, audio_out, reasoning. A group that begins with batch, flex
# or priority is of calls served so; above=TOKENS, of calls with a longer prompt. What a group leaves out, it has of the first.
#
# Made by `cargo run -p xtask -- prices FILE DATE SOURCE` of that map (model_prices_and_context_window.json); not edited by hand.
"
    );
    for (row, lines) in table {
        let _ = write!(text, "\n[{row}]\n");
        for (name, line) in lines {
            let _ = writeln!(text, "{name} {line}");
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
        let text = written(&table, "2026-11", "of a test");
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.contains('=') && !line.starts_with('#'))
            .collect();
        assert_eq!(
            lines,
            [
                "x.one ; in=2 out=2",
                "x.two ; in=1 out=1",
                "a/b ; in=0.1 out=0.3",
                "gpt-4o ; in=2.5 out=10",
            ]
        );
        assert!(text.contains(
            "# Date: 2026-11\n# Source: facts of LiteLLM's model price map (MIT), of a test,"
        ));
    }

    #[test]
    fn every_tier_is_taken_and_what_is_incomplete_is_not() {
        let model = serde_json::json!({
            "mode": "chat", "max_input_tokens": 1_000_000, "max_output_tokens": 64000,
            "supports_vision": true, "supports_pdf_input": false, "supports_function_calling": true,
            "input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05, "cache_read_input_token_cost": 1.25e-07,
            "cache_creation_input_token_cost": 0.0, "cache_creation_input_token_cost_above_1hr": 2e-06,
            "input_cost_per_token_above_200k_tokens": 2.5e-06, "output_cost_per_token_above_200k_tokens": 1.5e-05,
            "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 4e-06,
            "input_cost_per_token_batches": 6.25e-07, "output_cost_per_token_batches": 5e-06,
            "input_cost_per_token_flex": 6e-07,
            "input_cost_per_token_priority": 2e-06, "output_cost_per_token_priority": 2e-05,
            "input_cost_per_token_above_200k_tokens_priority": 4e-06, "output_cost_per_token_above_200k_tokens_priority": 4e-05,
        });
        assert_eq!(
            line(&model).as_deref(),
            Some(
                "context=1000000 cap=64000 can=tools,vision; in=1.25 out=10 read=0.125 write=0 write_1h=2; \
                 above=200000 in=2.5 out=15 write_1h=4; batch in=0.625 out=5; priority in=2 out=20; \
                 priority above=200000 in=4 out=40"
            )
        );
        let embeds = serde_json::json!({"mode": "embedding", "input_cost_per_token": 2e-08});
        assert_eq!(line(&embeds).as_deref(), Some("; in=0.02 out=0"));
        let free = serde_json::json!({"mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0, "max_input_tokens": 9});
        assert_eq!(line(&free).as_deref(), Some("context=9"));
        assert_eq!(line(&serde_json::json!({"mode": "chat"})), None);
    }
}
