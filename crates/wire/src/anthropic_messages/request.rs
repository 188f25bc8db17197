//! The hub's request → Anthropic's.

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Loss;
use crate::canon::{
    ChatRequest, Losses, Media, MediaSource, Message, OutputShape, Part, Role, Tool, ToolChoice,
    ToolResult,
};

/// Anthropic demands a limit: what is sent where the client gave none.
const DEFAULT_MAX_TOKENS: u64 = 8192;

/// Efforts as thinking budgets.
const BUDGETS: [(&str, u64); 4] = [
    ("low", 1024),
    ("medium", 4096),
    ("high", 16384),
    ("xhigh", 32768),
];

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Value>,
    messages: Vec<Turn>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ToolOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
}

#[derive(Serialize)]
struct Turn {
    role: &'static str,
    content: Vec<Value>,
}

#[derive(Serialize)]
struct ToolOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Schema<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Schema<'a> {
    Given(&'a RawValue),
    Empty(Value),
}

/// Writes a request; names what it cannot carry.
pub(super) fn encode(request: &ChatRequest, model: &str) -> Result<(Bytes, Vec<Loss>), Failure> {
    let mut losses = Losses::default();
    let budget = budget(request, &mut losses);
    let limit = request
        .max_tokens
        .as_ref()
        .map_or(DEFAULT_MAX_TOKENS, |given| given.value);
    let messages = turns(request, &mut losses)?;
    let body = Body {
        model,
        // Thinking counts as output and must leave room for an answer.
        max_tokens: budget.map_or(limit, |budget| limit.max(budget + 1024)),
        system: system(request, &mut losses),
        messages,
        tools: request.tools.iter().map(tool).collect(),
        tool_choice: tool_choice(request, budget.is_some(), &mut losses),
        thinking: budget.map(|budget| json!({"type": "enabled", "budget_tokens": budget})),
        temperature: temperature(request, budget.is_some(), &mut losses),
        top_p: unless_thinking(request.top_p.as_ref(), budget.is_some(), &mut losses),
        top_k: unless_thinking(request.top_k.as_ref(), budget.is_some(), &mut losses),
        stop_sequences: stop_sequences(request, &mut losses),
        output_config: output_config(request, &mut losses),
        metadata: request
            .user
            .as_ref()
            .map(|user| json!({"user_id": user.value})),
        stream: request.stream,
    };
    losses.unless_absent(&request.seed);
    losses.unless_absent(&request.presence_penalty);
    losses.unless_absent(&request.frequency_penalty);
    request.extra.iter().for_each(|extra| losses.at(&extra.at));
    let bytes = serde_json::to_vec(&body)
        .map_err(|_| Failure::new(Kind::Internal, "the request could not be written"))?;
    Ok((bytes.into(), losses.into_vec()))
}

fn budget(request: &ChatRequest, losses: &mut Losses) -> Option<u64> {
    let effort = request.reasoning_effort.as_ref()?;
    let known = BUDGETS
        .iter()
        .find(|(name, _)| *name == effort.value)
        .map(|(_, budget)| *budget);
    if known.is_none() && !matches!(effort.value.as_str(), "none" | "minimal") {
        losses.at(&effort.at);
    }
    // Thinking may not be asked for while a turn of tool calls without its thinking is replayed.
    let replays_calls = request.messages.iter().any(|message| {
        message
            .parts
            .iter()
            .any(|part| matches!(part, Part::ToolCall(_)))
    });
    if known.is_some() && replays_calls {
        losses.at(&effort.at);
        return None;
    }
    known
}

fn unless_thinking<T: Copy>(
    given: Option<&crate::canon::Given<T>>,
    thinking: bool,
    losses: &mut Losses,
) -> Option<T> {
    let given = given?;
    if thinking {
        losses.at(&given.at);
        return None;
    }
    Some(given.value)
}

/// Anthropic's scale ends at 1.
fn temperature(request: &ChatRequest, thinking: bool, losses: &mut Losses) -> Option<f64> {
    let value = unless_thinking(request.temperature.as_ref(), thinking, losses)?;
    if value > 1.0 {
        losses.unless_absent(&request.temperature);
    }
    Some(value.clamp(0.0, 1.0))
}

/// Blank sequences are refused there.
fn stop_sequences<'a>(request: &'a ChatRequest, losses: &mut Losses) -> Vec<&'a str> {
    let Some(stop) = &request.stop else {
        return vec![];
    };
    let (kept, blank): (Vec<&str>, Vec<&str>) = stop
        .value
        .iter()
        .map(String::as_str)
        .partition(|word| !word.trim().is_empty());
    if !blank.is_empty() {
        losses.at(&stop.at);
    }
    kept
}

fn output_config(request: &ChatRequest, losses: &mut Losses) -> Option<Value> {
    let output = request.output.as_ref()?;
    match &output.value {
        OutputShape::JsonSchema { schema, .. } => {
            let schema: Value = serde_json::from_str(schema.get()).ok()?;
            Some(json!({"format": {"type": "json_schema", "schema": schema}}))
        }
        OutputShape::JsonObject => {
            losses.at(&output.at);
            None
        }
    }
}

fn tool(tool: &Tool) -> ToolOut<'_> {
    let schema = tool.parameters.as_deref().map_or_else(
        || Schema::Empty(json!({"type": "object", "properties": {}})),
        Schema::Given,
    );
    ToolOut {
        name: &tool.name,
        description: tool.description.as_deref(),
        input_schema: schema,
        strict: tool.strict.filter(|strict| *strict),
    }
}

