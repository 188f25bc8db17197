//! The hub's request → Responses.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use serde::Serialize;
use serde_json::value::RawValue;

use super::items::{Item, items};
use crate::canon::{
    ChatRequest, Given, Losses, OutputShape, Thinking, Tool, ToolChoice, ToolInput,
};
use crate::openai_chat::{Model, effort_of, in_dialect, is_tier};
use crate::turns::{Instructions, conversation};
use crate::{Format, Loss, Target};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Reasoning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(flatten)]
    shared: Shared<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    store: bool,
}

/// Members that Chat has under the same name and with the same meaning.
#[derive(Default, Serialize)]
struct Shared<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_key: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_cache_retention: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_identifier: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Reasoning {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'static str>,
}

#[derive(Serialize)]
struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<TextFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum TextFormat<'a> {
    JsonObject,
    JsonSchema {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        schema: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ToolOut<'a> {
    Function {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        parameters: Cow<'a, RawValue>,
        strict: bool,
    },
    Custom {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        format: Option<GrammarOut<'a>>,
    },
}

/// The grammar of a freeform tool.
#[derive(Serialize)]
#[serde(tag = "type", rename = "grammar")]
struct GrammarOut<'a> {
    syntax: &'a str,
    definition: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Tool(Named<'a>),
    Allowed {
        #[serde(rename = "type")]
        kind: &'static str,
        mode: &'static str,
        tools: Vec<Named<'a>>,
    },
}

#[derive(Serialize)]
struct Named<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
}

/// Writes a request; names what it cannot carry.
pub(crate) fn encode(
    request: &ChatRequest,
    target: &Target<'_>,
) -> Result<(Bytes, Vec<Loss>), Failure> {
    let mut losses = Losses::of(request);
    let model = Model::named(target.model);
    let said = conversation(&request.messages, Instructions::InPlace, &mut losses)?;
    let has_tools = !request.tools.is_empty();
    let body = Body {
        model: target.model,
        input: items(&said, &mut losses)?,
        tools: request
            .tools
            .iter()
            .filter_map(|tool| tool_out(tool, &mut losses))
            .collect(),
        tool_choice: tool_choice(request, &mut losses),
        parallel_tool_calls: refused(request, has_tools, &mut losses),
        max_output_tokens: max_output_tokens(request, &mut losses),
        temperature: sampled(&request.temperature, model, &mut losses),
        top_p: sampled(&request.top_p, model, &mut losses),
        top_logprobs: request.logprobs.as_ref().map(|given| given.value),
        reasoning: reasoning(request, model, &mut losses),
        text: text(request),
        include: request
            .logprobs
            .iter()
            .map(|_| "message.output_text.logprobs")
            .collect(),
        user: request.user.as_ref().map(|given| given.value.as_str()),
        shared: shared(request, &mut losses),
        stream: request.stream,
        // The interface keeps answers unless told not to; what is kept for the client the gateway keeps.
        store: false,
    };
    losses.unless_absent(&request.top_k);
    losses.unless_absent(&request.stop);
    losses.unless_absent(&request.seed);
    for penalty in [&request.presence_penalty, &request.frequency_penalty] {
        if penalty.as_ref().is_some_and(|given| given.value != 0.0) {
            losses.unless_absent(penalty);
        }
    }
    let bytes = serde_json::to_vec(&body)
        .map_err(|_| Failure::new(Kind::Internal, "the request could not be written"))?;
    let bytes = in_dialect(bytes.into(), request, target, &mut losses)?;
    Ok((bytes, losses.into_vec()))
}

/// What OpenAI's two formats share passes between them; everything else that nobody modelled is lost.
fn shared<'a>(request: &'a ChatRequest, losses: &mut Losses) -> Shared<'a> {
    let mut shared = Shared::default();
    let is_cousin = request.source == Some(Format::OpenaiChat);
    for extra in &request.extra {
        let place = match extra.at.as_str() {
            "/metadata" if is_cousin => &mut shared.metadata,
            "/service_tier" if is_cousin && is_tier(&extra.value) => &mut shared.service_tier,
            "/prompt_cache_key" if is_cousin => &mut shared.prompt_cache_key,
            "/prompt_cache_retention" if is_cousin => &mut shared.prompt_cache_retention,
            "/safety_identifier" if is_cousin => &mut shared.safety_identifier,
            _ => {
                losses.at(&extra.at);
                continue;
            }
        };
        *place = Some(&extra.value);
    }
    shared
}

