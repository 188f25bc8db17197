//! The hub's request → Anthropic's.

use std::borrow::Cow;

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use serde::Serialize;
use serde_json::value::RawValue;

use super::blocks::{CacheControl, Marked, Message, ask_to_go_on, blocks, messages};
use super::model::{Model, Takes};
use super::schema;
use super::thinking::{Thinking, plan};
use crate::canon::{ChatRequest, Given, Losses, OutputShape, Tool, ToolChoice, ToolInput};
use crate::raw::Edit;
use crate::turns::{Instructions, conversation};
use crate::{Loss, RawObject, Target};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Marked<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "OutputConfig::is_empty")]
    output_config: OutputConfig<'a>,
    #[serde(flatten)]
    sampling: Sampling,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

#[derive(Serialize)]
struct ToolOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strict: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl<'a>>,
}

#[derive(Serialize)]
struct Choice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

#[derive(Default, Serialize)]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<OutputFormat<'a>>,
}

impl OutputConfig<'_> {
    fn is_empty(&self) -> bool {
        self.effort.is_none() && self.format.is_none()
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "json_schema")]
struct OutputFormat<'a> {
    schema: Cow<'a, RawValue>,
}

#[derive(Default, Serialize)]
pub(crate) struct Sampling {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u64>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    user_id: &'a str,
}

/// Writes a request; names what it cannot carry.
pub(crate) fn encode(
    request: &ChatRequest,
    target: &Target<'_>,
) -> Result<(Bytes, Vec<Loss>), Failure> {
    let mut losses = Losses::of(request);
    let facts = Model::named(target.model);
    let instructions = if facts.instructions {
        Instructions::Leading
    } else {
        Instructions::Apart
    };
    let said = conversation(&request.messages, instructions, &mut losses)?;
    let plan = plan(request, facts, &said, &mut losses);
    let has_budget = matches!(plan.thinking, Some(Thinking::Enabled { .. }));
    let takes = if plan.thinking.is_some() {
        Takes::Nothing
    } else {
        facts.sampling
    };
    let mut messages = messages(&said.turns, &mut losses)?;
    if !facts.prefill || plan.thinking.is_some() {
        ask_to_go_on(&mut messages);
    }
    let body = Body {
        model: target.model,
        max_tokens: plan.max_tokens,
        messages,
        system: blocks(&said.system, &mut losses)?,
        tools: tools(request, &mut losses)?,
        tool_choice: tool_choice(request, has_budget, &mut losses),
        thinking: plan.thinking,
        output_config: OutputConfig {
            effort: plan.effort,
            format: output_format(request, &mut losses),
        },
        sampling: sampling(request, takes, &mut losses),
        stop_sequences: stop_sequences(request, &mut losses),
        metadata: request.user.as_ref().map(|user| Metadata {
            user_id: &user.value,
        }),
        stream: request.stream,
    };
    no_place_for(request, &mut losses);
    let bytes = serde_json::to_vec(&body)
        .map_err(|_| Failure::new(Kind::Internal, "the request could not be written"))?;
    Ok((bytes.into(), losses.into_vec()))
}

/// Members that Anthropic does not have. A penalty of nothing is none.
fn no_place_for(request: &ChatRequest, losses: &mut Losses) {
    losses.unless_absent(&request.seed);
    losses.unless_absent(&request.verbosity);
    losses.unless_absent(&request.logprobs);
    for penalty in [&request.presence_penalty, &request.frequency_penalty] {
        if penalty.as_ref().is_some_and(|given| given.value != 0.0) {
            losses.unless_absent(penalty);
        }
    }
    for extra in &request.extra {
        losses.at(extra.at.clone());
    }
}

/// Anthropic's scale ends at 1. Defaults that are not taken need not be sent.
pub(crate) fn sampling(request: &ChatRequest, takes: Takes, losses: &mut Losses) -> Sampling {
    let mut sampling = Sampling::default();
    let changed = |given: &Option<Given<f64>>| given.clone().filter(|given| given.value != 1.0);
    if takes == Takes::Nothing {
        losses.unless_absent(&changed(&request.temperature));
        losses.unless_absent(&changed(&request.top_p));
        losses.unless_absent(&request.top_k);
        return sampling;
    }
    sampling.top_k = request.top_k.as_ref().map(|given| given.value);
    sampling.temperature = request.temperature.as_ref().map(|given| {
        let clamped = given.value.clamp(0.0, 1.0);
        if clamped != given.value {
            losses.at(given.at.clone());
        }
        clamped
    });
    if sampling.temperature.is_some() && takes == Takes::Either {
        losses.unless_absent(&changed(&request.top_p));
    } else {
        sampling.top_p = request.top_p.as_ref().map(|given| given.value);
    }
    sampling
}

