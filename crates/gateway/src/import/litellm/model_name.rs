//! LiteLLM's `provider/model`: the row of the provider table, and what the model is called there.

use polygate_providers::row_named;
use serde_json::{Map, Value};

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

/// What LiteLLM puts between a provider and a model's name.
pub fn parts_of_name(row: &str, name: &mut String, provider: &mut Map<String, Value>) {
    let strip = |name: &str, part: &str| name.strip_prefix(part).map(str::to_owned);
    if let Some(rest) = strip(name, "responses/") {
        provider.insert("wire_api".to_owned(), "responses".into());
        *name = rest;
    }
    if row != "bedrock" {
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
        assert_eq!(row("hosted_vllm"), Some("vllm"));
        assert_eq!(row("nowhere"), None);
        assert_eq!(native("os.environ/A-B"), "${A_B}");
        assert_eq!(native("a$$b ${C}"), "a$$$$b ${C}");
    }
}
