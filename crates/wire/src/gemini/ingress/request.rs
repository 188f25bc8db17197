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
mod tests {
    use super::*;
    use crate::canon::{Part, Role};
    use bytes::Bytes;
    use polygate_core::Kind;

    fn read(members: &str) -> Result<ChatRequest, Failure> {
        let text = format!(r#"{{"contents":[{{"parts":[{{"text":"hi"}}]}}]{members}}}"#);
        decode(&RawObject::parse(Bytes::from(text)).expect("an object"))
    }

    /// A request with this `generationConfig`.
    fn config(text: &str) -> ChatRequest {
        read(&format!(r#","generationConfig":{text}"#)).expect("a request")
    }

    fn extra(request: &ChatRequest) -> Vec<&str> {
        request
            .extra
            .iter()
            .map(|given| given.at.as_str())
            .collect()
    }

    #[test]
    fn sampling_in_both_spellings() {
        for text in [
            r#"{"temperature":0.5,"topP":0.9,"topK":40.0,"maxOutputTokens":"100","seed":-7,
                "stopSequences":["x"],"presencePenalty":1,"frequencyPenalty":"-1","candidateCount":1,
                "responseLogprobs":true,"logprobs":3,"responseModalities":["TEXT"]}"#,
            r#"{"temperature":0.5,"top_p":0.9,"top_k":40,"max_output_tokens":100.0,"seed":"-7",
                "stop_sequences":["x"],"presence_penalty":1,"frequency_penalty":-1,"candidate_count":"1",
                "response_logprobs":true,"logprobs":"3","response_modalities":["text"]}"#,
        ] {
            let request = config(text);
            let value = |given: &Option<Given<f64>>| given.as_ref().map(|given| given.value);
            assert_eq!(value(&request.temperature), Some(0.5));
            assert_eq!(value(&request.top_p), Some(0.9));
            assert_eq!(value(&request.presence_penalty), Some(1.0));
            assert_eq!(value(&request.frequency_penalty), Some(-1.0));
            let count = |given: &Option<Given<u64>>| given.as_ref().map(|given| given.value);
            assert_eq!(count(&request.top_k), Some(40));
            assert_eq!(count(&request.max_tokens), Some(100));
            assert_eq!(count(&request.logprobs), Some(3));
            assert_eq!(request.seed.as_ref().map(|given| given.value), Some(-7));
            assert_eq!(
                request.stop.as_ref().map(|given| given.value.len()),
                Some(1)
            );
            assert!(request.extra.is_empty(), "{:?}", request.extra);
            let at = request.max_tokens.map(|given| given.at).unwrap_or_default();
            let written = at.strip_prefix("/generationConfig/").unwrap_or_default();
            assert!(text.contains(&format!("\"{written}\"")), "{at}");
        }
        assert!(
            config(r#"{"responseLogprobs":false,"logprobs":3}"#)
                .logprobs
                .is_none()
        );
        let asked = config(r#"{"responseLogprobs":true}"#).logprobs;
        assert_eq!(
            asked,
            Some(Given::new(0, "/generationConfig/responseLogprobs"))
        );
    }

    #[test]
    fn the_rest_is_kept_where_it_stood() {
        let request = read(
            r#","safetySettings":[{"category":"X"}],"labels":{"a":"b"},"a/b":1,"store":null,"toolConfig":{},
            "generation_config":{"response_modalities":["TEXT","IMAGE"],"candidateCount":2,"speechConfig":{"x":1}},
            "tools":[{"googleSearch":{},"function_declarations":[{"name":"f","behavior":"BLOCKING","response":{"type":"STRING"}}]}],
            "tool_config":{"retrievalConfig":{"languageCode":"en"}}"#,
        );
        let request = request.expect("a request");
        let mut places = extra(&request);
        places.sort_unstable();
        assert_eq!(
            places,
            [
                "/a~1b",
                "/generation_config/candidateCount",
                "/generation_config/response_modalities",
                "/generation_config/speechConfig",
                "/labels",
                "/safetySettings",
                "/tool_config/retrievalConfig",
                "/tools/0/function_declarations/0/behavior",
                "/tools/0/function_declarations/0/response",
                "/tools/0/googleSearch",
            ]
        );
        assert_eq!(request.source, Some(Format::Gemini));
        assert!(request.include_usage && !request.stream);
    }

    #[test]
    fn instructions_come_first() {
        for (json, at) in [
            (
                r#""systemInstruction":{"role":"user","parts":[{"text":"be"}]}"#,
                "/systemInstruction/parts/0",
            ),
            (
                r#""system_instruction":{"parts":{"text":"be"}}"#,
                "/system_instruction/parts",
            ),
        ] {
            let request = read(&format!(",{json}")).expect("a request");
            let roles: Vec<Role> = request
                .messages
                .iter()
                .map(|message| message.role)
                .collect();
            assert_eq!(roles, [Role::System, Role::User]);
            let part = request
                .messages
                .first()
                .and_then(|message| message.parts.first());
            assert_eq!(part, Some(&Given::new(Part::Text("be".to_owned()), at)));
        }
        let request = read(r#","systemInstruction":{"parts":[]},"model":"models/x""#);
        let request = request.expect("a request");
        assert_eq!((request.messages.len(), request.model.as_str()), (1, "x"));
    }

    #[test]
    fn choices_of_tools() {
        let allowed = |required| {
            Some(ToolChoice::Allowed {
                names: vec!["f".to_owned(), "g".to_owned()],
                required,
            })
        };
        let cases: [(&str, Option<ToolChoice>, &[&str]); 8] = [
            (r#"{"mode":"AUTO"}"#, Some(ToolChoice::Auto), &[]),
            (r#"{"mode":"none"}"#, Some(ToolChoice::None), &[]),
            (r#"{"mode":"ANY"}"#, Some(ToolChoice::Required), &[]),
            (
                r#"{"mode":"ANY","allowedFunctionNames":["f"]}"#,
                Some(ToolChoice::Named("f".to_owned())),
                &[],
            ),
            (
                r#"{"mode":"ANY","allowed_function_names":["f","g"]}"#,
                allowed(true),
                &[],
            ),
            (
                r#"{"mode":"VALIDATED"}"#,
                Some(ToolChoice::Auto),
                &["/toolConfig/functionCallingConfig/mode"],
            ),
            (
                r#"{"mode":"VALIDATED","allowedFunctionNames":["f","g"]}"#,
                allowed(false),
                &["/toolConfig/functionCallingConfig/mode"],
            ),
            ("{}", None, &[]),
        ];
        for (json, choice, lost) in cases {
            let request = read(&format!(
                r#","toolConfig":{{"functionCallingConfig":{json}}}"#
            ));
            let request = request.expect("a request");
            assert_eq!(extra(&request), lost, "{json}");
            assert_eq!(
                request.tool_choice.map(|given| given.value),
                choice,
                "{json}"
            );
        }
    }

    #[test]
    fn schemas_become_json_schemas() {
        for (google, expected) in [
            (
                r#"{"type":"OBJECT","properties":{"type":{"type":"STRING","nullable":true,"enum":["a"]},
                    "any_of":{"type":"ARRAY","items":{"type":"INTEGER","format":"int32"},"min_items":"1","maxItems":3}},
                    "required":["type"],"propertyOrdering":["type"]}"#,
                r#"{"type":"object","properties":{"type":{"type":["string","null"],"enum":["a",null]},
                    "any_of":{"type":"array","items":{"type":"integer","format":"int32"},"minItems":1,"maxItems":3}},
                    "required":["type"]}"#,
            ),
            (
                r#"{"any_of":[{"type":"NUMBER","minimum":"0.5"},{"type":"NULL"}],"nullable":true,"default":{"type":"X"}}"#,
                r#"{"anyOf":[{"type":"number","minimum":0.5},{"type":"null"},{"type":"null"}],"default":{"type":"X"}}"#,
            ),
            (
                r##"{"ref":"#/defs/a","defs":{"a":{"type":"TYPE_UNSPECIFIED","example":1}}}"##,
                r##"{"$ref":"#/$defs/a","$defs":{"a":{"examples":[1]}}}"##,
            ),
            (
                r#"{"type":["string","null"],"x-y_z":1}"#,
                r#"{"type":["string","null"],"x-y_z":1}"#,
            ),
        ] {
            let request = read(&format!(
                r#","tools":{{"functionDeclarations":[{{"name":"f","parameters":{google}}},
                    {{"name":"g","description":"","parameters_json_schema":{google}}}]}}"#
            ));
            let request = request.expect("a request");
            let [f, g] = request.tools.as_slice() else {
                panic!("{:?}", request.tools);
            };
            let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
            assert_eq!(
                f.parameters().map(|raw| value(raw.get())),
                Some(value(expected))
            );
            assert_eq!(g.parameters().map(RawValue::get), Some(google));
            assert_eq!(
                (f.at.as_str(), &g.description),
                ("/tools/functionDeclarations/0", &None)
            );
        }
    }

