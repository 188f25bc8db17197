//! How much text there is in frames that pass unread: what a stream comes to that breaks off before its provider says so.

use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;
use polygate_wire::Format;

use crate::call::Endpoint;
use crate::count::Heard;

/// The members that hold text, thoughts, refusals and arguments, by what streams. Others' are translated, and need no search.
static MEMBERS: LazyLock<Members> = LazyLock::new(|| Members {
    chat: finders([
        &["\"content\":"],
        &["\"reasoning_content\":", "\"reasoning\":"],
        &["\"refusal\":"],
        &["\"arguments\":"],
    ]),
    completions: finders([&["\"text\":"]]),
    responses: finders([&["\"delta\":"]]),
    anthropic: finders([&["\"text\":"], &["\"thinking\":"], &["\"partial_json\":"]]),
    gemini: finders([&["\"text\":"]]),
});

struct Members {
    chat: Texts,
    completions: Texts,
    responses: Texts,
    anthropic: Texts,
    gemini: Texts,
}

/// Members by what they hold. Names of one thing stand together: some providers write it under both, and it is heard once.
type Texts = Vec<Vec<Finder<'static>>>;

fn finders<const N: usize>(members: [&[&'static str]; N]) -> Texts {
    let names = |names: &[&'static str]| names.iter().map(|name| Finder::new(*name)).collect();
    members.map(names).into()
}

/// Where text is in streams of this format, from this endpoint.
pub(super) fn texts(format: Format, endpoint: &Endpoint) -> &'static [Vec<Finder<'static>>] {
    match format {
        Format::OpenaiChat if *endpoint == Endpoint::Completions => &MEMBERS.completions,
        Format::OpenaiChat => &MEMBERS.chat,
        Format::OpenaiResponses => &MEMBERS.responses,
        Format::AnthropicMessages => &MEMBERS.anthropic,
        Format::Gemini => &MEMBERS.gemini,
        _ => &[],
    }
}

/// Hears the text in frames.
pub(super) fn hear(texts: &[Vec<Finder<'_>>], frames: &[u8], heard: &mut Heard) {
    for names in texts {
        let before = heard.bytes();
        for name in names {
            if heard.bytes() == before {
                hear_member(name, frames, heard);
            }
        }
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
            (
                Format::OpenaiChat,
                r#"data: {"choices":[{"index":0,"delta":{"content":"abc"}},{"index":1,"delta":{"content":"de"}}]}"#,
                5,
            ),
            (
                Format::OpenaiChat,
                r#"data: {"choices":[{"delta":{"content":null,"refusal":"I cannot"}}]}"#,
                8,
            ),
            (
                Format::OpenaiChat,
                r#"data: {"choices":[{"delta":{"content":"","reasoning":"Hm"}}]}"#,
                2,
            ),
            (
                Format::OpenaiChat,
                r#"data: {"choices":[{"delta":{"reasoning":"Hm","reasoning_content":"Hm"}}]}"#,
                2,
            ),
            (Format::OpenaiChat, r#"data: {"content":"cut off"#, 0),
            (Format::OpenaiChat, r#"data: {"content":"cut off\"#, 0),
            (Format::OpenaiChat, r#"data: {"content":"#, 0),
        ] {
            let mut heard = Heard::default();
            let texts = texts(format, &Endpoint::Chat);
            hear(texts, frames.as_bytes(), &mut heard);
            assert_eq!(heard.bytes(), expected, "{frames}");
        }
        let mut heard = Heard::default();
        let completions = texts(Format::OpenaiChat, &Endpoint::Completions);
        let frames = r#"data: {"choices":[{"text":"once","index":0},{"text":" more","index":1}]}"#;
        hear(completions, frames.as_bytes(), &mut heard);
        assert_eq!(heard.bytes(), 4 + 5);
    }
}
