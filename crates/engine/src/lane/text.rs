//! How much text there is in frames that pass unread: what a stream comes to that breaks off before its provider says so.

use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;
use polygate_wire::Format;

use crate::count::Heard;

/// The members that hold text, thoughts and arguments, by format. Others' are translated, and need no search.
static MEMBERS: LazyLock<Members> = LazyLock::new(|| Members {
    chat: finders(["\"content\":", "\"reasoning_content\":", "\"arguments\":"]),
    responses: finders(["\"delta\":"]),
    anthropic: finders(["\"text\":", "\"thinking\":", "\"partial_json\":"]),
    gemini: finders(["\"text\":"]),
});

struct Members {
    chat: Vec<Finder<'static>>,
    responses: Vec<Finder<'static>>,
    anthropic: Vec<Finder<'static>>,
    gemini: Vec<Finder<'static>>,
}

fn finders<const N: usize>(members: [&'static str; N]) -> Vec<Finder<'static>> {
    members.map(Finder::new).into()
}

/// Hears the text in frames of this format.
pub(super) fn hear(format: Format, frames: &[u8], heard: &mut Heard) {
    let members = match format {
        Format::OpenaiChat => &MEMBERS.chat,
        Format::OpenaiResponses => &MEMBERS.responses,
        Format::AnthropicMessages => &MEMBERS.anthropic,
        Format::Gemini => &MEMBERS.gemini,
        _ => return,
    };
    for member in members {
        hear_member(member, frames, heard);
    }
}

fn hear_member(member: &Finder<'_>, frames: &[u8], heard: &mut Heard) {
    let mut rest = frames;
    while let Some(at) = member.find(rest) {
        rest = rest.get(at + member.needle().len()..).unwrap_or_default();
        if let Some(text) = string(rest.trim_ascii_start()) {
            heard.quoted(text);
            rest = rest.get(text.len() - 2..).unwrap_or_default();
        }
    }
}

/// The string that stands here, in its quotes; `None` where there is none.
fn string(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b"\"")?;
    let mut at = 1;
    loop {
        let found = memchr2(b'"', b'\\', text.get(at..)?)?;
        at += found;
        if text.get(at) == Some(&b'"') {
            return text.get(..=at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_wherever_it_stands() {
        let chat = r#"data: {"choices":[{"delta":{"role":"assistant","content":"abc"}}]}

data: {"choices":[{"delta":{"content": "d\"ef"}}]}

data: {"choices":[{"delta":{"content":null,"tool_calls":[{"function":{"arguments":"{\"a\""}}]}}]}

"#;
        let anthropic = r#"event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm"}}

"#;
        let responses = r#"data: {"type":"response.output_text.delta","delta":"four"}"#;
        for (format, frames, expected) in [
            (Format::OpenaiChat, chat, 3 + 5 + 6),
            (Format::AnthropicMessages, anthropic, 5 + 2),
            (Format::OpenaiResponses, responses, 4),
            (Format::Gemini, r#"[{"parts": [{"text": "abcd"}]}"#, 4),
            (Format::OpenaiChat, r#"data: {"content":"cut off"#, 0),
            (Format::OpenaiChat, r#"data: {"content":"cut off\"#, 0),
            (Format::OpenaiChat, r#"data: {"content":"#, 0),
        ] {
            let mut heard = Heard::default();
            hear(format, frames.as_bytes(), &mut heard);
            assert_eq!(heard.bytes(), expected, "{frames}");
        }
    }
}
