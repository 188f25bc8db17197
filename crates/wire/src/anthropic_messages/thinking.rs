//! How hard to think → what Anthropic's models take: a budget of tokens, or since 4.7 an effort.

use serde::Serialize;

use super::model::{Model, Thoughts};
use crate::canon::{ChatRequest, Losses};
use crate::turns::{Conversation, What};

/// OpenAI's efforts: the budget for models that take one, the effort for the others.
const EFFORTS: [(&str, u64, &str); 5] = [
    ("low", 1024, "low"),
    ("medium", 4096, "medium"),
    ("high", 16384, "high"),
    ("xhigh", 32768, "xhigh"),
    ("max", 32768, "max"),
];

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
    model: Model,
    conversation: &Conversation<'_>,
    losses: &mut Losses,
) -> Plan {
    let given = request.max_tokens.as_ref();
    let mut plan = Plan {
        thinking: None,
        effort: None,
        max_tokens: given.map_or(model.max_tokens, |given| given.value),
    };
    let Some((budget, effort)) = wanted(request, model, conversation, losses) else {
        return plan;
    };
    if model.thoughts == Thoughts::Adaptive {
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
    model: Model,
    conversation: &Conversation<'_>,
    losses: &mut Losses,
) -> Option<(u64, &'static str)> {
    let effort = request.reasoning_effort.as_ref()?;
    if matches!(effort.value.as_str(), "none" | "minimal") {
        return None;
    }
    let row = EFFORTS.iter().find(|(name, ..)| *name == effort.value);
    let found = row.filter(|_| match model.thoughts {
        Thoughts::Adaptive => true,
        // In the middle of a tool's use the call would have to be replayed with the thinking before it, which we do not have.
        Thoughts::Budget => !is_amid_tools(conversation),
        Thoughts::None => false,
    });
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
