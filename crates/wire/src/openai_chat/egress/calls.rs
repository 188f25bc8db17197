//! Calls that stream: told apart by an index, an id or their order, and whole when their JSON is.

use serde_json::value::RawValue;

use super::super::types::{Call, Custom, Function};
use crate::canon::{CallKind, ChatEvent};
use crate::lenient::Text;

/// A call by the index that the provider gave it.
#[derive(Debug)]
pub(super) struct Known {
    pub theirs: Option<u64>,
    pub id: String,
    pub ours: usize,
    pub kind: CallKind,
    pub is_open: bool,
    pub has_arguments: bool,
    pub json: Balance,
}

/// Whether JSON text that comes in pieces is whole.
#[derive(Debug, Default)]
pub(super) struct Balance {
    depth: u32,
    has_begun: bool,
    in_string: bool,
    escaped: bool,
}

impl Balance {
    pub(super) fn read(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => {
                    self.depth += 1;
                    self.has_begun = true;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.has_begun && self.depth == 0
    }
}

impl Known {
    /// Ends it; a function's call without arguments has none.
    pub(super) fn close(&mut self, out: &mut Vec<ChatEvent>) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        if !self.has_arguments && self.kind == CallKind::Function {
            out.push(ChatEvent::Delta {
                index: self.ours,
                text: "{}".to_owned(),
            });
        }
        out.push(ChatEvent::Close { index: self.ours });
    }
}

/// What a piece of a call says.
pub(super) struct Piece {
    pub name: Option<String>,
    pub text: String,
    pub kind: CallKind,
}

impl Piece {
    pub(super) fn of(call: &Call<'_>) -> Self {
        let named = |name: &Option<Text<'_>>| {
            let name = name.as_deref().filter(|name| !name.is_empty());
            name.map(str::to_owned)
        };
        match (&call.function, &call.custom) {
            (Some(Function { name, arguments }), _) => Self {
                name: named(name),
                text: arguments.map(arguments_text).unwrap_or_default(),
                kind: CallKind::Function,
            },
            (None, Some(Custom { name, input })) => Self {
                name: named(name),
                text: input.as_deref().unwrap_or_default().to_owned(),
                kind: CallKind::Custom,
            },
            (None, None) => Self {
                name: None,
                text: String::new(),
                kind: CallKind::Function,
            },
        }
    }

    /// Some servers repeat name and id with every piece.
    pub(super) fn name_is_known(&self, last: Option<&Known>, call: &Call<'_>) -> bool {
        let id = call.id.as_deref().unwrap_or_default();
        last.is_some_and(|last| !id.is_empty() && last.id == id)
    }
}

fn arguments_text(raw: &RawValue) -> String {
    match raw.get() {
        "null" => String::new(),
        text if text.starts_with('"') => {
            let text: Result<Text<'_>, _> = serde_json::from_str(text);
            text.map(Into::into).unwrap_or_default()
        }
        text => text.to_owned(),
    }
}
