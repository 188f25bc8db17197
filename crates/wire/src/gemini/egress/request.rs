//! The hub's request → Gemini's. The model stands in the path, not here.

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use serde::Serialize;
use serde_json::value::RawValue;

use super::contents::{self, Content, Wants};
use crate::canon::{
    ChatRequest, Effort, Losses, OutputShape, Thinking, Tool, ToolChoice, ToolInput,
};
use crate::turns::{Instructions, conversation};
use crate::{Loss, Target};

/// The least that models take which cannot do without.
const LEAST_BUDGET: i64 = 128;

/// The most stop sequences.
const MOST_STOPS: usize = 5;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Content<'a>>,
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[ToolOut<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "GenerationConfig::is_empty")]
    generation_config: GenerationConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolOut<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

/// `parametersJsonSchema` and not `parameters`: it takes JSON Schema with the client's own bytes, where the older member is a
/// dialect that refuses `$schema`, `$ref`, `additionalProperties` and lists of types. Both are in Google's specification, and
/// recorded traffic has it answered with 200.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: CallingConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallingConfig<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<Vec<&'a str>>,
}

#[derive(Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u64>,
    #[serde(flatten)]
    output: Output<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<ThinkingConfig>,
}

impl GenerationConfig<'_> {
    fn is_empty(&self) -> bool {
        self.output.response_mime_type.is_none() && *self == Self::default()
    }
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Output<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a RawValue>,
}

/// A schema never comes without its type, which therefore tells.
impl PartialEq for Output<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.response_mime_type == other.response_mime_type
    }
}

#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ThinkingConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include_thoughts: Option<bool>,
}

/// Writes a request; names what it cannot carry.
pub(crate) fn encode(
    request: &ChatRequest,
    target: &Target<'_>,
) -> Result<(Bytes, Vec<Loss>), Failure> {
    let mut losses = Losses::of(request);
    let model = target.model;
    let said = conversation(&request.messages, Instructions::Apart, &mut losses)?;
    let body = Body {
        system_instruction: contents::system(&said.system, &mut losses),
        contents: contents::conversation(&said.turns, wants(model), &mut losses)?,
        tools: tools(request, &mut losses),
        tool_config: tool_config(request, model, &mut losses),
        generation_config: generation_config(request, model, &mut losses),
    };
    no_place_for(request, &mut losses);
    let bytes = serde_json::to_vec(&body)
        .map_err(|_| Failure::new(Kind::Internal, "the request could not be written"))?;
    Ok((bytes.into(), losses.into_vec()))
}

/// Members that Gemini does not have. Several calls in one turn are its way already.
fn no_place_for(request: &ChatRequest, losses: &mut Losses) {
    losses.unless_absent(&request.user);
    losses.unless_absent(&request.verbosity);
    if request
        .parallel_tool_calls
        .as_ref()
        .is_some_and(|given| !given.value)
    {
        losses.unless_absent(&request.parallel_tool_calls);
    }
    for extra in &request.extra {
        losses.at(extra.at.clone());
    }
}

fn tools<'a>(request: &'a ChatRequest, losses: &mut Losses) -> Option<[ToolOut<'a>; 1]> {
    for tool in &request.tools {
        losses.unless_absent(&tool.cache);
        if let ToolInput::Freeform(grammar) = &tool.input {
            losses.unless_absent(grammar);
        }
    }
    // Without force only some may be called: the others are not offered.
    let offered = match request.tool_choice.as_ref().map(|given| &given.value) {
        Some(ToolChoice::Allowed { required: true, .. }) => request.tools.iter().collect(),
        _ => request.offered(),
    };
    let declarations: Vec<Declaration<'a>> = offered
        .into_iter()
        .map(|tool| Declaration {
            name: &tool.name,
            description: tool.description.as_deref(),
            parameters_json_schema: tool.parameters().filter(|raw| has_members(raw)),
        })
        .collect();
    (!declarations.is_empty()).then_some([ToolOut {
        function_declarations: declarations,
    }])
}

fn has_members(schema: &RawValue) -> bool {
    let inner = schema
        .get()
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.trim().is_empty())
}

fn tool_config<'a>(
    request: &'a ChatRequest,
    model: &str,
    losses: &mut Losses,
) -> Option<ToolConfig<'a>> {
    let given = request.tool_choice.as_ref();
    let (mode, names) = match given.map(|given| &given.value) {
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Named(name)) => ("ANY", Some(vec![name.as_str()])),
        Some(ToolChoice::Allowed {
            names,
            required: true,
        }) => ("ANY", Some(names.iter().map(String::as_str).collect())),
        Some(ToolChoice::Auto | ToolChoice::Allowed { .. }) | None => {
            (unforced(request, model), None)
        }
    };
    if request.tools.is_empty() {
        if mode == "ANY" {
            losses.unless_absent(&request.tool_choice);
        }
        return None;
    }
    if mode == "AUTO" {
        for tool in request.tools.iter().filter(|tool| tool.is_strict()) {
            losses.unless_absent(&tool.strict);
        }
    }
    // What is the default need not be said for the client.
    (given.is_some() || mode != "AUTO").then_some(ToolConfig {
        function_calling_config: CallingConfig {
            mode,
            allowed_function_names: names,
        },
    })
}

