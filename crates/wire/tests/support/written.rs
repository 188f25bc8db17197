//! Events and counts as text that a golden file can hold.

use std::fmt::Write as _;

use polygate_core::Usage;
use polygate_wire::ChatEvent;
use polygate_wire::canon::{Block, CallKind};

use crate::drive::{Told, say};

/// Events as text, one a line.
pub fn write_down(told: &Told) -> String {
    let mut out = String::new();
    for event in &told.events {
        let line = match event {
            ChatEvent::Start { id, model } => {
                format!(
                    "start {} {}",
                    id.as_deref().unwrap_or("-"),
                    model.as_deref().unwrap_or("-")
                )
            }
            ChatEvent::Open { index, block } => format!("open {index} {}", name(block)),
            ChatEvent::Delta { index, text } => format!("delta {index} {text:?}"),
            ChatEvent::Cite { index, citation } => format!(
                "cite {index} {:?} {:?} {:?} {:?}",
                citation.url, citation.title, citation.cited, citation.span
            ),
            ChatEvent::Logprobs { index, tokens } => {
                let tokens: Vec<&str> = tokens.iter().map(|token| token.token.as_str()).collect();
                format!("logprobs {index} {tokens:?}")
            }
            ChatEvent::Seal { index, opaque } => format!(
                "seal {index} {:?} {:?}{}",
                opaque.issuer,
                opaque.data.chars().take(24).collect::<String>(),
                if opaque.is_redacted { " redacted" } else { "" }
            ),
            ChatEvent::Close { index } => format!("close {index}"),
            ChatEvent::Usage(usage) => format!("usage {}", counts(usage)),
            ChatEvent::Stop(stop) => format!("stop {stop:?}"),
            ChatEvent::Failed(failure) => format!("failed {}", say(failure)),
        };
        let _ = writeln!(out, "{line}");
    }
    if let Some(failure) = &told.failure {
        let _ = writeln!(out, "broke off: {}", say(failure));
    }
    out
}

fn name(block: &Block) -> String {
    match block {
        Block::Text => "text".to_owned(),
        Block::Reasoning => "reasoning".to_owned(),
        Block::Refusal => "refusal".to_owned(),
        Block::ToolCall {
            id,
            name,
            kind: CallKind::Function,
        } => format!("call {id} {name}"),
        Block::ToolCall { id, name, .. } => format!("freeform call {id} {name}"),
        Block::Media(media) => format!("media {}", media.mime.as_deref().unwrap_or("-")),
    }
}

/// Token counts as text.
pub fn counts(usage: &Usage) -> String {
    let Usage {
        input,
        output,
        cache_read,
        cache_write,
        cache_write_1h,
        reasoning,
        input_audio,
        output_audio,
        // Prices are another matter than answers.
        served: _,
    } = usage;
    let mut text = format!(
        "input={input} output={output} cache_read={cache_read} cache_write={cache_write} reasoning={reasoning}"
    );
    for (name, count) in [
        ("cache_write_1h", cache_write_1h),
        ("input_audio", input_audio),
        ("output_audio", output_audio),
    ] {
        if *count > 0 {
            text.push_str(&format!(" {name}={count}"));
        }
    }
    text
}
