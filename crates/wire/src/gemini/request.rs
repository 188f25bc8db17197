//! The hub's request → Gemini's. The model is in the path, not here.

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::Loss;
use crate::canon::{
    ChatRequest, Losses, Media, MediaSource, Message, OutputShape, Part, Role, ToolChoice,
    ToolResult,
};

/// Efforts as thinking budgets: Google's own equivalents.
const BUDGETS: [(&str, u64); 6] = [
    ("none", 0),
    ("minimal", 512),
    ("low", 1024),
    ("medium", 8192),
    ("high", 24576),
    ("xhigh", 24576),
];

/// Writes a request; names what it cannot carry.
pub(super) fn encode(request: &ChatRequest) -> Result<(Bytes, Vec<Loss>), Failure> {
    let mut losses = Losses::default();
    let mut body = Map::new();
    if let Some(system) = system(request, &mut losses) {
        body.insert("systemInstruction".to_owned(), system);
    }
    body.insert(
        "contents".to_owned(),
        Value::Array(contents(request, &mut losses)?),
    );
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), tools(request));
        if let Some(choice) = &request.tool_choice {
            body.insert("toolConfig".to_owned(), tool_config(&choice.value));
        }
    }
    let generation = generation_config(request, &mut losses);
    if !generation.is_empty() {
        body.insert("generationConfig".to_owned(), Value::Object(generation));
    }
    if request
        .parallel_tool_calls
        .as_ref()
        .is_some_and(|given| !given.value)
    {
        losses.unless_absent(&request.parallel_tool_calls);
    }
    losses.unless_absent(&request.user);
    request
        .tools
        .iter()
        .filter(|tool| tool.strict == Some(true))
        .for_each(|tool| losses.at(format!("{}/function/strict", tool.at)));
    request.extra.iter().for_each(|extra| losses.at(&extra.at));
    Ok((Value::Object(body).to_string().into(), losses.into_vec()))
}

fn generation_config(request: &ChatRequest, losses: &mut Losses) -> Map<String, Value> {
    let mut config = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            config.insert(name.to_owned(), value);
        }
    };
    set(
        "temperature",
        request.temperature.as_ref().map(|given| json!(given.value)),
    );
    set(
        "topP",
        request.top_p.as_ref().map(|given| json!(given.value)),
    );
    set(
        "topK",
        request.top_k.as_ref().map(|given| json!(given.value)),
    );
    set(
        "maxOutputTokens",
        request.max_tokens.as_ref().map(|given| json!(given.value)),
    );
    set(
        "stopSequences",
        request.stop.as_ref().map(|given| json!(given.value)),
    );
    set(
        "seed",
        request.seed.as_ref().map(|given| json!(given.value)),
    );
    set(
        "presencePenalty",
        request
            .presence_penalty
            .as_ref()
            .map(|given| json!(given.value)),
    );
    set(
        "frequencyPenalty",
        request
            .frequency_penalty
            .as_ref()
            .map(|given| json!(given.value)),
    );
    if let Some(effort) = &request.reasoning_effort {
        match BUDGETS.iter().find(|(name, _)| *name == effort.value) {
            Some((_, budget)) => set("thinkingConfig", Some(json!({"thinkingBudget": budget}))),
            None => losses.at(&effort.at),
        }
    }
    if let Some(output) = &request.output {
        set("responseMimeType", Some(json!("application/json")));
        if let OutputShape::JsonSchema { schema, .. } = &output.value {
            set("responseJsonSchema", Some(tree(schema)));
        }
    }
    config
}

/// `parametersJsonSchema` takes JSON Schema as clients write it; the older `parameters` refuses `$schema`, `additionalProperties` and more.
fn tools(request: &ChatRequest) -> Value {
    let declarations = request.tools.iter().map(|tool| {
        let mut declaration = json!({"name": tool.name});
        if let Some(description) = &tool.description {
            declaration["description"] = json!(description);
        }
        if let Some(parameters) = &tool.parameters {
            declaration["parametersJsonSchema"] = tree(parameters);
        }
        declaration
    });
    json!([{"functionDeclarations": declarations.collect::<Vec<_>>()}])
}

fn tree(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or(Value::Null)
}

