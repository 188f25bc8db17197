//! What program calls, by a name that callers cannot choose.

use super::record::CallRecord;

/// Programs that metrics name; every other is `other`, so that callers cannot grow the series.
const CLIENTS: [(&str, &str); 16] = [
    ("claude-cli", "claude-code"),
    ("codex", "codex"),
    ("geminicli", "gemini-cli"),
    ("opencode", "opencode"),
    ("cline", "cline"),
    ("aider", "aider"),
    ("litellm", "litellm"),
    ("langchain", "langchain"),
    ("ai-sdk", "ai-sdk"),
    ("anthropic", "anthropic-sdk"),
    ("openai", "openai-sdk"),
    ("google-genai", "google-genai"),
    ("curl", "curl"),
    ("python", "python"),
    ("node", "node"),
    ("mozilla", "browser"),
];

impl CallRecord {
    /// The client program by a name that callers cannot choose.
    pub fn program(&self) -> &'static str {
        let Some(agent) = &self.client else {
            return "unknown";
        };
        let agent: Vec<u8> = agent
            .as_bytes()
            .iter()
            .take(200)
            .map(u8::to_ascii_lowercase)
            .collect();
        let known = CLIENTS
            .iter()
            .find(|(sign, _)| memchr::memmem::find(&agent, sign.as_bytes()).is_some());
        known.map_or("other", |(_, name)| name)
    }
}
