//! A chat request as its client wrote it → the hub.

use polygate_core::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::message;
use crate::canon::{
    ChatRequest, Effort, Given, Grammar, OutputShape, Thinking, Tool, ToolChoice, ToolInput,
};
use crate::request::{bad, cache_control, escape, given, is_empty, keep_unknown, raw, value};
use crate::{Format, RawObject};

/// Reads a request. Members that nobody models are kept with their pointers, so that their loss can be named.
pub(crate) fn decode(body: &RawObject) -> Result<ChatRequest, Failure> {
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
pub(crate) fn member(request: &mut ChatRequest, name: &str, text: &str) -> Result<(), Failure> {
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
        "reasoning_effort" => effort(request, name, text)?,
        "reasoning" => reasoning(request, text)?,
        "verbosity" => request.verbosity = given(name, text)?,
        "logprobs" if text == "false" => {}
        "logprobs" => {
            // Together's is a count.
            let count = text.parse().unwrap_or(0);
            let given = Given::new(count, "/logprobs");
            request.logprobs = request.logprobs.take().or(Some(given));
        }
        "top_logprobs" => request.logprobs = given(name, text)?,
        "functions" => functions(request, text)?,
        "function_call" => function_call(request, text)?,
        "response_format" => request.output = output(request, text)?,
        "user" => request.user = given(name, text)?,
        // One answer is what everyone gives.
        "n" if text == "1" => {}
        // What everyone does without a word.
        "service_tier" if text == "\"auto\"" => {}
        "store" if text == "false" => {}
        _ if is_empty(text) => {}
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
    function: Option<&'a RawValue>,
    #[serde(borrow)]
    custom: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct FunctionMember<'a> {
    name: String,
    description: Option<String>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    strict: Option<bool>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct CustomMember<'a> {
    name: String,
    description: Option<String>,
    #[serde(borrow)]
    format: Option<&'a RawValue>,
}

const KNOWN_OF_TOOLS: [&str; 4] = ["type", "function", "custom", "cache_control"];
const KNOWN_OF_FUNCTIONS: [&str; 5] = [
    "name",
    "description",
    "parameters",
    "strict",
    "cache_control",
];
const KNOWN_OF_FREEFORM: [&str; 3] = ["name", "description", "format"];

fn tools(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let members: Vec<&RawValue> = value("tools", text)?;
    for (index, raw) in members.into_iter().enumerate() {
        let at = format!("/tools/{index}");
        let tool: ToolMember<'_> = value(&format!("tools[{index}]"), raw.get())?;
        match (tool.function, tool.custom) {
            (Some(text), _) if tool.kind.as_deref().is_none_or(|kind| kind == "function") => {
                let inside = format!("{at}/function");
                let named = value(&format!("tools[{index}].function"), text.get())?;
                keep_unknown(raw.get(), &KNOWN_OF_TOOLS, &at, &mut request.extra);
                keep_unknown(text.get(), &KNOWN_OF_FUNCTIONS, &inside, &mut request.extra);
                let mut made = function(named, &inside, at.clone());
                let cache = cache_control(tool.cache_control);
                made.cache = made
                    .cache
                    .or(cache.map(|point| Given::new(point, format!("{at}/cache_control"))));
                request.tools.push(made);
            }
            (None, Some(text)) => {
                let inside = format!("{at}/custom");
                let custom = value(&format!("tools[{index}].custom"), text.get())?;
                keep_unknown(text.get(), &KNOWN_OF_FREEFORM, &inside, &mut request.extra);
                request.tools.push(freeform(custom, at));
            }
            // Tools of the vendor's own: nobody else has them.
            _ => request.extra.push(Given::new(raw.to_owned(), at)),
        }
    }
    Ok(())
}

fn function(member: FunctionMember<'_>, inside: &str, at: String) -> Tool {
    let parameters = member.parameters.filter(|raw| raw.get() != "null");
    let cache = cache_control(member.cache_control);
    Tool {
        name: member.name,
        description: member.description,
        input: ToolInput::Json(parameters.map(ToOwned::to_owned)),
        strict: member
            .strict
            .map(|strict| Given::new(strict, format!("{inside}/strict"))),
        cache: cache.map(|point| Given::new(point, format!("{inside}/cache_control"))),
        at,
    }
}

/// A tool that takes any text, or text of a grammar.
fn freeform(custom: CustomMember<'_>, at: String) -> Tool {
    let grammar = custom.format.and_then(grammar);
    Tool {
        name: custom.name,
        description: custom.description,
        input: ToolInput::Freeform(
            grammar.map(|grammar| Given::new(grammar, format!("{at}/custom/format"))),
        ),
        strict: None,
        cache: None,
        at,
    }
}

#[derive(Deserialize)]
struct FormatOfInput {
    grammar: Option<GrammarMember>,
    syntax: Option<String>,
    definition: Option<String>,
}

#[derive(Deserialize)]
struct GrammarMember {
    syntax: String,
    definition: String,
}

/// The grammar of a freeform input, flat as in Responses or nested as in Chat; plain text has none.
pub(crate) fn grammar(format: &RawValue) -> Option<Grammar> {
    let format: FormatOfInput = serde_json::from_str(format.get()).ok()?;
    match (format.grammar, format.syntax, format.definition) {
        (Some(GrammarMember { syntax, definition }), ..) => Some(Grammar { syntax, definition }),
        (None, Some(syntax), Some(definition)) => Some(Grammar { syntax, definition }),
        _ => None,
    }
}

/// Tools as they were called once.
fn functions(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let members: Vec<&RawValue> = value("functions", text)?;
    for (index, raw) in members.into_iter().enumerate() {
        let at = format!("/functions/{index}");
        keep_unknown(raw.get(), &KNOWN_OF_FUNCTIONS, &at, &mut request.extra);
        let member: FunctionMember<'_> = value(&format!("functions[{index}]"), raw.get())?;
        request.tools.push(function(member, &at, at.clone()));
    }
    Ok(())
}

fn function_call(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let choice = match text {
        "\"auto\"" => ToolChoice::Auto,
        "\"none\"" => ToolChoice::None,
        _ => ToolChoice::Named(value::<NameMember>("function_call", text)?.name),
    };
    request.tool_choice = Some(Given::new(choice, "/function_call"));
    Ok(())
}

fn effort(request: &mut ChatRequest, name: &str, text: &str) -> Result<(), Failure> {
    let named: String = value(name, text)?;
    match thinking(&named) {
        Some(thinking) => request.thinking = Some(Given::new(thinking, format!("/{name}"))),
        None => request
            .extra
            .push(Given::new(raw(name, text)?, format!("/{name}"))),
    }
    Ok(())
}

/// An effort by its name; `none` is one.
pub(crate) fn thinking(named: &str) -> Option<Thinking> {
    if named.eq_ignore_ascii_case("none") {
        return Some(Thinking::Off);
    }
    Effort::named(named).map(Thinking::Effort)
}

#[derive(Deserialize)]
struct ReasoningMember {
    effort: Option<String>,
    max_tokens: Option<u64>,
    enabled: Option<bool>,
    exclude: Option<bool>,
}

/// OpenRouter's member.
fn reasoning(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let member: ReasoningMember = value("reasoning", text)?;
    let named = member.effort.as_deref();
    let wanted = match (named, member.max_tokens, member.enabled) {
        (_, Some(tokens), _) => Some((Thinking::Budget(tokens), "/reasoning/max_tokens")),
        (Some(named), ..) => thinking(named).map(|wanted| (wanted, "/reasoning/effort")),
        (None, None, Some(true)) => Some((Thinking::Auto, "/reasoning/enabled")),
        (None, None, Some(false)) => Some((Thinking::Off, "/reasoning/enabled")),
        (None, None, None) => None,
    };
    if let (None, Some(_)) = (wanted, named) {
        request
            .extra
            .push(Given::new(raw("reasoning", text)?, "/reasoning"));
    }
    request.thinking = wanted.map(|(wanted, at)| Given::new(wanted, at));
    request.show_thinking = member
        .exclude
        .map(|hidden| Given::new(!hidden, "/reasoning/exclude"));
    Ok(())
}

#[derive(Deserialize)]
struct ChoiceMember {
    function: Option<NameMember>,
    custom: Option<NameMember>,
    allowed_tools: Option<AllowedMember>,
}

#[derive(Deserialize)]
struct NameMember {
    name: String,
}

#[derive(Deserialize)]
struct AllowedMember {
    mode: Option<String>,
    tools: Vec<ChoiceMember>,
}

impl ChoiceMember {
    fn name(self) -> Option<String> {
        self.function.or(self.custom).map(|member| member.name)
    }
}

fn tool_choice(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let choice = match text {
        "\"auto\"" => Some(ToolChoice::Auto),
        "\"none\"" => Some(ToolChoice::None),
        "\"required\"" | "\"any\"" => Some(ToolChoice::Required),
        _ => choice_of(value("tool_choice", text)?),
    };
    match choice {
        Some(choice) => request.tool_choice = Some(Given::new(choice, "/tool_choice")),
        None => request
            .extra
            .push(Given::new(raw("tool_choice", text)?, "/tool_choice")),
    }
    Ok(())
}

fn choice_of(mut member: ChoiceMember) -> Option<ToolChoice> {
    match member.allowed_tools.take() {
        Some(allowed) => Some(ToolChoice::Allowed {
            required: allowed.mode.as_deref() == Some("required"),
            names: allowed
                .tools
                .into_iter()
                .filter_map(ChoiceMember::name)
                .collect(),
        }),
        None => member.name().map(ToolChoice::Named),
    }
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
            description: description
                .map(|text| Given::new(text, "/response_format/json_schema/description")),
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