fn tool_choice(request: &ChatRequest, thinking: bool, losses: &mut Losses) -> Option<Value> {
    if request.tools.is_empty() {
        return None;
    }
    let mut choice = match request.tool_choice.as_ref().map(|given| &given.value) {
        None | Some(ToolChoice::Auto) => json!({"type": "auto"}),
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
        // Thinking allows no force.
        Some(_) if thinking => {
            losses.unless_absent(&request.tool_choice);
            json!({"type": "auto"})
        }
        Some(ToolChoice::Required) => json!({"type": "any"}),
        Some(ToolChoice::Named(name)) => json!({"type": "tool", "name": name}),
    };
    let one_at_a_time = request
        .parallel_tool_calls
        .as_ref()
        .is_some_and(|given| !given.value);
    if one_at_a_time {
        choice["disable_parallel_tool_use"] = Value::Bool(true);
    }
    (request.tool_choice.is_some() || one_at_a_time).then_some(choice)
}

/// System and developer messages stand outside the conversation, in their order.
fn system(request: &ChatRequest, losses: &mut Losses) -> Vec<Value> {
    let mut blocks = Vec::new();
    for message in request.messages.iter().filter(|message| is_system(message)) {
        for part in &message.parts {
            match part {
                Part::Text(text) if !text.trim().is_empty() => {
                    blocks.push(json!({"type": "text", "text": text}))
                }
                Part::Text(_) => {}
                _ => losses.at(format!("{}/content", message.at)),
            }
        }
    }
    blocks
}

fn is_system(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

/// Turns alternate: neighbours of one role are one turn, and results of tools come first in theirs.
fn turns(request: &ChatRequest, losses: &mut Losses) -> Result<Vec<Turn>, Failure> {
    let mut turns: Vec<Turn> = Vec::new();
    for message in request
        .messages
        .iter()
        .filter(|message| !is_system(message))
    {
        let role = if message.role == Role::Assistant {
            "assistant"
        } else {
            "user"
        };
        let mut content = Vec::new();
        for part in &message.parts {
            match block(part, message, losses)? {
                Some(block) => content.push(block),
                None => losses.at(format!("{}/content", message.at)),
            }
        }
        // Text of nothing but space is refused there, and says nothing.
        content.retain(|block| {
            block["type"] != "text"
                || block["text"]
                    .as_str()
                    .is_some_and(|text| !text.trim().is_empty())
        });
        match turns.last_mut().filter(|turn| turn.role == role) {
            Some(turn) => turn.content.extend(content),
            None => turns.push(Turn { role, content }),
        }
    }
    for turn in &mut turns {
        turn.content
            .sort_by_key(|block| block["type"] != "tool_result");
    }
    turns.retain(|turn| !turn.content.is_empty());
    if turns.is_empty() {
        return Err(Failure::new(
            Kind::InvalidRequest,
            "no message has anything that this provider can be sent",
        )
        .param("messages"));
    }
    Ok(turns)
}

/// A part as a block; `None` where there is no such block.
fn block(part: &Part, message: &Message, losses: &mut Losses) -> Result<Option<Value>, Failure> {
    Ok(match part {
        Part::Text(text) | Part::Refusal(text) => Some(json!({"type": "text", "text": text})),
        Part::Image(media) => {
            if media
                .detail
                .as_deref()
                .is_some_and(|detail| detail != "auto")
            {
                losses.at(format!("{}/content", message.at));
            }
            source(media, "image/png").map(|source| json!({"type": "image", "source": source}))
        }
        Part::File(media) => source(media, "application/pdf").map(|source| match &media.name {
            Some(name) => json!({"type": "document", "source": source, "title": name}),
            None => json!({"type": "document", "source": source}),
        }),
        // Without its signature thinking would be refused; to forge one is out of the question.
        Part::Audio(_) | Part::Reasoning(_) => None,
        Part::ToolCall(call) => {
            let input = arguments(&call.arguments, &message.at)?;
            Some(json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input}))
        }
        Part::ToolResult(result) => Some(tool_result(result, message, losses)?),
    })
}

fn tool_result(
    result: &ToolResult,
    message: &Message,
    losses: &mut Losses,
) -> Result<Value, Failure> {
    let mut content = Vec::new();
    for part in &result.content {
        match block(part, message, losses)? {
            Some(block) => content.push(block),
            None => losses.at(format!("{}/content", message.at)),
        }
    }
    let mut value =
        json!({"type": "tool_result", "tool_use_id": result.call_id, "content": content});
    if result.is_error {
        value["is_error"] = Value::Bool(true);
    }
    Ok(value)
}

/// Arguments must be an object there; a call of nothing has none.
fn arguments(text: &str, at: &str) -> Result<Value, Failure> {
    if text.trim().is_empty() {
        return Ok(json!({}));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(Value::Object(object)),
        _ => {
            let message = "the arguments of a tool call in the history are not a JSON object, which this provider demands";
            Err(Failure::new(Kind::InvalidRequest, message).param(format!("{at}/tool_calls")))
        }
    }
}

fn source(media: &Media, default_mime: &str) -> Option<Value> {
    match &media.source {
        MediaSource::Base64(data) => {
            let mime = media.mime.as_deref().unwrap_or(default_mime);
            Some(json!({"type": "base64", "media_type": mime, "data": data}))
        }
        MediaSource::Url(url) => Some(json!({"type": "url", "url": url})),
        MediaSource::FileId(_) => None,
    }
}
