//! Whom LiteLLM tells of calls: Langfuse is told here too, Prometheus asks, and OpenTelemetry's variables say the rest.

use serde_json::{Map, Value, json};

use super::is_on;
use crate::import::{At, Notes};

/// Of all others.
const OTHERS: &str =
    "nobody of this name is told here: otlp, langfuse and jsonl_log are there (docs/telemetry.md)";

/// Where calls are told, and nothing yet.
#[derive(Debug, Default)]
pub struct Callbacks {
    langfuse: bool,
    is_silent: bool,
}

impl Callbacks {
    /// Reads a list of names, or a switch; whether the key is one of these.
    pub fn read(&mut self, key: &str, at: &At<'_>, notes: &mut Notes) -> bool {
        match key {
            "callbacks" | "success_callback" | "failure_callback" => {
                at.items().iter().for_each(|at| self.name(at, notes));
            }
            "turn_off_message_logging" if is_on(at) == Some(true) => {
                self.is_silent = true;
                let message = "langfuse.content is false; otlp and jsonl_log have no prompts and answers unless content is true there";
                notes.changed(at, message);
            }
            "turn_off_message_logging" => {
                let message = "langfuse has prompts and answers, otlp and jsonl_log where content is true there";
                notes.changed(at, message);
            }
            _ => return false,
        }
        true
    }

    fn name(&mut self, at: &At<'_>, notes: &mut Notes) {
        match at.text().unwrap_or_default() {
            "langfuse" | "langfuse_otel" => {
                self.langfuse = true;
                notes.carried(at, "langfuse, with LiteLLM's variables");
            }
            "prometheus" => {
                let message = "/metrics, with names of its own (docs/metrics.md)";
                notes.changed(at, message);
            }
            "otel" | "opentelemetry" => {
                let message = "set OTEL_EXPORTER_OTLP_ENDPOINT to a collector that speaks OTLP over HTTP, or write otlp.endpoint";
                notes.changed(at, message);
            }
            _ => notes.missing(at, OTHERS),
        }
    }

    /// The native section.
    pub fn finish(self) -> Option<(String, Value)> {
        if !self.langfuse {
            return None;
        }
        let mut section = Map::new();
        for (key, value) in [
            ("host", "${LANGFUSE_HOST:-https://cloud.langfuse.com}"),
            ("public_key", "${LANGFUSE_PUBLIC_KEY}"),
            ("secret_key", "${LANGFUSE_SECRET_KEY}"),
        ] {
            section.insert(key.to_owned(), value.into());
        }
        if self.is_silent {
            section.insert("content".to_owned(), json!(false));
        }
        Some(("langfuse".to_owned(), Value::Object(section)))
    }
}
