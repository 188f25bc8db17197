//! LiteLLM's `provider/model`: the row of the provider table, and what the model is called there.

use polygate_providers::row_named;
use serde_json::{Map, Value};

use super::price::Price;

/// LiteLLM's names of providers that have another one here.
const ROWS: [(&str, &str); 19] = [
    ("text-completion-openai", "openai"),
    ("azure_text", "azure"),
    ("bedrock_converse", "bedrock"),
    ("together_ai", "together"),
    ("fireworks_ai", "fireworks"),
    ("ollama_chat", "ollama"),
    ("hosted_vllm", "vllm"),
    ("lm_studio", "lmstudio"),
    ("nvidia_nim", "nvidia"),
    ("cohere_chat", "cohere"),
    ("friendliai", "friendli"),
    ("meta_llama", "llama"),
    ("azure_ai", COMPATIBLE),
    ("custom_openai", COMPATIBLE),
    ("openai_like", COMPATIBLE),
    ("litellm_proxy", COMPATIBLE),
    ("llamafile", COMPATIBLE),
    ("infinity", COMPATIBLE),
    ("xinference", COMPATIBLE),
];

/// Where LiteLLM looks for a key under another name than the row of the provider table has, by its word for the provider.
const KEYS: [(&str, &str); 14] = [
    ("azure", "AZURE_API_KEY"),
    ("azure_text", "AZURE_API_KEY"),
    ("azure_ai", "AZURE_AI_API_KEY"),
    ("litellm_proxy", "LITELLM_PROXY_API_KEY"),
    // Servers of one's own, as a rule without keys.
    ("hosted_vllm", "HOSTED_VLLM_API_KEY:-none"),
    ("lm_studio", "LM_STUDIO_API_KEY:-none"),
    ("llamafile", "LLAMAFILE_API_KEY:-none"),
    ("openai_like", "OPENAI_LIKE_API_KEY:-none"),
    ("nvidia_nim", "NVIDIA_NIM_API_KEY"),
    ("github", "GITHUB_API_KEY"),
    ("vercel_ai_gateway", "VERCEL_AI_GATEWAY_API_KEY"),
    ("perplexity", "PERPLEXITYAI_API_KEY"),
    ("databricks", "DATABRICKS_API_KEY"),
    ("volcengine", "VOLCENGINE_API_KEY"),
];

/// Whoever speaks OpenAI's format.
pub const COMPATIBLE: &str = "openai-compatible";

/// Names of models that LiteLLM takes for a provider's without being told.
const BARE: [(&str, &str); 12] = [
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("text-embedding-", "openai"),
    ("omni-moderation", "openai"),
    ("dall-e", "openai"),
    ("whisper", "openai"),
    ("tts-", "openai"),
    ("claude-", "anthropic"),
    ("deepseek-", "deepseek"),
];

/// The provider's word and the model's name of LiteLLM's `provider/model`.
pub fn split(model: &str, said: Option<&str>, has_base: bool) -> Option<(String, String)> {
    if let Some(word) = said {
        let bare = model
            .strip_prefix(word)
            .and_then(|rest| rest.strip_prefix('/'));
        return Some((word.to_owned(), bare.unwrap_or(model).to_owned()));
    }
    if let Some((word, rest)) = model.split_once('/')
        && !rest.is_empty()
        && (row(word).is_some() || !has_base)
    {
        return Some((word.to_owned(), rest.to_owned()));
    }
    let known = BARE.iter().find(|(begin, _)| model.starts_with(begin));
    let word = known.map(|(_, word)| *word);
    let word = word.or(has_base.then_some("openai"))?;
    Some((word.to_owned(), model.to_owned()))
}

/// The row of the provider table that LiteLLM's word means.
pub fn row(word: &str) -> Option<&'static str> {
    let renamed = ROWS.iter().find(|(theirs, _)| *theirs == word);
    let ours = renamed.map_or(word, |(_, ours)| *ours);
    let row = row_named(ours).or_else(|| row_named(&ours.replace('_', "-")));
    row.map(|row| row.name.as_str())
}

