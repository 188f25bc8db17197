//! `api_base` as Polygate means it: LiteLLM appends other paths to it, by provider, and takes addresses that have theirs already.

use polygate_providers::base::Base;
use polygate_providers::row_at;
use serde_json::{Map, Value};

use super::is_reference;

/// Paths that stand in many an address, and that Polygate appends itself.
const TAILS: [&str; 5] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
    "/messages",
];

/// Whose addresses LiteLLM completes with a version too.
const COMPLETED: [&str; 6] = [
    "anthropic",
    "gemini",
    "bedrock",
    "ollama",
    "cohere",
    "mistral",
];

/// The address for a provider of this row. Azure's may name the deployment and the version, which go where these stand here; the place of
/// other makers' models there may be left out.
pub fn address(
    row: &str,
    said: &str,
    name: &mut String,
    provider: &mut Map<String, Value>,
) -> String {
    if is_reference(said) {
        return said.to_owned();
    }
    let (path, query) = said.split_once('?').unwrap_or((said, ""));
    let path = path.trim_end_matches('/');
    let bare = TAILS.iter().find_map(|tail| path.strip_suffix(tail));
    if row.starts_with("azure") {
        let mut pairs = query.split('&');
        let version = pairs.find_map(|pair| pair.strip_prefix("api-version="));
        if let Some(version) = version.filter(|version| !version.is_empty()) {
            provider.insert("api_version".to_owned(), version.into());
        }
        match row {
            // What stands behind it is appended here too.
            "azure-anthropic" => {
                let begin = path.split_once("/anthropic").map(|(begin, _)| begin);
                return match (begin, bare) {
                    (None, Some(bare)) => bare.to_owned(),
                    (begin, _) => format!("{}/anthropic", begin.unwrap_or(path)),
                };
            }
            "azure-models" => {
                let bare = bare.unwrap_or(path);
                return format!("{}/models", bare.strip_suffix("/models").unwrap_or(bare));
            }
            _ => {}
        }
        if let Some((base, deployment)) = path.split_once("/openai/deployments/") {
            let deployment = deployment.split('/').next();
            if let Some(deployment) = deployment.filter(|name| !name.is_empty()) {
                *name = deployment.to_owned();
            }
            return base.to_owned();
        }
    } else if !COMPLETED.contains(&row) && !has_version(bare.unwrap_or(path)) {
        // Polygate would append `/v1`, LiteLLM does not.
        return format!("{}/chat/completions", bare.unwrap_or(path));
    }
    // No base has a query here.
    let said = if said.contains('?') { path } else { said };
    bare.unwrap_or(said).to_owned()
}

/// Whether an address has a version, or is a vendor's whose version is known.
fn has_version(address: &str) -> bool {
    let path = |version| Base::parse(address, version).map(|base| base.path().to_owned());
    let base = Base::parse(address, "");
    path("") == path("/v1") || base.is_ok_and(|base| row_at(base.host(), base.path()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_where_litellm_asks() {
        for (row, said, expected, name, version) in [
            ("openai", "http://h/v1", "http://h/v1", "m", None),
            (
                "openai",
                "http://h/v1/chat/completions",
                "http://h/v1",
                "m",
                None,
            ),
            ("openai", "http://h/v1/responses", "http://h/v1", "m", None),
            (
                "openai",
                "http://h/compat/",
                "http://h/compat/chat/completions",
                "m",
                None,
            ),
            (
                "vllm",
                "http://h:8000",
                "http://h:8000/chat/completions",
                "m",
                None,
            ),
            (
                "openai",
                "https://api.deepseek.com",
                "https://api.deepseek.com",
                "m",
                None,
            ),
            ("ollama", "http://h:11434", "http://h:11434", "m", None),
            (
                "anthropic",
                "https://h/v1/messages",
                "https://h/v1",
                "m",
                None,
            ),
            (
                "anthropic",
                "https://h/claude",
                "https://h/claude",
                "m",
                None,
            ),
            ("openai", "${BASE}", "${BASE}", "m", None),
            (
                "azure",
                "https://r.openai.azure.com/",
                "https://r.openai.azure.com/",
                "m",
                None,
            ),
            (
                "azure",
                "https://r.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2024-06-01",
                "https://r.openai.azure.com",
                "mine",
                Some("2024-06-01"),
            ),
            (
                "azure-anthropic",
                "https://r.services.ai.azure.com",
                "https://r.services.ai.azure.com/anthropic",
                "m",
                None,
            ),
            (
                "azure-anthropic",
                "https://r.services.ai.azure.com/anthropic/v1/messages",
                "https://r.services.ai.azure.com/anthropic",
                "m",
                None,
            ),
            (
                "azure-anthropic",
                "https://proxy/v1/messages",
                "https://proxy/v1",
                "m",
                None,
            ),
            (
                "azure-models",
                "https://r.services.ai.azure.com/",
                "https://r.services.ai.azure.com/models",
                "m",
                None,
            ),
            (
                "azure-models",
                "https://r.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
                "https://r.services.ai.azure.com/models",
                "m",
                Some("2024-05-01-preview"),
            ),
            (
                "azure",
                "https://r/openai/deployments/mine",
                "https://r",
                "mine",
                None,
            ),
            (
                "azure",
                "https://r/openai/deployments/?api-version=",
                "https://r/openai/deployments",
                "m",
                None,
            ),
            (
                "azure",
                "https://r/openai/responses?api-version=preview",
                "https://r/openai",
                "m",
                Some("preview"),
            ),
        ] {
            let (mut found, mut provider) = ("m".to_owned(), Map::new());
            let base = address(row, said, &mut found, &mut provider);
            let at = provider.get("api_version").and_then(Value::as_str);
            assert_eq!((&*base, &*found, at), (expected, name, version), "{said}");
        }
    }
}
