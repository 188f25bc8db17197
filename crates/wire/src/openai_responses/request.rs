//! The hub's request → Responses. Cousins: what both call by the same name passes under it.

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::canon::{
    ChatRequest, Losses, Media, MediaSource, Message, OutputShape, Part, Role, Tool, ToolChoice,
    ToolResult,
};
use crate::{Format, Loss};

/// Members of Chat that Responses has under the same name.
const SHARED: [&str; 8] = [
    "/metadata",
    "/service_tier",
    "/store",
    "/prompt_cache_key",
    "/prompt_cache_retention",
    "/safety_identifier",
    "/top_logprobs",
    "/truncation",
];

/// Writes a request; names what it cannot carry.
pub(super) fn encode(request: &ChatRequest, model: &str) -> Result<(Bytes, Vec<Loss>), Failure> {
    let mut losses = Losses::default();
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("model", Some(json!(model)));
    set("input", Some(Value::Array(input(request, &mut losses)?)));
    if !request.tools.is_empty() {
        set("tools", Some(request.tools.iter().map(tool).collect()));
        set(
            "tool_choice",
            request
                .tool_choice
                .as_ref()
                .map(|given| tool_choice(&given.value)),
        );
        set(
            "parallel_tool_calls",
            request
                .parallel_tool_calls
                .as_ref()
                .map(|given| json!(given.value)),
        );
    }
    set(
        "max_output_tokens",
        request.max_tokens.as_ref().map(|given| json!(given.value)),
    );
    set(
        "temperature",
        request.temperature.as_ref().map(|given| json!(given.value)),
    );
    set(
        "top_p",
        request.top_p.as_ref().map(|given| json!(given.value)),
    );
    set(
        "reasoning",
        request
            .reasoning_effort
            .as_ref()
            .map(|given| json!({"effort": given.value})),
    );
    set(
        "text",
        request
            .output
            .as_ref()
            .map(|given| json!({"format": format(&given.value)})),
    );
    set(
        "user",
        request.user.as_ref().map(|given| json!(given.value)),
    );
    set("stream", request.stream.then_some(Value::Bool(true)));
    // The interface keeps answers unless told not to; Chat keeps none unless told to.
    set("store", Some(Value::Bool(false)));
    for extra in &request.extra {
        if request.source == Some(Format::OpenaiChat) && SHARED.contains(&extra.at.as_str()) {
            set(extra.at.trim_start_matches('/'), Some(tree(&extra.value)));
        } else {
            losses.at(&extra.at);
        }
    }
    losses.unless_absent(&request.top_k);
    losses.unless_absent(&request.stop);
    losses.unless_absent(&request.seed);
    losses.unless_absent(&request.presence_penalty);
    losses.unless_absent(&request.frequency_penalty);
    Ok((Value::Object(body).to_string().into(), losses.into_vec()))
}

fn tree(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or(Value::Null)
}

fn format(shape: &OutputShape) -> Value {
    match shape {
        OutputShape::JsonObject => json!({"type": "json_object"}),
        OutputShape::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => {
            let name = name.as_deref().unwrap_or("answer");
            let mut format = json!({"type": "json_schema", "name": name, "schema": tree(schema)});
            if let Some(description) = description {
                format["description"] = json!(description);
            }
            if let Some(strict) = strict {
                format["strict"] = json!(strict);
            }
            format
        }
    }
}

/// Flat there; and strict unless said otherwise, which Chat is not.
fn tool(tool: &Tool) -> Value {
    let parameters = tool
        .parameters
        .as_deref()
        .map_or_else(|| json!({"type": "object", "properties": {}}), tree);
    let strict = tool.strict.unwrap_or(false);
    let mut value =
        json!({"type": "function", "name": tool.name, "parameters": parameters, "strict": strict});
    if let Some(description) = &tool.description {
        value["description"] = json!(description);
    }
    value
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "name": name}),
    }
}

/// Messages as items, in their places; calls and results are items of their own.
fn input(request: &ChatRequest, losses: &mut Losses) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::new();
    for message in &request.messages {
        message_items(message, &mut items, losses);
    }
    if items.is_empty() {
        return Err(Failure::new(
            Kind::InvalidRequest,
            "no message has anything that this provider can be sent",
        )
        .param("messages"));
    }
    Ok(items)
}

fn message_items(message: &Message, items: &mut Vec<Value>, losses: &mut Losses) {
    let role = match message.role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let mut content = Vec::new();
    for part in &message.parts {
        match part {
            Part::ToolCall(call) => {
                flush(role, &mut content, items);
                items.push(json!({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}));
            }
            Part::ToolResult(result) => {
                flush(role, &mut content, items);
                items.push(tool_result(result, message, losses));
            }
            other => match content_part(other, message.role) {
                Some(part) => content.push(part),
                None => losses.at(format!("{}/content", message.at)),
            },
        }
    }
    flush(role, &mut content, items);
}

fn flush(role: &str, content: &mut Vec<Value>, items: &mut Vec<Value>) {
    if !content.is_empty() {
        items.push(json!({"type": "message", "role": role, "content": std::mem::take(content)}));
    }
}

fn tool_result(result: &ToolResult, message: &Message, losses: &mut Losses) -> Value {
    let parts: Vec<Value> = result
        .content
        .iter()
        .filter_map(|part| content_part(part, Role::User))
        .collect();
    if parts.len() < result.content.len() {
        losses.at(format!("{}/content", message.at));
    }
    let output = match result.content.as_slice() {
        [] => json!(""),
        [Part::Text(text)] => json!(text),
        _ => Value::Array(parts),
    };
    json!({"type": "function_call_output", "call_id": result.call_id, "output": output})
}

/// A part of a message; `None` where there is no such part.
fn content_part(part: &Part, role: Role) -> Option<Value> {
    match part {
        Part::Text(text) if role == Role::Assistant => {
            Some(json!({"type": "output_text", "text": text, "annotations": []}))
        }
        Part::Text(text) => Some(json!({"type": "input_text", "text": text})),
        Part::Refusal(text) => Some(json!({"type": "refusal", "refusal": text})),
        Part::Image(media) => Some(image(media)),
        Part::File(media) => Some(file(media)),
        Part::Audio(_) | Part::Reasoning(_) | Part::ToolCall(_) | Part::ToolResult(_) => None,
    }
}

fn image(media: &Media) -> Value {
    let detail = media.detail.as_deref().unwrap_or("auto");
    match &media.source {
        MediaSource::FileId(id) => json!({"type": "input_image", "file_id": id, "detail": detail}),
        source => {
            json!({"type": "input_image", "image_url": address(source, media, "image/png"), "detail": detail})
        }
    }
}

fn file(media: &Media) -> Value {
    let name = media.name.as_deref().unwrap_or("file.pdf");
    match &media.source {
        MediaSource::FileId(id) => json!({"type": "input_file", "file_id": id}),
        MediaSource::Url(url) => json!({"type": "input_file", "file_url": url}),
        source @ MediaSource::Base64(_) => {
            json!({"type": "input_file", "filename": name, "file_data": address(source, media, "application/pdf")})
        }
    }
}

fn address(source: &MediaSource, media: &Media, default_mime: &str) -> String {
    match source {
        MediaSource::Base64(data) => format!(
            "data:{};base64,{data}",
            media.mime.as_deref().unwrap_or(default_mime)
        ),
        MediaSource::Url(text) | MediaSource::FileId(text) => text.clone(),
    }
}