    #[test]
    fn shapes_of_output() {
        type Case<'a> = (&'a str, Option<(&'a str, &'a str)>, &'a [&'a str]);
        let cases: [Case<'_>; 8] = [
            (r#"{"responseMimeType":"text/plain"}"#, None, &[]),
            (
                r#"{"response_mime_type":"application/json"}"#,
                Some(("object", "response_mime_type")),
                &[],
            ),
            (
                r#"{"responseMimeType":"application/json","responseSchema":{"type":"STRING"}}"#,
                Some((r#"{"type":"string"}"#, "responseSchema")),
                &[],
            ),
            (
                r#"{"responseMimeType":"application/json","response_json_schema":{"type": "STRING"}}"#,
                Some((r#"{"type": "STRING"}"#, "response_json_schema")),
                &[],
            ),
            (
                r#"{"responseMimeType":"text/x.enum","response_schema":{"enum":["a"]}}"#,
                Some((r#"{"enum":["a"]}"#, "response_schema")),
                &[],
            ),
            (
                r#"{"responseMimeType":"text/x.enum"}"#,
                None,
                &["responseMimeType"],
            ),
            (
                r#"{"responseMimeType":"audio/x"}"#,
                None,
                &["responseMimeType"],
            ),
            (
                r#"{"responseMimeType":"text/plain","responseSchema":{"a":1}}"#,
                None,
                &["responseSchema"],
            ),
        ];
        for (json, expected, lost) in cases {
            let request = config(json);
            let lost: Vec<_> = lost
                .iter()
                .map(|name| format!("/generationConfig/{name}"))
                .collect();
            assert_eq!(extra(&request), lost, "{json}");
            let shape = request.output.map(|given| match given.value {
                OutputShape::JsonObject => ("object".to_owned(), given.at),
                OutputShape::JsonSchema { schema, .. } => (schema.get().to_owned(), given.at),
            });
            let expected = expected
                .map(|(shape, name)| (shape.to_owned(), format!("/generationConfig/{name}")));
            assert_eq!(shape, expected, "{json}");
        }
    }

    #[test]
    fn thinking_in_tokens_and_levels() {
        for (json, thinking, show, lost) in [
            (
                r#"{"thinkingBudget":-1,"includeThoughts":true}"#,
                Some(Thinking::Auto),
                Some(true),
                0,
            ),
            (r#"{"thinking_budget":0}"#, Some(Thinking::Off), None, 0),
            (
                r#"{"thinkingBudget":"512","include_thoughts":false}"#,
                Some(Thinking::Budget(512)),
                Some(false),
                0,
            ),
            (
                r#"{"thinkingLevel":"HIGH"}"#,
                Some(Thinking::Effort(Effort::High)),
                None,
                0,
            ),
            (r#"{"thinking_level":"strange","other":1}"#, None, None, 2),
        ] {
            let request = config(&format!(r#"{{"thinkingConfig":{json}}}"#));
            assert_eq!(
                request.thinking.map(|given| given.value),
                thinking,
                "{json}"
            );
            assert_eq!(
                request.show_thinking.map(|given| given.value),
                show,
                "{json}"
            );
            assert_eq!(request.extra.len(), lost, "{json}");
        }
    }

    #[test]
    fn what_cannot_be_asked_elsewhere_is_refused() {
        let failure = read(r#","cachedContent":"cachedContents/x""#).expect_err("refused");
        assert_eq!(failure.kind, Kind::Untranslatable);
        assert_eq!(failure.param.as_deref(), Some("cachedContent"));
        for (json, place) in [
            (
                r#","generationConfig":{"topP":"x"}"#,
                "generationConfig.topP",
            ),
            (
                r#","generationConfig":{"max_output_tokens":-1}"#,
                "generationConfig.max_output_tokens",
            ),
            (
                r#","tools":[{"functionDeclarations":[{}]}]"#,
                "tools[0].functionDeclarations[0].name",
            ),
            (r#","tools":7"#, "tools"),
        ] {
            let failure = read(json).expect_err(json);
            assert_eq!(failure.kind, Kind::InvalidRequest, "{json}");
            assert_eq!(failure.param.as_deref(), Some(place), "{json}");
        }
        let empty =
            RawObject::parse(Bytes::from_static(b"{\"contents\":null}")).expect("an object");
        assert_eq!(
            decode(&empty).expect_err("empty").param.as_deref(),
            Some("contents")
        );
    }
}
