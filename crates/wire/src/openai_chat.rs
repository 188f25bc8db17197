//! OpenAI Chat Completions.

/// OpenAI Chat Completions.
#[derive(Debug)]
pub struct OpenaiChat;
