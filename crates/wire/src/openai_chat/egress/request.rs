//! The hub's request → Chat Completions, in the dialect of the provider.

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::dialect::in_dialect;
use super::messages::{MessageOut, Writing, instruct};
use super::model::Model;
use super::thinking::{Wish, wish};
use crate::canon::{
    CachePoint, ChatRequest, Given, Losses, OutputShape, Tool, ToolChoice, ToolInput,
};
use crate::quirks::Feature;
use crate::turns::{Instructions, conversation};
use crate::{Format, Loss, Target};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<MessageOut<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbosity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(flatten)]
    shared: Shared<'a>,
    /// The provider's own members about thinking.
    #[serde(flatten)]
    thinking: Map<String, Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
}

/// Members that Responses has under the same name and with the same meaning.
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
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct ToolOut<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl<'a>>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// Anthropic's mark, as some providers take it in this format.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "ephemeral")]
pub(crate) struct CacheControl<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'a str>,
}

impl<'a> CacheControl<'a> {
    pub(crate) fn of(point: &'a CachePoint) -> Self {
        Self {
            ttl: point.ttl.as_deref(),
        }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Function {
        #[serde(rename = "type")]
        kind: &'static str,
        function: Name<'a>,
    },
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat<'a> {
    JsonObject,
    JsonSchema { json_schema: JsonSchema<'a> },
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// Writes a request; names what it cannot carry.
pub(crate) fn encode(
    request: &ChatRequest,
    target: &Target<'_>,
) -> Result<(Bytes, Vec<Loss>), Failure> {
    let mut losses = Losses::of(request);
    let quirks = target.quirks;
    let model = Model::named(target.model);
    let place = if quirks.system_first {
        Instructions::Apart
    } else {
        Instructions::InPlace
    };
    let said = conversation(&request.messages, place, &mut losses)?;
    let limit = request.max_tokens.as_ref().map(|given| given.value);
    // OpenAI's models that think refuse the old name, whoever serves them.
    let is_new_limit = quirks.max_completion_tokens || !model.sampling;
    let tools = tools(request, target, &mut losses);
    let has_tools = !tools.is_empty();
    let tool_choice = tool_choice(request, target, has_tools, &mut losses);
    let is_forced = tool_choice.as_ref().is_some_and(Choice::is_forced);
    let Wish {
        effort,
        members,
        is_off,
    } = wish(request, target, model, is_forced, &mut losses);
    let writing = Writing {
        target,
        thinks: !is_off,
    };
    let mut body = Body {
        model: target.model,
        messages: writing.messages(&said, &mut losses)?,
        tools,
        tool_choice,
        parallel_tool_calls: parallel(request, has_tools, &mut losses),
        max_tokens: limit.filter(|_| !is_new_limit),
        max_completion_tokens: limit.filter(|_| is_new_limit),
        temperature: sampled(&request.temperature, 1.0, model, &mut losses),
        top_p: sampled(&request.top_p, 1.0, model, &mut losses),
        top_k: None,
        stop: stop(request, target, model, &mut losses),
        seed: request.seed.as_ref().map(|given| given.value),
        presence_penalty: sampled(&request.presence_penalty, 0.0, model, &mut losses),
        frequency_penalty: sampled(&request.frequency_penalty, 0.0, model, &mut losses),
        logprobs: request.logprobs.as_ref().map(|_| true),
        top_logprobs: request
            .logprobs
            .as_ref()
            .map(|given| given.value)
            .filter(|n| *n > 0),
        reasoning_effort: effort,
        verbosity: request.verbosity.as_ref().map(|given| given.value.as_str()),
        response_format: None,
        user: request.user.as_ref().map(|given| given.value.as_str()),
        shared: shared(request, &mut losses),
        thinking: members,
        stream: request.stream,
        stream_options: request.stream.then_some(StreamOptions {
            include_usage: true,
        }),
    };
    if let Some(given) = &request.output {
        body.response_format = Some(shape(given, target, &mut body.messages, &mut losses));
    }
    if quirks.top_k {
        body.top_k = request.top_k.as_ref().map(|given| given.value);
    } else {
        losses.unless_absent(&request.top_k);
    }
    let bytes = serde_json::to_vec(&body)
        .map_err(|_| Failure::new(Kind::Internal, "the request could not be written"))?;
    let bytes = in_dialect(bytes.into(), request, target, &mut losses)?;
    Ok((bytes, losses.into_vec()))
}

/// What OpenAI's two formats share passes between them; everything else that nobody modelled is lost.
fn shared<'a>(request: &'a ChatRequest, losses: &mut Losses) -> Shared<'a> {
    let mut shared = Shared::default();
    let is_cousin = request.source == Some(Format::OpenaiResponses);
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

/// Whether a service tier is one of OpenAI's: compatible providers have their own.
pub(crate) fn is_tier(raw: &RawValue) -> bool {
    let tiers = ["auto", "default", "flex", "scale", "priority"];
    let word = raw.get().trim_matches('"');
    tiers.contains(&word)
}

/// A sampling member; models that think take none but the default.
fn sampled(
    given: &Option<Given<f64>>,
    default: f64,
    model: Model,
    losses: &mut Losses,
) -> Option<f64> {
    let given = given.as_ref()?;
    if model.sampling {
        return Some(given.value);
    }
    if given.value != default {
        losses.at(&given.at);
    }
    None
}

/// Models that think take no stop sequences, and providers take only so many.
fn stop<'a>(
    request: &'a ChatRequest,
    target: &Target<'_>,
    model: Model,
    losses: &mut Losses,
) -> Option<&'a [String]> {
    let given = request.stop.as_ref()?;
    if !model.sampling {
        losses.at(&given.at);
        return None;
    }
    let words = given.value.as_slice();
    let most = target.quirks.most_stops.unwrap_or(words.len());
    if words.len() > most {
        losses.at(&given.at);
    }
    words.get(..most.min(words.len()))
}