fn tool_config(choice: &ToolChoice) -> Value {
    let config = match choice {
        ToolChoice::Auto => json!({"mode": "AUTO"}),
        ToolChoice::None => json!({"mode": "NONE"}),
        ToolChoice::Required => json!({"mode": "ANY"}),
        ToolChoice::Named(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
    };
    json!({"functionCallingConfig": config})
}

fn is_system(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

fn system(request: &ChatRequest, losses: &mut Losses) -> Option<Value> {
    let mut parts = Vec::new();
    for message in request.messages.iter().filter(|message| is_system(message)) {
        for part in &message.parts {
            match part {
                Part::Text(text) => parts.push(json!({"text": text})),
                _ => losses.at(format!("{}/content", message.at)),
            }
        }
    }
    (!parts.is_empty()).then(|| json!({"parts": parts}))
}

/// Turns; neighbours of one role are one turn.
fn contents(request: &ChatRequest, losses: &mut Losses) -> Result<Vec<Value>, Failure> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in request
        .messages
        .iter()
        .filter(|message| !is_system(message))
    {
        let role = if message.role == Role::Assistant {
            "model"
        } else {
            "user"
        };
        let mut parts = Vec::new();
        for part in &message.parts {
            match part_out(part, message, losses)? {
                Some(part) => parts.push(part),
                None => losses.at(format!("{}/content", message.at)),
            }
        }
        match turns.last_mut().filter(|(known, _)| *known == role) {
            Some((_, known)) => known.extend(parts),
            None => turns.push((role, parts)),
        }
    }
    turns.retain(|(_, parts)| !parts.is_empty());
    if turns.is_empty() {
        return Err(Failure::new(
            Kind::InvalidRequest,
            "no message has anything that this provider can be sent",
        )
        .param("messages"));
    }
    Ok(turns
        .into_iter()
        .map(|(role, parts)| json!({"role": role, "parts": parts}))
        .collect())
}

/// A part; `None` where there is no such part.
fn part_out(part: &Part, message: &Message, losses: &mut Losses) -> Result<Option<Value>, Failure> {
    Ok(match part {
        Part::Text(text) | Part::Refusal(text) => Some(json!({"text": text})),
        Part::Image(media) => media_out(media, "image/png"),
        Part::File(media) => media_out(media, "application/pdf"),
        Part::Audio(media) => media_out(media, "audio/wav"),
        Part::Reasoning(_) => None,
        Part::ToolCall(call) => {
            let args = arguments(&call.arguments, &message.at)?;
            Some(json!({"functionCall": {"id": call.id, "name": call.name, "args": args}}))
        }
        Part::ToolResult(result) => Some(function_response(result, message, losses)),
    })
}

fn media_out(media: &Media, default_mime: &str) -> Option<Value> {
    let mime = media.mime.as_deref();
    match &media.source {
        MediaSource::Base64(data) => {
            Some(json!({"inlineData": {"mimeType": mime.unwrap_or(default_mime), "data": data}}))
        }
        MediaSource::Url(url) => {
            let mime = mime.or_else(|| mime_of(url)).unwrap_or(default_mime);
            Some(json!({"fileData": {"mimeType": mime, "fileUri": url}}))
        }
        MediaSource::FileId(_) => None,
    }
}

/// What an address's ending says it is.
fn mime_of(url: &str) -> Option<&'static str> {
    const ENDINGS: [(&str, &str); 7] = [
        (".png", "image/png"),
        (".jpg", "image/jpeg"),
        (".jpeg", "image/jpeg"),
        (".webp", "image/webp"),
        (".gif", "image/gif"),
        (".pdf", "application/pdf"),
        (".mp4", "video/mp4"),
    ];
    let path = url
        .split(['?', '#'])
        .next()
        .unwrap_or(url)
        .to_ascii_lowercase();
    ENDINGS
        .iter()
        .find(|(ending, _)| path.ends_with(ending))
        .map(|(_, mime)| *mime)
}

/// Results are objects there: an object's text as it is, anything else under a name.
fn function_response(result: &ToolResult, message: &Message, losses: &mut Losses) -> Value {
    let mut texts = Vec::new();
    for part in &result.content {
        match part {
            Part::Text(text) => texts.push(text.as_str()),
            _ => losses.at(format!("{}/content", message.at)),
        }
    }
    let text = texts.join("\n");
    let response = match serde_json::from_str(&text) {
        _ if result.is_error => json!({"error": text}),
        Ok(Value::Object(object)) => Value::Object(object),
        _ => json!({"result": text}),
    };
    let name = result.name.as_deref().unwrap_or(&result.call_id);
    json!({"functionResponse": {"id": result.call_id, "name": name, "response": response}})
}

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
