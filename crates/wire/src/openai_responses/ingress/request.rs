//! A Responses request as its client wrote it → the hub.

use std::collections::HashMap;

use polygate_core::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::input::Reader;
use crate::canon::{
    ChatRequest, Given, Message, Namespaced, OutputShape, Part, Role, Tool, ToolChoice, ToolInput,
};
use crate::openai_chat::{grammar, thinking};
use crate::raw::quote;
use crate::request::{Extra, bad, escape, given, is_empty, keep_unknown, raw, refuse, value};
use crate::sse::on_one_line;
use crate::{Format, RawObject};

/// Members that the answer repeats.
const ECHOED: [&str; 18] = [
    "background",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
];

/// Reads a request. Members that nobody models are kept with their pointers, so that their loss can be named.
pub(crate) fn decode(body: &RawObject) -> Result<ChatRequest, Failure> {
    let mut request = ChatRequest {
        source: Some(Format::OpenaiResponses),
        include_usage: true,
        ..ChatRequest::default()
    };
    if let Some(text) = body.get("instructions").filter(|text| *text != "null") {
        request.messages.push(instructions(text)?);
    }
    let input = body.get("input").filter(|text| *text != "null");
    let mut reader = Reader::default();
    let input = input.ok_or_else(|| bad("input", "is missing"))?;
    request.messages.extend(reader.input(input)?);
    request.extra.extend(reader.unknown);
    for (name, text) in body.iter() {
        if text == "null" {
            continue;
        }
        if ECHOED.contains(&name) {
            // It is repeated inside events.
            let text = on_one_line(text);
            request.echo.push((name.to_owned(), raw(name, &text)?));
        }
        if !matches!(name, "instructions" | "input") {
            member(&mut request, name, text)?;
        }
    }
    // After those of the request itself, which they may replace.
    for list in reader.tools {
        tools(&mut request, &list.at, list.value.get())?;
    }
    request.tools = latest_of_each(request.tools);
    Ok(request)
}

fn instructions(text: &str) -> Result<Message, Failure> {
    let at = "/instructions";
    let text: String = value("instructions", text)?;
    Ok(Message {
        role: Role::System,
        parts: vec![Given::new(Part::Text(text), at)],
        at: at.to_owned(),
    })
}

/// One member of the request. A catalogue: one line each.
fn member(request: &mut ChatRequest, name: &str, text: &str) -> Result<(), Failure> {
    match name {
        "model" => request.model = value(name, text)?,
        "stream" => request.stream = value(name, text)?,
        "tools" => tools(request, "/tools", text)?,
        "tool_choice" => tool_choice(request, text)?,
        "parallel_tool_calls" => request.parallel_tool_calls = given(name, text)?,
        "max_output_tokens" => request.max_tokens = given(name, text)?,
        "temperature" => request.temperature = given(name, text)?,
        "top_p" => request.top_p = given(name, text)?,
        "top_logprobs" => request.logprobs = given(name, text)?,
        "reasoning" => reasoning(request, text)?,
        "text" => text_member(request, text)?,
        "user" => request.user = given(name, text)?,
        "include" => include(request, text)?,
        // What is kept between calls, the gateway keeps.
        "store" | "stream_options" => {}
        "background" if text == "false" => {}
        "truncation" if text == "\"disabled\"" => {}
        "background" => return Err(refuse(name, "needs a provider that speaks Responses")),
        "previous_response_id" => {
            return Err(refuse(
                name,
                "names an answer that this gateway has not kept",
            ));
        }
        "conversation" | "prompt" => {
            return Err(refuse(name, "stands for what only its provider has"));
        }
        // What everyone does without a word.
        "service_tier" if text == "\"auto\"" => {}
        _ if is_empty(text) => {}
        other => request
            .extra
            .push(Given::new(raw(other, text)?, format!("/{}", escape(other)))),
    }
    Ok(())
}

#[derive(Deserialize)]
struct ToolMember<'a> {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    strict: Option<bool>,
    #[serde(borrow)]
    format: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
    execution: Option<String>,
}

