//! How hard to think → what Anthropic's models take: a budget of tokens, or since 4.7 an effort.

use serde::Serialize;

use super::model::{Model, Thoughts};
use crate::canon::{ChatRequest, Effort, Issuer, Losses, Role, Thinking as Wanted};
use crate::turns::{Conversation, Turn, What};

/// The `thinking` member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Thinking {
    /// This many tokens.
    Enabled { budget_tokens: u64 },
    /// As the model sees fit, told in summary.
    Adaptive { display: &'static str },
}

/// What thinking makes of a request.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Whether and how.
    pub thinking: Option<Thinking>,
    /// For models that take an effort.
    pub effort: Option<&'static str>,
    /// The limit, thinking included.
    pub max_tokens: u64,
}

/// Decides on thinking and the limit.
pub(crate) fn plan(
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
    let Some(wanted) = wanted(request, model, conversation, losses) else {
        return plan;
    };
    let is_hidden = request
        .show_thinking
        .as_ref()
        .is_some_and(|given| !given.value);
    if model.thoughts == Thoughts::Adaptive {
        plan.thinking = Some(Thinking::Adaptive {
            display: if is_hidden { "omitted" } else { "summarized" },
        });
        plan.effort = match wanted {
            Wanted::Off | Wanted::Auto => None,
            Wanted::Effort(effort) => Some(effort.max(Effort::Low).name()),
            Wanted::Budget(tokens) => Some(Effort::of_budget(tokens).max(Effort::Low).name()),
        };
        return plan;
    }
    let budget = match wanted {
        Wanted::Off | Wanted::Auto => Effort::Medium.budget(),
        Wanted::Effort(effort) => effort.budget(),
        Wanted::Budget(tokens) => tokens,
    };
    let Some(budget_tokens) = plan.fit(budget.max(LEAST_BUDGET), request, losses) else {
        return plan;
    };
    if is_hidden {
        // These are known to show what they think.
        losses.unless_absent(&request.show_thinking);
    }
    plan.thinking = Some(Thinking::Enabled { budget_tokens });
    plan
}

impl Plan {
    /// The limit holds thinking too and must leave room for an answer: it is the client's cap on what it pays, so that the budget
    /// gives way. `None` where no thought fits under it.
    fn fit(&mut self, budget: u64, request: &ChatRequest, losses: &mut Losses) -> Option<u64> {
        let Some(limit) = &request.max_tokens else {
            if self.max_tokens <= budget {
                self.max_tokens = self.max_tokens.saturating_add(budget);
            }
            return Some(budget);
        };
        if budget < limit.value {
            return Some(budget);
        }
        if limit.value <= LEAST_BUDGET {
            losses.unless_absent(&request.thinking);
            return None;
        }
        let most = (limit.value / 4 * 3).max(LEAST_BUDGET);
        let given = request.thinking.as_ref();
        if given.is_some_and(|given| matches!(given.value, Wanted::Budget(_))) {
            losses.unless_absent(&request.thinking);
        }
        Some(most)
    }
}

/// The least budget that is taken.
const LEAST_BUDGET: u64 = 1024;

fn wanted(
    request: &ChatRequest,
    model: Model,
    conversation: &Conversation<'_>,
    losses: &mut Losses,
) -> Option<Wanted> {
    let given = request.thinking.as_ref()?;
    if matches!(given.value, Wanted::Off | Wanted::Effort(Effort::Minimal)) {
        return None;
    }
    let can = match model.thoughts {
        Thoughts::Adaptive => true,
        // In the middle of a tool's use the call has to be replayed with the thinking before it.
        Thoughts::Budget => !is_amid_tools(conversation) || has_thoughts(conversation),
        Thoughts::None => false,
    };
    if !can {
        losses.at(&given.at);
    }
    can.then_some(given.value)
}

fn is_amid_tools(conversation: &Conversation<'_>) -> bool {
    let last = conversation.turns.last();
    last.is_some_and(|turn| {
        let mut pieces = turn.pieces.iter();
        pieces.any(|piece| matches!(piece.what, What::Answer(..)))
    })
}

/// The model's last turn comes with its own thinking.
fn has_thoughts(conversation: &Conversation<'_>) -> bool {
    let own = |turn: &&Turn<'_>| turn.role == Role::Assistant;
    let last = conversation.turns.iter().rev().find(own);
    last.is_some_and(|turn| {
        turn.pieces.iter().any(|piece| match &piece.what {
            What::Reasoning(reasoning) => {
                let opaque = reasoning.opaque.as_ref();
                opaque.is_some_and(|opaque| opaque.issuer == Issuer::Anthropic)
            }
            _ => false,
        })
    })
}
