//! What may be gone on from, and what becomes of the events that do.

use polygate_wire::canon::{CallKind, Issuer, Opaque, Stop, TokenLogprob};

use super::*;

fn open(index: usize, block: Block) -> ChatEvent {
    ChatEvent::Open { index, block }
}

fn delta(index: usize, text: &str) -> ChatEvent {
    let text = text.to_owned();
    ChatEvent::Delta { index, text }
}

fn close(index: usize) -> ChatEvent {
    ChatEvent::Close { index }
}

fn start() -> ChatEvent {
    ChatEvent::Start {
        id: None,
        model: None,
    }
}

fn usage(input: u64, output: u64) -> Usage {
    Usage {
        input,
        output,
        ..Usage::default()
    }
}

fn call() -> Block {
    Block::ToolCall {
        id: "c".to_owned(),
        name: "f".to_owned(),
        kind: CallKind::Function,
    }
}

fn seal(index: usize) -> ChatEvent {
    ChatEvent::Seal {
        index,
        opaque: Opaque {
            issuer: Issuer::Google,
            data: "x".to_owned(),
            id: None,
            is_redacted: false,
        },
    }
}

fn text_of(events: &[ChatEvent]) -> Option<String> {
    let mut said = Said::default();
    events.iter().for_each(|event| said.hear(event));
    said.text().map(str::to_owned)
}

#[test]
fn one_text_that_is_not_over_may_be_gone_on_from() {
    let text = [start(), open(0, Block::Text), delta(0, "a"), delta(0, " b")];
    assert_eq!(text_of(&text).as_deref(), Some("a b"));
    let with_usage = [&text[..], &[ChatEvent::Usage(usage(1, 2))]].concat();
    assert_eq!(text_of(&with_usage).as_deref(), Some("a b"));
}

#[test]
fn nothing_else_may() {
    let text = [open(0, Block::Text), delta(0, "a")];
    for more in [
        close(0),
        open(1, Block::Text),
        open(1, call()),
        open(1, Block::Reasoning),
        seal(0),
        ChatEvent::Cite {
            index: 0,
            citation: Citation::default(),
        },
        ChatEvent::Logprobs {
            index: 0,
            tokens: vec![TokenLogprob::default()],
        },
        ChatEvent::Stop(Stop::End),
        delta(0, &"x".repeat(LONGEST)),
    ] {
        let events = [&text[..], std::slice::from_ref(&more)].concat();
        assert_eq!(text_of(&events), None, "{more:?}");
        // And never again.
        let events = [&events[..], &[open(2, Block::Text), delta(2, "b")]].concat();
        assert_eq!(text_of(&events), None, "{more:?}");
    }
    for block in [Block::Reasoning, Block::Refusal, call()] {
        assert_eq!(text_of(&[open(0, block), delta(0, "a")]), None);
    }
    assert_eq!(text_of(&[start()]), None);
    assert_eq!(text_of(&[open(0, Block::Text)]), None);
}

/// The events behind a text, as the answer has them.
fn joined(said: &str, events: Vec<ChatEvent>) -> String {
    let mut seam = Seam::new(said, usage(10, 3));
    let events: Vec<ChatEvent> = events
        .into_iter()
        .flat_map(|event| seam.join(event))
        .collect();
    format!("{events:?}")
}

#[test]
fn a_text_goes_on_in_the_block_that_is_open() {
    let events = vec![
        start(),
        ChatEvent::Usage(usage(14, 0)),
        open(0, Block::Reasoning),
        delta(0, "where was I"),
        seal(0),
        close(0),
        open(1, Block::Text),
        delta(1, "on"),
        seal(1),
        close(1),
        open(2, call()),
        delta(2, "{}"),
        close(2),
        ChatEvent::Stop(Stop::ToolUse),
        ChatEvent::Usage(usage(14, 5)),
    ];
    let expected = vec![
        ChatEvent::Usage(usage(24, 3)),
        delta(0, "on"),
        close(0),
        open(1, call()),
        delta(1, "{}"),
        close(1),
        ChatEvent::Stop(Stop::ToolUse),
        ChatEvent::Usage(usage(24, 8)),
    ];
    assert_eq!(joined("so", events), format!("{expected:?}"));
}

#[test]
fn a_text_that_nobody_goes_on_with_is_over() {
    let expected = vec![close(0), ChatEvent::Stop(Stop::End)];
    let events = vec![start(), ChatEvent::Stop(Stop::End)];
    assert_eq!(joined("so", events), format!("{expected:?}"));
    let expected = vec![close(0), open(1, call()), open(2, Block::Text)];
    let events = vec![open(0, call()), open(1, Block::Text)];
    assert_eq!(joined("so", events), format!("{expected:?}"));
}

#[test]
fn blanks_come_once() {
    for (said, pieces, expected) in [
        ("a ", vec![" b"], "b"),
        ("a ", vec!["b"], "b"),
        ("a", vec![" b"], " b"),
        ("a\n\n", vec!["\n", "\n", "\nb"], "\nb"),
        ("a\n", vec![" b"], " b"),
        ("a \n", vec![" ", "b"], "b"),
        ("a ", vec!["", " ", " b"], " b"),
    ] {
        let mut seam = Seam::new(said, Usage::default());
        seam.join(open(0, Block::Text));
        let text: String = pieces
            .iter()
            .flat_map(|piece| seam.join(delta(0, piece)))
            .filter_map(|event| match event {
                ChatEvent::Delta { text, .. } => Some(text),
                _ => None,
            })
            .collect();
        assert_eq!(text, expected, "{said:?} {pieces:?}");
    }
}
