//! The hub's request → Chat Completions, in the dialect of the provider.

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use serde::Serialize;
use serde_json::value::RawValue;

use super::messages::{MessageOut, messages};
use super::model::Model;
use crate::canon::{
    CachePoint, ChatRequest, Effort, Given, Losses, OutputShape, Thinking, Tool, ToolChoice,
    ToolInput,
};
use crate::turns::{Instructions, conversation};
use crate::{Format, Loss, RawObject, Target};

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
    let mut losses = Losses::default();
    let quirks = target.quirks;
    let model = Model::named(target.model);
    let said = conversation(&request.messages, Instructions::InPlace, &mut losses)?;
    let limit = request.max_tokens.as_ref().map(|given| given.value);
    let tools = tools(request, target, &mut losses);
    let has_tools = !tools.is_empty();
    let mut body = Body {
        model: target.model,
        messages: messages(&said, target, &mut losses)?,
        tools,
        tool_choice: tool_choice(request, has_tools, &mut losses),
        parallel_tool_calls: parallel(request, has_tools, &mut losses),
        max_tokens: limit.filter(|_| !quirks.max_completion_tokens),
        max_completion_tokens: limit.filter(|_| quirks.max_completion_tokens),
        temperature: sampled(&request.temperature, 1.0, model, &mut losses),
        top_p: sampled(&request.top_p, 1.0, model, &mut losses),
        top_k: None,
        stop: stop(request, target, &mut losses),
        seed: request.seed.as_ref().map(|given| given.value),
        presence_penalty: sampled(&request.presence_penalty, 0.0, model, &mut losses),
        frequency_penalty: sampled(&request.frequency_penalty, 0.0, model, &mut losses),
        logprobs: request.logprobs.as_ref().map(|_| true),
        top_logprobs: request
            .logprobs
            .as_ref()
            .map(|given| given.value)
            .filter(|n| *n > 0),
        reasoning_effort: effort(request, model, &mut losses),
        verbosity: request.verbosity.as_ref().map(|given| given.value.as_str()),
        response_format: request.output.as_ref().map(|given| format(&given.value)),
        user: request.user.as_ref().map(|given| given.value.as_str()),
        shared: shared(request, &mut losses),
        stream: request.stream,
        stream_options: request.stream.then_some(StreamOptions {
            include_usage: true,
        }),
    };
    if quirks.top_k {
        body.top_k = request.top_k.as_ref().map(|given| given.value);
    } else {
        losses.unless_absent(&request.top_k);
    }
    let bytes = serde_json::to_vec(&body)
        .map_err(|_| Failure::new(Kind::Internal, "the request could not be written"))?;
    let bytes = without_refused(bytes.into(), request, target, &mut losses)?;
    Ok((bytes, losses.into_vec()))
}

/// Members that this provider refuses are taken out again; each is a loss where the client had said something with it.
fn without_refused(
    body: Bytes,
    request: &ChatRequest,
    target: &Target<'_>,
    losses: &mut Losses,
) -> Result<Bytes, Failure> {
    use crate::raw::Edit;
    if target.quirks.refuses.is_empty() {
        return Ok(body);
    }
    let object = RawObject::parse(body)?;
    let refused = target.quirks.refuses.iter().map(String::as_str);
    let present: Vec<&str> = refused.filter(|name| object.get(name).is_some()).collect();
    if present.is_empty() {
        return Ok(object.bytes().clone());
    }
    for name in &present {
        if let Some(at) = place_of(request, name) {
            losses.at(at);
        }
    }
    let edits: Vec<Edit<'_>> = present.into_iter().map(Edit::Remove).collect();
    Ok(object.edit(&edits))
}