impl ToolMember<'_> {
    /// A search for tools that the client does, not OpenAI.
    fn is_clients_search(&self) -> bool {
        self.kind == SEARCH && self.execution.as_deref() == Some("client")
    }
}

/// What a client's search for tools is called where it is a function like any other.
pub(crate) const SEARCH: &str = "tool_search";

const KNOWN_OF_SEARCHES: [&str; 4] = ["type", "execution", "description", "parameters"];
const KNOWN_OF_FUNCTIONS: [&str; 5] = ["type", "name", "description", "parameters", "strict"];
const KNOWN_OF_NAMESPACES: [&str; 3] = ["type", "name", "tools"];
const KNOWN_OF_FREEFORM: [&str; 4] = ["type", "name", "description", "format"];

/// A list of tools that stands there.
fn tools(request: &mut ChatRequest, list: &str, text: &str) -> Result<(), Failure> {
    let members: Vec<&RawValue> = value(list, text)?;
    for (index, raw) in members.into_iter().enumerate() {
        let at = format!("{list}/{index}");
        let mut tool: ToolMember<'_> = value(&at, raw.get())?;
        if tool.is_clients_search() {
            tool.name = Some(SEARCH.to_owned());
            request.search = Some(SEARCH.to_owned());
        }
        if tool.kind != "namespace" {
            match tool_of(tool, raw, at, &mut request.extra) {
                Ok(tool) => request.tools.push(tool),
                Err(unknown) => request.extra.push(unknown),
            }
            continue;
        }
        keep_unknown(raw.get(), &KNOWN_OF_NAMESPACES, &at, &mut request.extra);
        let namespace = tool.name.unwrap_or_default();
        for (inner, raw) in tool.tools.into_iter().flatten().enumerate() {
            let at = format!("{at}/tools/{inner}");
            let tool: ToolMember<'_> = value(&at, raw.get())?;
            match tool_of(tool, raw, at, &mut request.extra) {
                Ok(mut tool) => {
                    let flat = flat_name(&namespace, &tool.name);
                    request.namespaces.push(Namespaced {
                        namespace: namespace.clone(),
                        name: std::mem::replace(&mut tool.name, flat.clone()),
                        flat,
                    });
                    request.tools.push(tool);
                }
                Err(unknown) => request.extra.push(unknown),
            }
        }
    }
    Ok(())
}

/// A tool that the conversation brought later stands for an earlier one of its name.
fn latest_of_each(tools: Vec<Tool>) -> Vec<Tool> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut latest: Vec<Tool> = Vec::with_capacity(tools.len());
    for tool in tools {
        let place = places.entry(tool.name.clone()).or_insert(latest.len());
        match latest.get_mut(*place) {
            Some(known) => *known = tool,
            None => latest.push(tool),
        }
    }
    latest
}

/// The name of a namespace's tool for those that know no namespaces. A tool that was found by search is called as if it were in a
/// namespace of its own.
pub(crate) fn flat_name(namespace: &str, name: &str) -> String {
    if namespace == name {
        return name.to_owned();
    }
    format!("{namespace}__{name}")
}

fn tool_of(
    tool: ToolMember<'_>,
    raw: &RawValue,
    at: String,
    extra: &mut Extra,
) -> Result<Tool, Given<Box<RawValue>>> {
    let known: &[&str] = match tool.kind.as_str() {
        "function" => &KNOWN_OF_FUNCTIONS,
        "custom" => &KNOWN_OF_FREEFORM,
        _ if tool.is_clients_search() => &KNOWN_OF_SEARCHES,
        _ => &[],
    };
    let (Some(name), [_, ..]) = (tool.name, known) else {
        // Tools of the vendor's own: nobody else has them.
        return Err(Given::new(raw.to_owned(), at));
    };
    let is_freeform = tool.kind == "custom";
    keep_unknown(raw.get(), known, &at, extra);
    let parameters = tool.parameters.filter(|raw| raw.get() != "null");
    Ok(Tool {
        name,
        description: tool.description,
        input: if is_freeform {
            ToolInput::Freeform(
                tool.format
                    .and_then(grammar)
                    .map(|grammar| Given::new(grammar, format!("{at}/format"))),
            )
        } else {
            ToolInput::Json(parameters.map(ToOwned::to_owned))
        },
        strict: tool
            .strict
            .map(|strict| Given::new(strict, format!("{at}/strict"))),
        cache: None,
        at,
    })
}