/// The least that is taken there is more than some clients ask for.
fn max_output_tokens(request: &ChatRequest, losses: &mut Losses) -> Option<u64> {
    const LEAST: u64 = 16;
    let given = request.max_tokens.as_ref()?;
    if given.value < LEAST {
        losses.at(&given.at);
    }
    Some(given.value.max(LEAST))
}

/// Models that think take no sampling but the default.
fn sampled(given: &Option<Given<f64>>, model: Model, losses: &mut Losses) -> Option<f64> {
    let given = given.as_ref()?;
    if model.sampling {
        return Some(given.value);
    }
    if given.value != 1.0 {
        losses.at(&given.at);
    }
    None
}

/// Thinking is told in summary where the client did not say that it does not want it told.
fn reasoning(request: &ChatRequest, model: Model, losses: &mut Losses) -> Option<Reasoning> {
    let show = request.show_thinking.as_ref().map(|given| given.value);
    let given = request.thinking.as_ref();
    if !model.effort {
        if let Some(given) = given.filter(|given| given.value != Thinking::Off) {
            losses.at(&given.at);
        }
        return None;
    }
    let is_off = given.is_some_and(|given| given.value == Thinking::Off);
    let wants_summary = show.unwrap_or(given.is_some() && !is_off);
    let reasoning = Reasoning {
        effort: given.and_then(|given| effort_of(given, losses)),
        summary: wants_summary.then_some("auto"),
    };
    (reasoning.effort.is_some() || reasoning.summary.is_some()).then_some(reasoning)
}

fn text(request: &ChatRequest) -> Option<Text<'_>> {
    let text = Text {
        format: request.output.as_ref().map(|given| format(&given.value)),
        verbosity: request.verbosity.as_ref().map(|given| given.value.as_str()),
    };
    (text.format.is_some() || text.verbosity.is_some()).then_some(text)
}

fn format(shape: &OutputShape) -> TextFormat<'_> {
    match shape {
        OutputShape::JsonObject => TextFormat::JsonObject,
        OutputShape::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => TextFormat::JsonSchema {
            name: name.as_deref().unwrap_or("answer"),
            description: description.as_ref().map(|given| given.value.as_str()),
            schema,
            strict: *strict,
        },
    }
}

/// Flat there; and strict unless said otherwise, which others are not.
fn tool_out<'a>(tool: &'a Tool, losses: &mut Losses) -> Option<ToolOut<'a>> {
    const NOTHING: &str = r#"{"type":"object","properties":{}}"#;
    losses.unless_absent(&tool.cache);
    let description = tool.description.as_deref();
    Some(match &tool.input {
        ToolInput::Freeform(grammar) => ToolOut::Custom {
            name: &tool.name,
            description,
            format: grammar.as_ref().map(|given| GrammarOut {
                syntax: &given.value.syntax,
                definition: &given.value.definition,
            }),
        },
        ToolInput::Json(schema) => ToolOut::Function {
            name: &tool.name,
            description,
            parameters: match schema {
                Some(schema) => Cow::Borrowed(&**schema),
                None => Cow::Owned(RawValue::from_string(NOTHING.to_owned()).ok()?),
            },
            strict: tool.is_strict(),
        },
    })
}

fn tool_choice<'a>(request: &'a ChatRequest, losses: &mut Losses) -> Option<Choice<'a>> {
    let given = request.tool_choice.as_ref()?;
    if request.tools.is_empty() {
        if !matches!(given.value, ToolChoice::Auto | ToolChoice::None) {
            losses.at(&given.at);
        }
        return None;
    }
    let freeform = freeform(request);
    let named = |name: &'a str| Named {
        kind: if freeform.contains(name) {
            "custom"
        } else {
            "function"
        },
        name,
    };
    Some(match &given.value {
        ToolChoice::Auto => Choice::Word("auto"),
        ToolChoice::None => Choice::Word("none"),
        ToolChoice::Required => Choice::Word("required"),
        ToolChoice::Named(name) => Choice::Tool(named(name)),
        ToolChoice::Allowed { names, required } => Choice::Allowed {
            kind: "allowed_tools",
            mode: if *required { "required" } else { "auto" },
            tools: names.iter().map(|name| named(name)).collect(),
        },
    })
}

fn freeform(request: &ChatRequest) -> HashSet<&str> {
    let tools = request.tools.iter();
    let freeform = tools.filter(|tool| matches!(tool.input, ToolInput::Freeform(_)));
    freeform.map(|tool| tool.name.as_str()).collect()
}

fn refused(request: &ChatRequest, has_tools: bool, losses: &mut Losses) -> Option<bool> {
    let given = request.parallel_tool_calls.as_ref()?;
    if !has_tools {
        if !given.value {
            losses.at(&given.at);
        }
        return None;
    }
    Some(given.value)
}