/// The row of a model of Azure's catalogue, by its name and address: Anthropic's are asked in another format than others, OpenAI's are
/// deployments at the same host.
pub fn row_of_azure_ai(name: &str, base: &str) -> &'static str {
    const HOST: &str = "services.ai.azure.com";
    let path = base.split_once(HOST).map(|(_, path)| path);
    let is_bare = path.is_some_and(|path| path.trim_end_matches('/').is_empty());
    if name.to_ascii_lowercase().contains("claude") {
        "azure-anthropic"
    } else if is_bare && Price::of("openai", name).is_some() {
        "azure"
    } else if path.is_some_and(|path| !path.contains("/openai")) {
        "azure-models"
    } else {
        COMPATIBLE
    }
}

/// The variable that LiteLLM takes an address of, where none is said.
pub fn variable_of_base(word: &str, row: &str) -> Option<&'static str> {
    match (word, row) {
        ("azure_ai", _) => Some("AZURE_AI_API_BASE"),
        (_, "azure") => Some("AZURE_API_BASE"),
        _ => None,
    }
}

/// The variable that LiteLLM takes a key of, for a provider by its word and the row of that.
pub fn variable_of_key(word: &str, row: &str) -> Option<&'static str> {
    let known = KEYS.iter().find(|(theirs, _)| *theirs == word);
    let of_row = || row_named(row)?.env.first().map(String::as_str);
    known.map(|(_, variable)| *variable).or_else(of_row)
}

/// Whether a model by LiteLLM's name for it is one of OpenAI's that think: they take `max_completion_tokens` alone.
pub fn is_thinking(model: &str) -> bool {
    let bare = model.rsplit('/').next().unwrap_or_default();
    let begins = ["o1", "o3", "o4", "gpt-5"];
    SERIES.iter().any(|series| model.contains(series))
        || begins.iter().any(|begin| bare.starts_with(begin))
}

/// What stands before names of Azure's deployments that do not tell what they are.
const SERIES: [&str; 2] = ["o_series/", "gpt5_series/"];

