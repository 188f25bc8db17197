//! A chat request as its client wrote it → the hub.

use polygate_core::{Failure, Kind};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::message;
use crate::canon::{ChatRequest, Given, OutputShape, Tool, ToolChoice};
use crate::{Format, RawObject};

/// Reads a request. Members that nobody models are kept with their pointers, so that their loss can be named.
pub(super) fn decode(body: &RawObject) -> Result<ChatRequest, Failure> {
    let mut request = ChatRequest {
        source: Some(Format::OpenaiChat),
        ..ChatRequest::default()
    };
    let mut has_messages = false;
    for (name, text) in body.iter() {
        if text == "null" {
            continue;
        }
        has_messages |= name == "messages";
        member(&mut request, name, text)?;
    }
    if !has_messages {
        return Err(bad("messages", "is missing"));
    }
    Ok(request)
}

/// One member of the request. A catalogue: one line each.
fn member(request: &mut ChatRequest, name: &str, text: &str) -> Result<(), Failure> {
    match name {
        "model" => request.model = value(name, text)?,
        "stream" => request.stream = value(name, text)?,
        "stream_options" => {
            request.include_usage = value::<StreamOptions>(name, text)?
                .include_usage
                .unwrap_or(false)
        }
        "messages" => messages(request, text)?,
        "tools" => tools(request, text)?,
        "tool_choice" => tool_choice(request, text)?,
        "parallel_tool_calls" => request.parallel_tool_calls = given(name, text)?,
        "max_tokens" => request.max_tokens = request.max_tokens.take().or(given(name, text)?),
        "max_completion_tokens" => request.max_tokens = given(name, text)?,
        "temperature" => request.temperature = given(name, text)?,
        "top_p" => request.top_p = given(name, text)?,
        "top_k" => request.top_k = given(name, text)?,
        "stop" => request.stop = stop(text)?,
        "seed" => request.seed = given(name, text)?,
        "presence_penalty" => request.presence_penalty = given(name, text)?,
        "frequency_penalty" => request.frequency_penalty = given(name, text)?,
        "reasoning_effort" => request.reasoning_effort = given(name, text)?,
        "response_format" => request.output = output(request, text)?,
        "user" => request.user = given(name, text)?,
        // One answer is what everyone gives.
        "n" if text == "1" => {}
        other => request
            .extra
            .push(Given::new(raw(other, text)?, format!("/{}", escape(other)))),
    }
    Ok(())
}

fn messages(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let mut reader = message::Reader::default();
    request.messages = reader.messages(text)?;
    request.extra.extend(reader.unknown);
    Ok(())
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct ToolMember<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    function: Option<FunctionMember<'a>>,
}

#[derive(Deserialize)]
struct FunctionMember<'a> {
    name: String,
    description: Option<String>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    strict: Option<bool>,
}

fn tools(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let members: Vec<&RawValue> = value("tools", text)?;
    for (index, raw) in members.into_iter().enumerate() {
        let at = format!("/tools/{index}");
        let tool: ToolMember<'_> = value(&format!("tools[{index}]"), raw.get())?;
        match tool.function {
            Some(function) if tool.kind.as_deref().is_none_or(|kind| kind == "function") => {
                request.tools.push(Tool {
                    name: function.name,
                    description: function.description,
                    parameters: function
                        .parameters
                        .filter(|raw| raw.get() != "null")
                        .map(ToOwned::to_owned),
                    strict: function.strict,
                    at,
                })
            }
            // Tools of the vendor's own and freeform tools: nobody else has them.
            _ => request.extra.push(Given::new(raw.to_owned(), at)),
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct ChoiceMember {
    function: Option<NameMember>,
}

#[derive(Deserialize)]
struct NameMember {
    name: String,
}

fn tool_choice(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let choice = match text {
        "\"auto\"" => ToolChoice::Auto,
        "\"none\"" => ToolChoice::None,
        "\"required\"" | "\"any\"" => ToolChoice::Required,
        _ => match value::<ChoiceMember>("tool_choice", text)?.function {
            Some(function) => ToolChoice::Named(function.name),
            None => {
                request
                    .extra
                    .push(Given::new(raw("tool_choice", text)?, "/tool_choice"));
                return Ok(());
            }
        },
    };
    request.tool_choice = Some(Given::new(choice, "/tool_choice"));
    Ok(())
}

fn stop(text: &str) -> Result<Option<Given<Vec<String>>>, Failure> {
    let words = if text.starts_with('[') {
        value("stop", text)?
    } else {
        vec![value::<String>("stop", text)?]
    };
    Ok((!words.is_empty()).then(|| Given::new(words, "/stop")))
}

#[derive(Deserialize)]
struct FormatMember<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    json_schema: Option<SchemaMember<'a>>,
}

#[derive(Deserialize)]
struct SchemaMember<'a> {
    name: Option<String>,
    description: Option<String>,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    strict: Option<bool>,
}

fn output(request: &mut ChatRequest, text: &str) -> Result<Option<Given<OutputShape>>, Failure> {
    let format: FormatMember<'_> = value("response_format", text)?;
    let shape = match (format.kind.as_str(), format.json_schema) {
        ("text", _) => return Ok(None),
        ("json_object", _) => OutputShape::JsonObject,
        (
            "json_schema",
            Some(SchemaMember {
                name,
                description,
                schema: Some(schema),
                strict,
            }),
        ) => OutputShape::JsonSchema {
            name,
            description,
            schema: schema.to_owned(),
            strict,
        },
        _ => {
            request.extra.push(Given::new(
                raw("response_format", text)?,
                "/response_format",
            ));
            return Ok(None);
        }
    };
    Ok(Some(Given::new(shape, "/response_format")))
}

fn given<'a, T: Deserialize<'a>>(name: &str, text: &'a str) -> Result<Option<Given<T>>, Failure> {
    Ok(Some(Given::new(value(name, text)?, format!("/{name}"))))
}

/// A member as a type, or a failure that names it.
pub(super) fn value<'a, T: Deserialize<'a>>(name: &str, text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        let reason = error.to_string();
        let reason = reason
            .split(" at line ")
            .next()
            .unwrap_or("not as expected");
        // serde repeats what it did not expect, which may be a whole picture.
        let reason: String = reason.chars().take(160).collect();
        bad(name, &format!("is not as it should be: {reason}"))
    })
}

fn raw(name: &str, text: &str) -> Result<Box<RawValue>, Failure> {
    RawValue::from_string(text.to_owned()).map_err(|_| bad(name, "is not valid"))
}

pub(super) fn bad(name: &str, what: &str) -> Failure {
    Failure::new(Kind::InvalidRequest, format!("'{name}' {what}")).param(name)
}

/// A member's name as part of a JSON pointer.
pub(super) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
