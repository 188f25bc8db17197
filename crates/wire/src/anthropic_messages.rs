//! Anthropic Messages.

/// Anthropic Messages.
#[derive(Debug)]
pub struct AnthropicMessages;
