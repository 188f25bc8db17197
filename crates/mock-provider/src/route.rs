//! Paths → what is asked, with or without a version, in Azure's spelling too.

use http::Method;
use serde::Serialize;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// OpenAI Chat.
    Chat,
    /// OpenAI legacy completions.
    Completions,
    /// OpenAI embeddings.
    Embeddings,
    /// OpenAI Responses.
    Responses,
    /// OpenAI's count of a Responses request.
    ResponsesCount,
    /// Anthropic Messages.
    Messages,
    /// Anthropic's token count.
    CountTokens,
    /// Gemini `generateContent`.
    Generate,
    /// Gemini `streamGenerateContent`.
    StreamGenerate,
    /// Gemini `countTokens`.
    GeminiCount,
    /// Gemini `embedContent` and `batchEmbedContents`.
    GeminiEmbed,
    /// Bedrock `converse`.
    Converse,
    /// Bedrock `converse-stream`.
    ConverseStream,
    /// Bedrock `count-tokens`.
    ConverseCount,
    /// A list of models, or one of it.
    Models,
    /// Anything else: echoed.
    Other,
}

/// The endpoint of a path, and the model where the path names it.
pub(crate) fn route(method: &Method, path: &str) -> (Endpoint, Option<String>) {
    let mut rest = path.trim_matches('/');
    let mut model = None;
    rest = rest.strip_prefix("openai/").unwrap_or(rest);
    if let Some((deployment, tail)) = rest
        .strip_prefix("deployments/")
        .and_then(|rest| rest.split_once('/'))
    {
        model = Some(deployment.to_owned());
        rest = tail;
    }
    rest = ["v1beta/", "v1/"]
        .iter()
        .find_map(|version| rest.strip_prefix(version))
        .unwrap_or(rest);
    if let Some((name, word)) = rest
        .strip_prefix("models/")
        .and_then(|rest| rest.rsplit_once(':'))
    {
        let endpoint = match word {
            "generateContent" => Endpoint::Generate,
            "streamGenerateContent" => Endpoint::StreamGenerate,
            "countTokens" => Endpoint::GeminiCount,
            "embedContent" | "batchEmbedContents" => Endpoint::GeminiEmbed,
            _ => Endpoint::Other,
        };
        return (endpoint, Some(name.to_owned()));
    }
    if let Some((name, word)) = rest
        .strip_prefix("model/")
        .and_then(|rest| rest.rsplit_once('/'))
    {
        let endpoint = match word {
            "converse" => Endpoint::Converse,
            "converse-stream" => Endpoint::ConverseStream,
            "count-tokens" => Endpoint::ConverseCount,
            _ => Endpoint::Other,
        };
        // The two characters of models' names that Bedrock's addresses escape.
        let name = name.replace("%3A", ":").replace("%2F", "/");
        return (endpoint, Some(name));
    }
    let endpoint = match rest {
        "chat/completions" => Endpoint::Chat,
        "completions" => Endpoint::Completions,
        "embeddings" => Endpoint::Embeddings,
        "responses" => Endpoint::Responses,
        "messages" => Endpoint::Messages,
        "messages/count_tokens" => Endpoint::CountTokens,
        "responses/input_tokens" => Endpoint::ResponsesCount,
        "models" => Endpoint::Models,
        other if other.starts_with("models/") && method == Method::GET => Endpoint::Models,
        _ => Endpoint::Other,
    };
    (endpoint, model)
}
