//! A Gemini request as its client wrote it → the hub.

use std::borrow::Cow;

use polygate_core::Failure;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::contents::Reader;
use super::{Member, camel, items, members, place};
use crate::canon::{
    ChatRequest, Effort, Given, OutputShape, Thinking, Tool, ToolChoice, ToolInput,
};
use crate::request::{bad, refuse, says_nothing};
use crate::{Format, RawObject};

/// Reads a request. Members that nobody models are kept with their pointers, so that their loss can be named.
pub(crate) fn decode(body: &RawObject) -> Result<ChatRequest, Failure> {
    let mut request = ChatRequest {
        source: Some(Format::Gemini),
        include_usage: true,
        ..ChatRequest::default()
    };
    let mut reader = Reader::default();
    let (mut system, mut contents) = (None, None);
    for (name, text) in body.iter().filter(|(_, text)| *text != "null") {
        let member = Member::new(name, text);
        match &*member.name {
            "contents" => contents = Some(reader.contents(text, &member.at())?),
            "systemInstruction" => system = Some(reader.system(text, member.at())?),
            _ => self::member(&mut request, &member)?,
        }
    }
    let contents = contents.ok_or_else(|| bad("contents", "is missing"))?;
    let system = system.filter(|message| !message.parts.is_empty());
    request.messages = system.into_iter().chain(contents).collect();
    request.extra.extend(reader.unknown);
    Ok(request)
}

fn member(request: &mut ChatRequest, member: &Member<'_>) -> Result<(), Failure> {
    match &*member.name {
        "model" => {
            let named: Cow<'_, str> = member.value()?;
            request.model = named.trim_start_matches("models/").to_owned();
        }
        "tools" => return tools(request, member),
        "toolConfig" => return tool_config(request, member),
        "generationConfig" => return generation(request, member),
        "cachedContent" if !says_nothing(member.text) => {
            let why = "names content that is stored at Google, where no other provider can read it";
            return Err(refuse(&member.written, why));
        }
        _ => member.keep_if_said(&mut request.extra),
    }
    Ok(())
}

fn tools(request: &mut ChatRequest, member: &Member<'_>) -> Result<(), Failure> {
    for (text, at) in items(member.text, &member.at())? {
        for member in members(text, &at)? {
            if member.name == "functionDeclarations" {
                for (text, at) in items(member.text, &member.at())? {
                    let tool = declaration(request, text, at)?;
                    request.tools.push(tool);
                }
            } else {
                // Tools of Google's own; an empty object is one in full.
                member.keep(&mut request.extra);
            }
        }
    }
    Ok(())
}

fn declaration(request: &mut ChatRequest, text: &str, at: String) -> Result<Tool, Failure> {
    let (mut name, mut description) = (None, None);
    let (mut schema, mut converted) = (None, None);
    for member in members(text, &at)? {
        match &*member.name {
            "name" => name = Some(member.value()?),
            "description" => description = Some(member.value()?),
            "parametersJsonSchema" => schema = Some(kept(&member)?),
            "parameters" => converted = Some(json_schema(&member)?),
            _ => member.keep_if_said(&mut request.extra),
        }
    }
    Ok(Tool {
        name: name.ok_or_else(|| bad(&format!("{}.name", place(&at)), "is missing"))?,
        description: description.filter(|text: &String| !text.is_empty()),
        input: ToolInput::Json(schema.or(converted)),
        strict: None,
        cache: None,
        at,
    })
}

fn tool_config(request: &mut ChatRequest, member: &Member<'_>) -> Result<(), Failure> {
    let at = member.at();
    for member in members(member.text, &at)? {
        match &*member.name {
            "functionCallingConfig" => calling(request, &member)?,
            _ => member.keep_if_said(&mut request.extra),
        }
    }
    Ok(())
}

fn calling(request: &mut ChatRequest, member: &Member<'_>) -> Result<(), Failure> {
    let at = member.at();
    let (mut mode, mut names) = (None, Vec::new());
    for member in members(member.text, &at)? {
        match &*member.name {
            "mode" => mode = Some(member),
            "allowedFunctionNames" => names = member.value()?,
            _ => member.keep_if_said(&mut request.extra),
        }
    }
    let word: Cow<'_, str> = mode
        .as_ref()
        .map(Member::value)
        .transpose()?
        .unwrap_or_default();
    let choice = match &*word.to_ascii_uppercase() {
        "NONE" => ToolChoice::None,
        "ANY" => required(names),
        "AUTO" => optional(names),
        "" | "MODE_UNSPECIFIED" if names.is_empty() => return Ok(()),
        "" | "MODE_UNSPECIFIED" => optional(names),
        // That calls follow their schema, no other's choice of tools can promise.
        _ => {
            mode.iter().for_each(|mode| mode.keep(&mut request.extra));
            optional(names)
        }
    };
    request.tool_choice = Some(Given::new(choice, at));
    Ok(())
}

