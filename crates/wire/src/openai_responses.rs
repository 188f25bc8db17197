//! OpenAI Responses.

/// OpenAI Responses.
#[derive(Debug)]
pub struct OpenaiResponses;
