//! How many tokens a request is, as far as a tokenizer can tell: for upstreams that do not count themselves.

use std::sync::LazyLock;

use polygate_wire::canon::{ChatRequest, Given, Media, MediaSource, Part, ToolInput};
use tiktoken::CoreBpe;

/// The tokenizer of OpenAI's newer models; read when somebody first counts.
static TOKENIZER: LazyLock<Option<&'static CoreBpe>> =
    LazyLock::new(|| tiktoken::get_encoding("o200k_base"));

/// What a message, a call or a tool costs beside its text.
const FRAME: u64 = 4;

/// What a picture costs: between what vendors say of small and of large ones.
const PICTURE: u64 = 1000;

/// Bytes of a document or of sound for one token; and the least of either.
const BYTES_PER_TOKEN: u64 = 64;
const LEAST_OF_FILE: u64 = 250;

/// The estimate, by the tokenizer.
pub fn estimate(request: &ChatRequest) -> u64 {
    estimate_by(request, text)
}

/// The estimate, by length alone: what a call may take is asked before each of them.
pub fn rough(request: &ChatRequest) -> u64 {
    estimate_by(request, length)
}

/// How many tokens a text is.
type Text = fn(&str) -> u64;

fn estimate_by(request: &ChatRequest, text: Text) -> u64 {
    let messages: u64 = request
        .messages
        .iter()
        .map(|message| FRAME + parts(&message.parts, text))
        .sum();
    let tools: u64 = request
        .tools
        .iter()
        .map(|tool| {
            let input = match &tool.input {
                ToolInput::Json(schema) => schema.as_deref().map_or(0, |schema| text(schema.get())),
                ToolInput::Freeform(grammar) => grammar
                    .as_ref()
                    .map_or(0, |grammar| text(&grammar.value.definition)),
            };
            let description = tool.description.as_deref().map_or(0, text);
            2 * FRAME + text(&tool.name) + description + input
        })
        .sum();
    messages + tools + FRAME
}

fn parts(parts: &[Given<Part>], text: Text) -> u64 {
    parts.iter().map(|given| part(&given.value, text)).sum()
}

fn part(part: &Part, text: Text) -> u64 {
    match part {
        Part::Text(said) | Part::Refusal(said) => text(said),
        Part::Reasoning(reasoning) => text(&reasoning.text),
        Part::Image(_) => PICTURE,
        Part::File(media) | Part::Audio(media) => file(media, text),
        Part::ToolCall(call) => FRAME + text(&call.name) + text(&call.arguments),
        Part::ToolResult(result) => FRAME + parts(&result.content, text),
        Part::CachePoint(_) => 0,
    }
}

fn file(media: &Media, text: Text) -> u64 {
    match &media.source {
        MediaSource::Text(said) => text(said),
        MediaSource::Base64(data) => (data.len() as u64 / BYTES_PER_TOKEN).max(LEAST_OF_FILE),
        MediaSource::Url(_) | MediaSource::FileId { .. } => PICTURE,
    }
}

fn text(said: &str) -> u64 {
    match *TOKENIZER {
        Some(tokenizer) => tokenizer.count(said) as u64,
        // About what English comes to.
        None => length(said),
    }
}

fn length(said: &str) -> u64 {
    said.len() as u64 / 4
}
