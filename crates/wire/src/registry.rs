//! The only list of formats and what each can do: a format is added here, in one match a seam.

use crate::{
    Dialect, Egress, Format, Ingress, anthropic_messages, bedrock_converse, gemini, openai_chat,
    openai_responses,
};

/// Errors and meanings of a format.
pub fn dialect(format: Format) -> &'static dyn Dialect {
    match format {
        Format::OpenaiChat => &openai_chat::OpenaiChat,
        Format::OpenaiResponses => &openai_responses::OpenaiResponses,
        Format::AnthropicMessages => &anthropic_messages::AnthropicMessages,
        Format::Gemini => &gemini::Gemini,
        Format::BedrockConverse => &bedrock_converse::BedrockConverse,
    }
}

/// The client half of a format; `None` for those that no client speaks.
pub fn ingress(format: Format) -> Option<&'static dyn Ingress> {
    match format {
        Format::OpenaiChat => Some(&openai_chat::OpenaiChat),
        Format::OpenaiResponses => Some(&openai_responses::OpenaiResponses),
        Format::AnthropicMessages => Some(&anthropic_messages::AnthropicMessages),
        Format::Gemini => Some(&gemini::Gemini),
        Format::BedrockConverse => None,
    }
}

/// The upstream half of a format.
pub fn egress(format: Format) -> &'static dyn Egress {
    match format {
        Format::OpenaiChat => &openai_chat::OpenaiChat,
        Format::OpenaiResponses => &openai_responses::OpenaiResponses,
        Format::AnthropicMessages => &anthropic_messages::AnthropicMessages,
        Format::Gemini => &gemini::Gemini,
        Format::BedrockConverse => &bedrock_converse::BedrockConverse,
    }
}
