//! `when`: for which calls something holds.

use http::HeaderName;
use polygate_engine::Endpoint;
use polygate_engine::condition::{Condition, HeaderIs};
use polygate_engine::pattern::Pattern;
use polygate_wire::Format;

use super::pieces::{pattern, patterns};
use super::reader::{Item, Section};

/// What clients speak, as words.
const FORMATS: [(&str, Format); 4] = [
    ("openai-chat", Format::OpenaiChat),
    ("openai-responses", Format::OpenaiResponses),
    ("anthropic-messages", Format::AnthropicMessages),
    ("gemini", Format::Gemini),
];

/// `when` of a rule; without it, every call.
pub fn when(section: &Section<'_>) -> Condition {
    section.section("when").map(condition).unwrap_or_default()
}

fn condition(section: Section<'_>) -> Condition {
    let condition = Condition {
        models: patterns(&section, "models", Pattern::mapping),
        keys: patterns(&section, "keys", Pattern::glob),
        teams: patterns(&section, "teams", Pattern::glob),
        tags: patterns(&section, "tags", Pattern::glob),
        headers: headers(&section),
        formats: formats(&section),
        endpoints: endpoints(&section),
        stream: section.boolean("stream"),
        tools: section.boolean("tools"),
        images: section.boolean("images"),
        tokens_above: section.number("tokens_above"),
        tokens_up_to: section.number("tokens_up_to"),
    };
    if let (Some(above), Some(up_to)) = (condition.tokens_above, condition.tokens_up_to)
        && above >= up_to
    {
        section.error(
            "tokens_up_to",
            format!("no prompt has more than {above} tokens and at most {up_to}"),
        );
    }
    section.finish();
    condition
}

/// Patterns of what metrics call endpoints.
fn endpoints(section: &Section<'_>) -> Vec<Pattern> {
    let items = section.items("endpoints");
    let endpoint = |item: &Item<'_>| {
        let text = item.text()?;
        let endpoint = pattern(item, text.trim(), Pattern::glob)?;
        if !Endpoint::LABELS.iter().any(|label| endpoint.matches(label)) {
            let known = Endpoint::LABELS.join(", ");
            item.error(format!("is none of the endpoints: {known}"));
            return None;
        }
        Some(endpoint)
    };
    items.iter().filter_map(endpoint).collect()
}

fn formats(section: &Section<'_>) -> Vec<Format> {
    let items = section.items("formats");
    items
        .iter()
        .filter_map(|item| item.word(&FORMATS))
        .collect()
}

/// Names with patterns of their values.
fn headers(section: &Section<'_>) -> Vec<HeaderIs> {
    let entries = section.section("headers").map(|map| map.entries());
    let entries = entries.into_iter().flatten();
    entries
        .filter_map(|(name, item)| header(name, &item))
        .collect()
}

fn header(name: &str, item: &Item<'_>) -> Option<HeaderIs> {
    let Ok(name) = name.parse::<HeaderName>() else {
        item.error("is no header's name");
        return None;
    };
    let value = pattern(item, item.text()?.trim(), Pattern::glob)?;
    Some(HeaderIs { name, value })
}
