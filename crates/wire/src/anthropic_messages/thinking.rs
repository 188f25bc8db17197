//! How hard to think → what Anthropic's models take: a budget of tokens, or since 4.7 an effort.

use serde::Serialize;

use crate::canon::{ChatRequest, Losses};
use crate::turns::{Conversation, What};

/// Anthropic demands a limit: what is sent where the client gave none.
const DEFAULT_MAX_TOKENS: u64 = 8192;

/// OpenAI's efforts: the budget for models that take one, the effort for the others.
const EFFORTS: [(&str, u64, &str); 5] = [
    ("low", 1024, "low"),
    ("medium", 4096, "medium"),
    ("high", 16384, "high"),
    ("xhigh", 32768, "xhigh"),
    ("max", 32768, "max"),
];

/// The first version that refuses budgets and decides by itself.
const ADAPTIVE_SINCE: (u32, u32) = (4, 7);

/// The `thinking` member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Thinking {
    /// This many tokens.
    Enabled { budget_tokens: u64 },
    /// As the model sees fit, told in summary.
    Adaptive { display: &'static str },
}

/// What thinking makes of a request.
#[derive(Debug)]
pub(super) struct Plan {
    /// Whether and how.
    pub thinking: Option<Thinking>,
    /// For models that take an effort.
    pub effort: Option<&'static str>,
    /// The limit, thinking included.
    pub max_tokens: u64,
}

/// Decides on thinking and the limit.
pub(super) fn plan(
    request: &ChatRequest,
    model: &str,
    conversation: &Conversation<'_>,
    losses: &mut Losses,
) -> Plan {
    let given = request.max_tokens.as_ref();
    let mut plan = Plan {
        thinking: None,
        effort: None,
        max_tokens: given.map_or(DEFAULT_MAX_TOKENS, |given| given.value),
    };
    let Some((budget, effort)) = wanted(request, conversation, losses) else {
        return plan;
    };
    if version(model).is_some_and(|version| version >= ADAPTIVE_SINCE) {
        plan.thinking = Some(Thinking::Adaptive {
            display: "summarized",
        });
        plan.effort = Some(effort);
        return plan;
    }
    plan.thinking = Some(Thinking::Enabled {
        budget_tokens: budget,
    });
    if plan.max_tokens <= budget {
        // The limit holds thinking too and must leave room for an answer: the client's own is not kept.
        plan.max_tokens = plan.max_tokens.saturating_add(budget);
        losses.unless_absent(&request.max_tokens);
    }
    plan
}

fn wanted(
    request: &ChatRequest,
    conversation: &Conversation<'_>,
    losses: &mut Losses,
) -> Option<(u64, &'static str)> {
    let effort = request.reasoning_effort.as_ref()?;
    if matches!(effort.value.as_str(), "none" | "minimal") {
        return None;
    }
    let row = EFFORTS.iter().find(|(name, ..)| *name == effort.value);
    // In the middle of a tool's use the turn that called it would have to be replayed with its thinking, which we do not have.
    let found = row.filter(|_| !is_amid_tools(conversation));
    if found.is_none() {
        losses.at(effort.at.clone());
    }
    found.map(|(_, budget, effort)| (*budget, *effort))
}

fn is_amid_tools(conversation: &Conversation<'_>) -> bool {
    let last = conversation.turns.last();
    last.is_some_and(|turn| {
        let mut pieces = turn.pieces.iter();
        pieces.any(|piece| matches!(piece.what, What::Answer(..)))
    })
}

/// `claude-opus-4-7`, `claude-sonnet-5`, `anthropic.claude-sonnet-4-20250514-v1:0` → 4.7, 5.0, 4.0.
fn version(model: &str) -> Option<(u32, u32)> {
    const FAMILIES: [&str; 3] = ["opus-", "sonnet-", "haiku-"];
    let (_, rest) = FAMILIES
        .iter()
        .find_map(|family| model.split_once(family))?;
    let mut numbers = rest.split(['-', '.', '@', ':']).map(str::parse::<u32>);
    let major = numbers.next()?.ok().filter(|major| *major < 100)?;
    // A date is no minor version.
    let minor = numbers.next().and_then(Result::ok);
    Some((major, minor.filter(|minor| *minor < 100).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names() {
        for (model, expected) in [
            ("claude-opus-4-7", Some((4, 7))),
            ("claude-sonnet-5", Some((5, 0))),
            ("claude-opus-5@20260801", Some((5, 0))),
            ("anthropic.claude-sonnet-4-20250514-v1:0", Some((4, 0))),
            ("claude-haiku-4-5-20251001", Some((4, 5))),
            ("anthropic/claude-opus-4.8", Some((4, 8))),
            ("claude-3-7-sonnet-20250219", None),
            ("claude-3-opus-latest", None),
            ("my-model", None),
        ] {
            assert_eq!(version(model), expected, "{model}");
        }
    }
}