fn required(mut names: Vec<String>) -> ToolChoice {
    match names.len() {
        0 => ToolChoice::Required,
        1 => names.pop().map_or(ToolChoice::Required, ToolChoice::Named),
        _ => ToolChoice::Allowed {
            names,
            required: true,
        },
    }
}

fn optional(names: Vec<String>) -> ToolChoice {
    if names.is_empty() {
        return ToolChoice::Auto;
    }
    ToolChoice::Allowed {
        names,
        required: false,
    }
}

/// Members that mean something only together.
#[derive(Default)]
struct Together<'a> {
    mime: Option<Member<'a>>,
    schema: Option<Given<Box<RawValue>>>,
    wants_logprobs: Option<Given<bool>>,
    logprobs: Option<Given<u64>>,
}

/// `generationConfig`. A catalogue: one line each.
fn generation(request: &mut ChatRequest, member: &Member<'_>) -> Result<(), Failure> {
    let at = member.at();
    let mut together = Together::default();
    for member in members(member.text, &at)? {
        match &*member.name {
            "temperature" => request.temperature = member.given(Member::number)?,
            "topP" => request.top_p = member.given(Member::number)?,
            "topK" => request.top_k = member.given(Member::count)?,
            "maxOutputTokens" => request.max_tokens = member.given(Member::count)?,
            "stopSequences" if says_nothing(member.text) => {}
            "stopSequences" => request.stop = member.given(Member::value)?,
            "seed" => request.seed = member.given(Member::whole)?,
            "presencePenalty" => request.presence_penalty = member.given(Member::number)?,
            "frequencyPenalty" => request.frequency_penalty = member.given(Member::number)?,
            // One answer is what everyone gives, and text what all answer with.
            "candidateCount" if member.whole()? == 1 => {}
            "responseModalities" if is_text_alone(&member) => {}
            "responseMimeType" => together.mime = Some(member),
            "responseSchema" => {
                let schema = member.given(json_schema)?;
                together.schema = together.schema.or(schema);
            }
            "responseJsonSchema" | "_responseJsonSchema" | "responseJsonSchemaOrdered" => {
                together.schema = member.given(kept)?;
            }
            "responseLogprobs" => together.wants_logprobs = member.given(Member::value)?,
            "logprobs" => together.logprobs = member.given(Member::count)?,
            "thinkingConfig" => thinking(request, &member)?,
            _ => member.keep_if_said(&mut request.extra),
        }
    }
    if let Some(wanted) = together.wants_logprobs.filter(|given| given.value) {
        request.logprobs = together.logprobs.or(Some(Given::new(0, wanted.at)));
    }
    request.output = output(request, together.mime, together.schema)?;
    Ok(())
}

fn kept(member: &Member<'_>) -> Result<Box<RawValue>, Failure> {
    member.value::<&RawValue>().map(ToOwned::to_owned)
}

fn is_text_alone(member: &Member<'_>) -> bool {
    let kinds: Vec<Cow<'_, str>> = member.value().unwrap_or_default();
    !kinds.is_empty() && kinds.iter().all(|kind| kind.eq_ignore_ascii_case("text"))
}

fn thinking(request: &mut ChatRequest, member: &Member<'_>) -> Result<(), Failure> {
    let at = member.at();
    for member in members(member.text, &at)? {
        let wanted = match &*member.name {
            "includeThoughts" => {
                request.show_thinking = member.given(Member::value)?;
                continue;
            }
            "thinkingBudget" => match u64::try_from(member.whole()?) {
                Ok(0) => Some(Thinking::Off),
                Ok(tokens) => Some(Thinking::Budget(tokens)),
                Err(_) => Some(Thinking::Auto),
            },
            "thinkingLevel" => {
                let named: Cow<'_, str> = member.value()?;
                Effort::named(&named).map(Thinking::Effort)
            }
            _ => None,
        };
        match wanted {
            Some(wanted) => request.thinking = Some(Given::new(wanted, member.at())),
            None => member.keep_if_said(&mut request.extra),
        }
    }
    Ok(())
}