/// Calls that are forced follow their schemas anyway; others do on request, for all tools alike.
fn unforced(request: &ChatRequest, model: &str) -> &'static str {
    let takes = !is_before(model, 2) && !model.contains("gemini-2.0");
    if takes && request.tools.iter().any(Tool::is_strict) {
        "VALIDATED"
    } else {
        "AUTO"
    }
}

fn generation_config<'a>(
    request: &'a ChatRequest,
    model: &str,
    losses: &mut Losses,
) -> GenerationConfig<'a> {
    GenerationConfig {
        temperature: request.temperature.as_ref().map(|given| given.value),
        top_p: request.top_p.as_ref().map(|given| given.value),
        top_k: request.top_k.as_ref().map(|given| given.value),
        max_output_tokens: request.max_tokens.as_ref().map(|given| given.value),
        stop_sequences: stop_sequences(request, losses),
        seed: seed(request, losses),
        presence_penalty: request.presence_penalty.as_ref().map(|given| given.value),
        frequency_penalty: request.frequency_penalty.as_ref().map(|given| given.value),
        response_logprobs: request.logprobs.as_ref().map(|_| true),
        logprobs: request
            .logprobs
            .as_ref()
            .map(|given| given.value)
            .filter(|n| *n > 0),
        output: output(request, model, losses),
        thinking_config: thinking(request, model, losses),
    }
}

fn stop_sequences<'a>(request: &'a ChatRequest, losses: &mut Losses) -> &'a [String] {
    let Some(stop) = &request.stop else {
        return &[];
    };
    if stop.value.len() > MOST_STOPS {
        losses.at(stop.at.clone());
    }
    stop.value.get(..MOST_STOPS).unwrap_or(&stop.value)
}

/// Google's seeds have 32 bits.
fn seed(request: &ChatRequest, losses: &mut Losses) -> Option<i32> {
    let given = request.seed.as_ref()?;
    let seed = i32::try_from(given.value).ok();
    if seed.is_none() {
        losses.at(given.at.clone());
    }
    seed
}

fn output<'a>(request: &'a ChatRequest, model: &str, losses: &mut Losses) -> Output<'a> {
    let Some(given) = &request.output else {
        return Output::default();
    };
    if !request.tools.is_empty() && is_before(model, 3) {
        // "Function calling with a response mime type: 'application/json' is unsupported".
        losses.at(given.at.clone());
        return Output::default();
    }
    let schema = match &given.value {
        OutputShape::JsonObject => None,
        OutputShape::JsonSchema {
            schema,
            description,
            ..
        } => {
            losses.unless_absent(description);
            Some(&**schema)
        }
    };
    Output {
        response_mime_type: Some("application/json"),
        response_json_schema: schema,
    }
}

/// Efforts are sent as budgets, as Google itself equates them for its OpenAI-shaped endpoint: levels are refused by models that
/// count, budgets are taken by all that think.
fn thinking(request: &ChatRequest, model: &str, losses: &mut Losses) -> Option<ThinkingConfig> {
    let show = request.show_thinking.as_ref().map(|given| given.value);
    let Some(given) = &request.thinking else {
        return show.map(|show| ThinkingConfig {
            thinking_budget: None,
            include_thoughts: Some(show),
        });
    };
    if is_before(model, 2) || model.contains("gemini-2.0") {
        // These do not think.
        if given.value != Thinking::Off {
            losses.at(&given.at);
        }
        return None;
    }
    let thinks_always = model.contains("pro") || model.contains("gemini-3");
    let budget = match given.value {
        Thinking::Off if thinks_always => {
            losses.at(&given.at);
            LEAST_BUDGET
        }
        Thinking::Off => 0,
        Thinking::Auto => -1,
        Thinking::Effort(effort) => {
            if effort > Effort::High {
                losses.at(&given.at);
            }
            signed(effort.min(Effort::High).budget())
        }
        Thinking::Budget(tokens) => signed(tokens),
    };
    let thinks = given.value != Thinking::Off;
    Some(ThinkingConfig {
        thinking_budget: Some(budget),
        include_thoughts: show.or(thinks.then_some(true)),
    })
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

fn wants(model: &str) -> Wants {
    Wants {
        unsigned: unsigned(model),
        shown_inside: generation(model).is_some_and(|generation| generation >= 3),
    }
}

/// Google's own word for "there is no signature": since generation 3 calls in the history need one or the other, and clients of
/// another format have none to give back. A signature itself is never made up.
fn unsigned(model: &str) -> Option<&'static str> {
    let is_strict = generation(model).map_or(model.ends_with("-latest"), |number| number >= 3);
    is_strict.then_some("skip_thought_signature_validator")
}

/// Whether the model is of a generation before this one; of names that do not tell, none is.
fn is_before(model: &str, number: u32) -> bool {
    generation(model).is_some_and(|generation| generation < number)
}

/// `gemini-2.5-pro` → 2.
fn generation(model: &str) -> Option<u32> {
    let (_, rest) = model.split_once("gemini-")?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}