#[derive(Deserialize)]
struct ChoiceMember {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    mode: Option<String>,
    tools: Option<Vec<ChoiceMember>>,
}

fn tool_choice(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let choice = match text {
        "\"auto\"" => Some(ToolChoice::Auto),
        "\"none\"" => Some(ToolChoice::None),
        "\"required\"" => Some(ToolChoice::Required),
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

fn choice_of(member: ChoiceMember) -> Option<ToolChoice> {
    match (member.kind.as_str(), member.name) {
        ("function" | "custom", Some(name)) => Some(ToolChoice::Named(name)),
        ("allowed_tools", _) => Some(ToolChoice::Allowed {
            required: member.mode.as_deref() == Some("required"),
            names: member
                .tools
                .into_iter()
                .flatten()
                .filter_map(|tool| tool.name)
                .collect(),
        }),
        _ => None,
    }
}

#[derive(Deserialize)]
struct ReasoningMember {
    effort: Option<String>,
    summary: Option<String>,
    generate_summary: Option<String>,
}

fn reasoning(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    const KNOWN: [&str; 3] = ["effort", "summary", "generate_summary"];
    let member: ReasoningMember = value("reasoning", text)?;
    keep_unknown(text, &KNOWN, "/reasoning", &mut request.extra);
    if let Some(named) = member.effort {
        let wanted = thinking(&named)
            .ok_or_else(|| bad("reasoning.effort", &format!("is '{named}', which is none")))?;
        request.thinking = Some(Given::new(wanted, "/reasoning/effort"));
    }
    let (at, summary) = match (member.summary, member.generate_summary) {
        (None, Some(kind)) => ("/reasoning/generate_summary", Some(kind)),
        (summary, _) => ("/reasoning/summary", summary),
    };
    // How long a summary is, nobody else asks.
    let is_measured = |kind: &&String| matches!(kind.as_str(), "concise" | "detailed");
    if let Some(kind) = summary.as_ref().filter(is_measured) {
        let kind = raw("reasoning.summary", &quote(kind))?;
        request.extra.push(Given::new(kind, at));
    }
    request.show_thinking = summary.map(|kind| Given::new(kind != "none", at));
    Ok(())
}

#[derive(Deserialize)]
struct TextMember<'a> {
    #[serde(borrow)]
    format: Option<FormatMember<'a>>,
    verbosity: Option<String>,
}

#[derive(Deserialize)]
struct FormatMember<'a> {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    strict: Option<bool>,
}

fn text_member(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let at = "/text/format";
    let member: TextMember<'_> = value("text", text)?;
    keep_unknown(text, &["format", "verbosity"], "/text", &mut request.extra);
    request.verbosity = member
        .verbosity
        .map(|verbosity| Given::new(verbosity, "/text/verbosity"));
    let Some(format) = member.format else {
        return Ok(());
    };
    let shape = match (format.kind.as_str(), format.schema) {
        ("text", _) => return Ok(()),
        ("json_object", _) => OutputShape::JsonObject,
        ("json_schema", Some(schema)) => OutputShape::JsonSchema {
            name: format.name,
            description: format
                .description
                .map(|text| Given::new(text, format!("{at}/description"))),
            schema: schema.to_owned(),
            strict: format.strict,
        },
        _ => {
            request.extra.push(Given::new(raw("text", text)?, at));
            return Ok(());
        }
    };
    request.output = Some(Given::new(shape, at));
    Ok(())
}

/// What the client wants beside the answer: log probabilities are all that others have.
fn include(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let wanted: Vec<&RawValue> = value("include", text)?;
    for (index, raw) in wanted.into_iter().enumerate() {
        let at = format!("/include/{index}");
        if raw.get() == "\"message.output_text.logprobs\"" {
            request.logprobs = request.logprobs.take().or(Some(Given::new(0, at)));
        } else {
            request.extra.push(Given::new(raw.to_owned(), at));
        }
    }
    Ok(())
}