/// Sequences of nothing but blanks are refused there.
pub(crate) fn stop_sequences<'a>(request: &'a ChatRequest, losses: &mut Losses) -> Vec<&'a str> {
    let Some(stop) = &request.stop else {
        return vec![];
    };
    let words = stop.value.iter().map(String::as_str);
    let (kept, blank): (Vec<&str>, Vec<&str>) = words.partition(|word| !word.trim().is_empty());
    if !blank.is_empty() {
        losses.at(stop.at.clone());
    }
    kept
}

/// `output_config.format`, as recorded traffic uses it without any beta header.
fn output_format<'a>(request: &'a ChatRequest, losses: &mut Losses) -> Option<OutputFormat<'a>> {
    let output = request.output.as_ref()?;
    let fitted = match &output.value {
        OutputShape::JsonSchema {
            schema,
            description,
            ..
        } => {
            losses.unless_absent(description);
            schema::fit(schema)
        }
        OutputShape::JsonObject => None,
    };
    match &fitted {
        None => losses.at(output.at.clone()),
        Some(fitted) if fitted.is_loosened => losses.at(output.at.clone()),
        Some(_) => {}
    }
    fitted.map(|fitted| OutputFormat {
        schema: fitted.json,
    })
}

fn tools<'a>(request: &'a ChatRequest, losses: &mut Losses) -> Result<Vec<ToolOut<'a>>, Failure> {
    let offered = request.offered().into_iter();
    offered.map(|tool| tool_out(tool, losses)).collect()
}

fn tool_out<'a>(tool: &'a Tool, losses: &mut Losses) -> Result<ToolOut<'a>, Failure> {
    let input_schema = input_schema(tool).ok_or_else(|| {
        let name = &tool.name;
        let message =
            format!("the parameters of the tool '{name}' are not a JSON schema of an object");
        Failure::new(Kind::InvalidRequest, message).param(tool.at.clone())
    })?;
    if let ToolInput::Freeform(grammar) = &tool.input {
        losses.unless_absent(grammar);
    }
    // A schema that Anthropic's grammar cannot hold would be refused; it still guides the model.
    let strict = tool.is_strict() && schema::is_strict(&input_schema);
    if tool.is_strict() && !strict {
        losses.unless_absent(&tool.strict);
    }
    Ok(ToolOut {
        name: &tool.name,
        description: tool.description.as_deref(),
        input_schema,
        strict,
        cache_control: tool
            .cache
            .as_ref()
            .map(|given| CacheControl::of(&given.value)),
    })
}

/// The client's bytes; `type` is required there, and added where it is missing.
pub(crate) fn input_schema(tool: &Tool) -> Option<Cow<'_, RawValue>> {
    const NOTHING: &str = r#"{"type":"object","properties":{}}"#;
    let owned = |text: String| RawValue::from_string(text).ok().map(Cow::Owned);
    let Some(given) = tool.parameters().filter(|raw| raw.get() != "null") else {
        return owned(NOTHING.to_owned());
    };
    let object = RawObject::parse(Bytes::copy_from_slice(given.get().as_bytes())).ok()?;
    if object.iter().next().is_none() {
        return owned(NOTHING.to_owned());
    }
    if object.get("type").is_some() {
        return Some(Cow::Borrowed(given));
    }
    let typed = object.edit(&[Edit::Set("type", "\"object\"")]);
    owned(String::from_utf8(typed.to_vec()).ok()?)
}

fn tool_choice<'a>(
    request: &'a ChatRequest,
    has_budget: bool,
    losses: &mut Losses,
) -> Option<Choice<'a>> {
    let given = request.tool_choice.as_ref();
    let wanted = given.map(|given| &given.value);
    let is_required = matches!(
        wanted,
        Some(ToolChoice::Required | ToolChoice::Allowed { required: true, .. })
    );
    let is_forced = is_required || matches!(wanted, Some(ToolChoice::Named(_)));
    if is_forced && (request.tools.is_empty() || has_budget) {
        // There is nothing to force, or thinking on a budget allows no force.
        losses.unless_absent(&request.tool_choice);
    }
    if request.tools.is_empty() {
        return None;
    }
    let (kind, name) = match wanted {
        Some(ToolChoice::None) => ("none", None),
        _ if is_required && !has_budget => ("any", None),
        Some(ToolChoice::Named(name)) if !has_budget => ("tool", Some(name.as_str())),
        _ => ("auto", None),
    };
    let one_at_a_time = is_refused(request.parallel_tool_calls.as_ref()) && kind != "none";
    (given.is_some() || one_at_a_time).then_some(Choice {
        kind,
        name,
        disable_parallel_tool_use: one_at_a_time,
    })
}

fn is_refused(given: Option<&Given<bool>>) -> bool {
    given.is_some_and(|given| !given.value)
}