/// The shape that type and schema ask for together.
fn output(
    request: &mut ChatRequest,
    mime: Option<Member<'_>>,
    schema: Option<Given<Box<RawValue>>>,
) -> Result<Option<Given<OutputShape>>, Failure> {
    let kind: Cow<'_, str> = mime
        .as_ref()
        .map(Member::value)
        .transpose()?
        .unwrap_or_default();
    match (&*kind, schema, mime) {
        ("application/json" | "text/x.enum" | "", Some(Given { value: schema, at }), _) => {
            let shape = OutputShape::JsonSchema {
                name: None,
                description: None,
                schema,
                strict: None,
            };
            Ok(Some(Given::new(shape, at)))
        }
        ("application/json", None, Some(mime)) => {
            Ok(Some(Given::new(OutputShape::JsonObject, mime.at())))
        }
        (kind, schema, mime) => {
            if !matches!(kind, "" | "text/plain") {
                mime.iter().for_each(|mime| mime.keep(&mut request.extra));
            }
            request.extra.extend(schema);
            Ok(None)
        }
    }
}

/// A schema of Google's own dialect (OpenAPI's, more or less) as JSON Schema.
fn json_schema(member: &Member<'_>) -> Result<Box<RawValue>, Failure> {
    let schema: Value = member.value()?;
    to_raw_value(&converted(schema)).map_err(|_| member.bad("is not a schema"))
}

fn converted(schema: Value) -> Value {
    let members = match schema {
        Value::Object(members) => members,
        Value::Array(schemas) => return schemas.into_iter().map(converted).collect(),
        other => return other,
    };
    let (mut out, mut is_nullable) = (Map::new(), false);
    for (written, value) in members {
        let name = camel(&written).into_owned();
        match name.as_str() {
            "type" => {
                if let Some(kind) = kind(value) {
                    out.insert(name, kind);
                }
            }
            "nullable" => is_nullable = value == Value::Bool(true),
            "propertyOrdering" => {}
            "properties" => _ = out.insert(name, each(value)),
            "defs" | "$defs" => _ = out.insert("$defs".to_owned(), each(value)),
            "ref" => _ = out.insert("$ref".to_owned(), reference(value)),
            "items" | "anyOf" | "additionalProperties" | "prefixItems" => {
                out.insert(name, converted(value));
            }
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties"
            | "maxProperties" | "minimum" | "maximum" => _ = out.insert(name, number(value)),
            "example" => _ = out.insert("examples".to_owned(), Value::Array(vec![value])),
            _ => _ = out.insert(written, value),
        }
    }
    if is_nullable {
        allow_null(&mut out);
    }
    Value::Object(out)
}

/// Named schemas; the names are the client's.
fn each(value: Value) -> Value {
    match value {
        Value::Object(named) => named
            .into_iter()
            .map(|(name, schema)| (name, converted(schema)))
            .collect(),
        other => other,
    }
}

/// `STRING` → `string`.
fn kind(value: Value) -> Option<Value> {
    match value {
        Value::String(kind) if kind == "TYPE_UNSPECIFIED" => None,
        Value::String(kind) => Some(Value::String(kind.to_ascii_lowercase())),
        Value::Array(kinds) => Some(kinds.into_iter().filter_map(kind).collect()),
        other => Some(other),
    }
}

fn reference(value: Value) -> Value {
    match value.as_str() {
        Some(text) => Value::from(text.replace("#/defs/", "#/$defs/")),
        None => value,
    }
}

/// Numbers of 64 bits are strings in proto JSON.
fn number(value: Value) -> Value {
    let number = value
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok());
    number.filter(Value::is_number).unwrap_or(value)
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    match schema.get_mut("type") {
        Some(Value::Array(kinds)) if !kinds.contains(&Value::from("null")) => {
            kinds.push(Value::from("null"));
        }
        Some(kind @ Value::String(_)) if kind != "null" => {
            *kind = Value::Array(vec![kind.take(), Value::from("null")]);
        }
        Some(_) => {}
        None => {
            if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
                choices.push(Value::Object(Map::from_iter([(
                    "type".to_owned(),
                    Value::from("null"),
                )])));
            }
        }
    }
}

#[cfg(test)]
mod tests;