/// Where the client said what this member says.
fn place_of(request: &ChatRequest, name: &str) -> Option<String> {
    fn at<T>(given: &Option<Given<T>>) -> Option<&str> {
        given.as_ref().map(|given| given.at.as_str())
    }
    let place = match name {
        "tool_choice" => at(&request.tool_choice),
        "parallel_tool_calls" => at(&request.parallel_tool_calls),
        "max_tokens" | "max_completion_tokens" => at(&request.max_tokens),
        "temperature" => at(&request.temperature),
        "top_p" => at(&request.top_p),
        "top_k" => at(&request.top_k),
        "stop" => at(&request.stop),
        "seed" => at(&request.seed),
        "presence_penalty" => at(&request.presence_penalty),
        "frequency_penalty" => at(&request.frequency_penalty),
        "logprobs" | "top_logprobs" => at(&request.logprobs),
        "reasoning_effort" => at(&request.thinking),
        "verbosity" => at(&request.verbosity),
        "response_format" => at(&request.output),
        "user" => at(&request.user),
        "stream_options" => None,
        other => return Some(format!("/{other}")),
    };
    place.map(str::to_owned)
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

/// OpenAI takes four sequences, and models that think none.
fn stop<'a>(
    request: &'a ChatRequest,
    target: &Target<'_>,
    losses: &mut Losses,
) -> Option<&'a [String]> {
    const MOST: usize = 4;
    let given = request.stop.as_ref()?;
    let is_openai = target.quirks.max_completion_tokens;
    if is_openai && !Model::named(target.model).sampling {
        losses.at(&given.at);
        return None;
    }
    let words = given.value.as_slice();
    if words.len() > MOST && is_openai {
        losses.at(&given.at);
        return words.get(..MOST);
    }
    Some(words)
}

/// How hard to think, for models that are known to take it.
fn effort(request: &ChatRequest, model: Model, losses: &mut Losses) -> Option<&'static str> {
    if let Some(show) = &request.show_thinking
        && !show.value
    {
        // Thinking is shown here where the provider shows it.
        losses.at(&show.at);
    }
    let given = request.thinking.as_ref()?;
    let wanted = effort_of(given.value);
    if model.effort {
        return wanted;
    }
    if given.value != Thinking::Off {
        losses.at(&given.at);
    }
    None
}

/// Thinking as an effort; `None` for what is the model's own choice.
pub(crate) fn effort_of(thinking: Thinking) -> Option<&'static str> {
    match thinking {
        Thinking::Off => Some("none"),
        Thinking::Auto => None,
        Thinking::Effort(effort) => Some(effort.min(Effort::XHigh).name()),
        Thinking::Budget(tokens) => Some(Effort::of_budget(tokens).name()),
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
                description: description.as_deref(),
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
    let allowed = allowed(request);
    let mut out = Vec::with_capacity(request.tools.len());
    for tool in &request.tools {
        if allowed.is_some_and(|names| !names.contains(&tool.name)) {
            continue;
        }
        let cache = tool.cache.as_ref().filter(|_| target.quirks.cache_control);
        if cache.is_none() {
            losses.unless_absent(&tool.cache);
        }
        out.push(ToolOut {
            kind: "function",
            function: function(tool, losses),
            cache_control: cache.map(|given| CacheControl::of(&given.value)),
        });
    }
    out
}

/// Only these may be called, where the client named some: the others are not offered.
fn allowed(request: &ChatRequest) -> Option<&[String]> {
    match request.tool_choice.as_ref().map(|given| &given.value) {
        Some(ToolChoice::Allowed { names, .. }) => Some(names),
        _ => None,
    }
}

fn function<'a>(tool: &'a Tool, losses: &mut Losses) -> Function<'a> {
    if let ToolInput::Freeform(grammar) = &tool.input {
        // Freeform tools come here as functions already; what is left of one has no schema.
        losses.unless_absent(grammar);
    }
    Function {
        name: &tool.name,
        description: tool.description.as_deref(),
        parameters: tool.parameters(),
        strict: tool.strict.as_ref().map(|given| given.value),
    }
}

fn tool_choice<'a>(
    request: &'a ChatRequest,
    has_tools: bool,
    losses: &mut Losses,
) -> Option<Choice<'a>> {
    let given = request.tool_choice.as_ref()?;
    if !has_tools {
        if !matches!(given.value, ToolChoice::Auto | ToolChoice::None) {
            losses.at(&given.at);
        }
        return None;
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