/// What LiteLLM puts between a provider and a model's name.
pub fn parts_of_name(row: &str, name: &mut String, provider: &mut Map<String, Value>) {
    let strip = |name: &str, part: &str| name.strip_prefix(part).map(str::to_owned);
    if let Some(rest) = strip(name, "responses/") {
        provider.insert("wire_api".to_owned(), "responses".into());
        *name = rest;
    }
    if row == "azure" {
        for series in SERIES {
            if let Some(rest) = strip(name, series) {
                *name = rest;
            }
        }
    }
    if row != "bedrock" {
        return;
    }
    // A resource's name has its region in it; before it stands how LiteLLM puts requests.
    if let Some(at) = name.find("arn:") {
        *name = name.split_off(at);
        if let Some(region) = name.split(':').nth(3).filter(|region| !region.is_empty()) {
            provider.insert("region".to_owned(), region.into());
        }
        return;
    }
    for part in ["converse/", "invoke/"] {
        if let Some(rest) = strip(name, part) {
            *name = rest;
        }
    }
    let region = name
        .split_once('/')
        .map(|(region, rest)| (region.to_owned(), rest.to_owned()));
    if let Some((region, rest)) = region
        && region.split('-').count() >= 3
        && !region.contains('.')
    {
        provider.insert("region".to_owned(), region.into());
        *name = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::litellm::native;

    #[test]
    fn a_provider_is_known_by_its_word_or_by_the_model() {
        let split = |model, said, has_base| {
            split(model, said, has_base).map(|(word, model)| format!("{word} {model}"))
        };
        for (model, said, has_base, expected) in [
            ("azure/my-gpt", None, true, Some("azure my-gpt")),
            ("gpt-4o", None, false, Some("openai gpt-4o")),
            ("claude-3", None, false, Some("anthropic claude-3")),
            (
                "together_ai/meta/llama",
                None,
                false,
                Some("together_ai meta/llama"),
            ),
            ("meta/llama", None, true, Some("openai meta/llama")),
            ("mystery", None, false, None),
            ("mystery", None, true, Some("openai mystery")),
            ("mystery", Some("groq"), false, Some("groq mystery")),
            ("groq/llama", Some("groq"), false, Some("groq llama")),
        ] {
            assert_eq!(split(model, said, has_base).as_deref(), expected, "{model}");
        }
        for (full, row, expected, region) in [
            ("us-east-1/x.y", "bedrock", "x.y", Some("us-east-1")),
            ("converse/x.y", "bedrock", "x.y", None),
            (
                "converse/arn:aws:bedrock:eu-west-3:1234:application-inference-profile/a1-b2-c3",
                "bedrock",
                "arn:aws:bedrock:eu-west-3:1234:application-inference-profile/a1-b2-c3",
                Some("eu-west-3"),
            ),
            (
                "arn:aws-us-gov:bedrock:us-gov-west-1:12:inference-profile/us.x.y",
                "bedrock",
                "arn:aws-us-gov:bedrock:us-gov-west-1:12:inference-profile/us.x.y",
                Some("us-gov-west-1"),
            ),
            ("o_series/mine", "azure", "mine", None),
            ("o_series/mine", "openai", "o_series/mine", None),
        ] {
            let (mut name, mut provider) = (full.to_owned(), Map::new());
            parts_of_name(row, &mut name, &mut provider);
            let found = provider.get("region").and_then(Value::as_str);
            assert_eq!((name.as_str(), found), (expected, region), "{full}");
        }
        for (word, row, variable) in [
            ("azure", "azure", Some("AZURE_API_KEY")),
            ("azure_ai", COMPATIBLE, Some("AZURE_AI_API_KEY")),
            ("github", "github-models", Some("GITHUB_API_KEY")),
            ("groq", "groq", Some("GROQ_API_KEY")),
            ("hosted_vllm", "vllm", Some("HOSTED_VLLM_API_KEY:-none")),
            ("ollama", "ollama", None),
        ] {
            assert_eq!(variable_of_key(word, row), variable, "{word}");
        }
        for (model, expected) in [
            ("openai/o3-mini", true),
            ("azure/gpt-5.1", true),
            ("azure/o_series/mine", true),
            ("openai/gpt-4o", false),
            ("octopus", false),
        ] {
            assert_eq!(is_thinking(model), expected, "{model}");
        }
        for (name, base, expected) in [
            (
                "claude-sonnet-4-5",
                "https://r.services.ai.azure.com",
                "azure-anthropic",
            ),
            ("Claude-mine", "${BASE}", "azure-anthropic"),
            (
                "command-r",
                "https://r.services.ai.azure.com",
                "azure-models",
            ),
            ("gpt-4o", "https://r.services.ai.azure.com/", "azure"),
            (
                "gpt-4o",
                "https://r.services.ai.azure.com/models",
                "azure-models",
            ),
            (
                "gpt-mine",
                "https://r.services.ai.azure.com",
                "azure-models",
            ),
            (
                "grok-3",
                "https://r.services.ai.azure.com/openai/v1/",
                COMPATIBLE,
            ),
            ("mistral", "https://m.models.ai.azure.com/v1", COMPATIBLE),
            ("mistral", "${BASE}", COMPATIBLE),
        ] {
            assert_eq!(row_of_azure_ai(name, base), expected, "{name} {base}");
            assert!(row_named(expected).is_some(), "{expected}");
        }
        assert_eq!(row("hosted_vllm"), Some("vllm"));
        assert_eq!(row("nowhere"), None);
        assert_eq!(native("os.environ/A-B"), "${A_B}");
        assert_eq!(native("a$$b ${C}"), "a$$$$b ${C}");
    }
}
