//! Whether and how hard to think → an effort for models that take one, or the provider's own switch.

use serde_json::{Map, Value};

use super::model::Model;
use crate::Target;
use crate::canon::{ChatRequest, Effort, Given, Losses, Thinking};
use crate::quirks::Switch;

/// What a request says about thinking.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    /// `reasoning_effort`.
    pub effort: Option<&'static str>,
    /// Members of the provider's own.
    pub members: Map<String, Value>,
    /// The model is kept from thinking.
    pub is_off: bool,
}

/// Says it in the provider's words. A tool that has to be called comes before thinking where only one of them can be had.
pub(crate) fn wish(
    request: &ChatRequest,
    target: &Target<'_>,
    model: Model,
    is_forced: bool,
    losses: &mut Losses,
) -> Wish {
    let wanted = request.thinking.as_ref().map(|given| given.value);
    let is_off = wanted == Some(Thinking::Off);
    let hides = request.show_thinking.as_ref().filter(|given| !given.value);
    let mut wish = Wish {
        is_off,
        ..Wish::default()
    };
    let Some(switch) = &target.quirks.thinking else {
        if let Some(hides) = hides {
            // Thinking is shown here where the provider shows it.
            losses.at(&hides.at);
        }
        wish.effort = effort(request, model, losses);
        return wish;
    };
    match hides {
        Some(hides) if switch.hidden.is_empty() => losses.at(&hides.at),
        Some(_) => merge(&mut wish.members, &switch.hidden),
        None => {}
    }
    if is_forced && target.quirks.thinks_or_forces {
        if !is_off {
            losses.unless_absent(&request.thinking);
        }
        wish.is_off = true;
        merge(&mut wish.members, &switch.off);
        return wish;
    }
    if let Some(wanted) = wanted
        && !switched(switch, wanted, &mut wish.members)
    {
        losses.unless_absent(&request.thinking);
    }
    wish
}

/// How hard to think, for models that are known to take it.
fn effort(request: &ChatRequest, model: Model, losses: &mut Losses) -> Option<&'static str> {
    let given = request.thinking.as_ref()?;
    if model.effort {
        return effort_of(given, losses);
    }
    if given.value != Thinking::Off {
        losses.at(&given.at);
    }
    None
}

/// Thinking as an effort; `None` for what is the model's own choice.
pub(crate) fn effort_of(given: &Given<Thinking>, losses: &mut Losses) -> Option<&'static str> {
    match given.value {
        Thinking::Off => Some("none"),
        Thinking::Auto => None,
        Thinking::Effort(effort) => {
            if effort > Effort::XHigh {
                losses.at(&given.at);
            }
            Some(effort.min(Effort::XHigh).name())
        }
        Thinking::Budget(tokens) => Some(Effort::of_budget(tokens).name()),
    }
}

/// Sets the switch; whether it can say all that was wanted.
fn switched(switch: &Switch, wanted: Thinking, out: &mut Map<String, Value>) -> bool {
    if wanted == Thinking::Off {
        merge(out, &switch.off);
        return !switch.off.is_empty();
    }
    merge(out, &switch.on);
    let (effort, budget) = match wanted {
        Thinking::Effort(effort) => (effort, effort.budget()),
        Thinking::Budget(tokens) => (Effort::of_budget(tokens), tokens),
        Thinking::Off | Thinking::Auto => return true,
    };
    let is_budget = matches!(wanted, Thinking::Budget(_));
    match (&switch.effort, &switch.budget) {
        (_, Some(at)) if is_budget => set(out, at, budget.into()),
        (Some(at), _) => set(out, at, word(switch, effort).into()),
        (None, Some(at)) => set(out, at, budget.into()),
        (None, None) => return false,
    }
    true
}

/// The provider's word for an effort: the least of its own that is not less.
fn word(switch: &Switch, effort: Effort) -> &str {
    let own = switch.efforts.iter().find(|name| {
        let known = Effort::named(name);
        known.is_some_and(|known| known >= effort)
    });
    let most = switch.efforts.last().map(String::as_str);
    own.map(String::as_str)
        .or(most)
        .unwrap_or(effort.min(Effort::XHigh).name())
}

fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(name), value) {
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more),
            _ => {
                into.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Sets what a JSON pointer names, with the objects on the way to it.
fn set(into: &mut Map<String, Value>, at: &str, value: Value) {
    let path = at.trim_start_matches('/');
    let more = path.rsplit('/').fold(value, |inner, name| {
        Value::Object(Map::from_iter([(name.to_owned(), inner)]))
    });
    if let Value::Object(more) = more {
        merge(into, &more);
    }
}