/// The shape of the answer; a schema is told in words where the provider promises no more than JSON.
fn shape<'a>(
    given: &'a Given<OutputShape>,
    target: &Target<'_>,
    messages: &mut Vec<MessageOut<'a>>,
    losses: &mut Losses,
) -> ResponseFormat<'a> {
    match &given.value {
        OutputShape::JsonSchema { schema, .. } if target.quirks.lacks(Feature::JsonSchema) => {
            losses.at(&given.at);
            let said =
                "Answer with one JSON object and nothing else. It has to follow this JSON schema:";
            instruct(messages, format!("{said}\n{}", schema.get()));
            ResponseFormat::JsonObject
        }
        shape => format(shape),
    }
}

fn format(shape: &OutputShape) -> ResponseFormat<'_> {
    match shape {
        OutputShape::JsonObject => ResponseFormat::JsonObject,
        OutputShape::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => ResponseFormat::JsonSchema {
            json_schema: JsonSchema {
                name: name.as_deref().unwrap_or("answer"),
                description: description.as_ref().map(|given| given.value.as_str()),
                schema,
                strict: *strict,
            },
        },
    }
}

fn tools<'a>(
    request: &'a ChatRequest,
    target: &Target<'_>,
    losses: &mut Losses,
) -> Vec<ToolOut<'a>> {
    let choice = request.tool_choice.as_ref().map(|given| &given.value);
    if choice == Some(&ToolChoice::None) && target.quirks.lacks(Feature::ToolChoice) {
        // Whoever may call nothing is offered nothing.
        return vec![];
    }
    let mut out = Vec::with_capacity(request.tools.len());
    for tool in request.offered() {
        let cache = tool.cache.as_ref().filter(|_| target.quirks.cache_control);
        if cache.is_none() {
            losses.unless_absent(&tool.cache);
        }
        out.push(ToolOut {
            kind: "function",
            function: function(tool, target, losses),
            cache_control: cache.map(|given| CacheControl::of(&given.value)),
        });
    }
    out
}

fn function<'a>(tool: &'a Tool, target: &Target<'_>, losses: &mut Losses) -> Function<'a> {
    if let ToolInput::Freeform(grammar) = &tool.input {
        // Freeform tools come here as functions already; what is left of one has no schema.
        losses.unless_absent(grammar);
    }
    let is_loose = target.quirks.lacks(Feature::StrictTools);
    if is_loose && tool.is_strict() {
        losses.unless_absent(&tool.strict);
    }
    let strict = tool.strict.as_ref().filter(|_| !is_loose);
    Function {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters: tool.parameters(),
        strict: strict.map(|given| given.value),
    }
}

fn tool_choice<'a>(
    request: &'a ChatRequest,
    target: &Target<'_>,
    has_tools: bool,
    losses: &mut Losses,
) -> Option<Choice<'a>> {
    let given = request.tool_choice.as_ref()?;
    let is_free = matches!(
        given.value,
        ToolChoice::Auto
            | ToolChoice::None
            | ToolChoice::Allowed {
                required: false,
                ..
            }
    );
    if !has_tools {
        if !matches!(given.value, ToolChoice::Auto | ToolChoice::None) {
            losses.at(&given.at);
        }
        return None;
    }
    if !is_free && target.quirks.lacks(Feature::ToolChoice) {
        losses.at(&given.at);
        return Some(Choice::Word("auto"));
    }
    Some(match &given.value {
        ToolChoice::Auto
        | ToolChoice::Allowed {
            required: false, ..
        } => Choice::Word("auto"),
        ToolChoice::None => Choice::Word("none"),
        ToolChoice::Required | ToolChoice::Allowed { required: true, .. } => {
            Choice::Word("required")
        }
        ToolChoice::Named(name) => Choice::Function {
            kind: "function",
            function: Name { name },
        },
    })
}

impl Choice<'_> {
    /// A tool has to be called.
    fn is_forced(&self) -> bool {
        !matches!(self, Choice::Word("auto" | "none"))
    }
}

/// Several calls in one turn are the rule here: only `false` says something.
fn parallel(request: &ChatRequest, has_tools: bool, losses: &mut Losses) -> Option<bool> {
    let given = request
        .parallel_tool_calls
        .as_ref()
        .filter(|given| !given.value)?;
    if !has_tools {
        losses.at(&given.at);
        return None;
    }
    Some(false)
}
