//! A Messages request as its client wrote it → the hub.

use polygate_core::Failure;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::content::Reader;
use crate::canon::{
    ChatRequest, Effort, Given, Message, OutputShape, Role, Thinking, Tool, ToolChoice, ToolInput,
};
use crate::raw::quote;
use crate::request::{
    bad, cache_control, escape, given, is_empty, keep_unknown, raw, refuse, value,
};
use crate::{Format, RawObject};

/// Reads a request. Members that nobody models are kept with their pointers, so that their loss can be named.
pub(crate) fn decode(body: &RawObject) -> Result<ChatRequest, Failure> {
    let mut request = ChatRequest {
        source: Some(Format::AnthropicMessages),
        include_usage: true,
        ..ChatRequest::default()
    };
    let mut reader = Reader::default();
    let mut has_messages = false;
    // Instructions come first, wherever they stand in the body.
    if let Some(text) = body.get("system").filter(|text| *text != "null") {
        let parts = reader.content("system", text, "/system")?;
        request.messages.push(Message {
            role: Role::System,
            parts,
            at: "/system".to_owned(),
        });
    }
    for (name, text) in body.iter() {
        if text == "null" || name == "system" {
            continue;
        }
        if name == "messages" {
            has_messages = true;
            request.messages.extend(reader.messages(text)?);
        } else {
            member(&mut request, name, text)?;
        }
    }
    if !has_messages {
        return Err(bad("messages", "is missing"));
    }
    request.extra.extend(reader.unknown);
    Ok(request)
}

/// One member of the request. A catalogue: one line each.
fn member(request: &mut ChatRequest, name: &str, text: &str) -> Result<(), Failure> {
    match name {
        "model" => request.model = value(name, text)?,
        "stream" => request.stream = value(name, text)?,
        "max_tokens" => request.max_tokens = given(name, text)?,
        "temperature" => request.temperature = given(name, text)?,
        "top_p" => request.top_p = given(name, text)?,
        "top_k" => request.top_k = given(name, text)?,
        "stop_sequences" if text == "[]" => {}
        "stop_sequences" => request.stop = given(name, text)?,
        "tools" => tools(request, text)?,
        "tool_choice" => tool_choice(request, text)?,
        "thinking" => thinking(request, text)?,
        "output_config" => output_config(request, text)?,
        "output_format" => output(request, text, "/output_format")?,
        "metadata" => metadata(request, text)?,
        "thread" => return Err(no_threads()),
        // What everyone does without a word.
        "service_tier" if text == "\"auto\"" => {}
        _ if is_empty(text) => {}
        other => request
            .extra
            .push(Given::new(raw(other, text)?, format!("/{}", escape(other)))),
    }
    Ok(())
}

/// A conversation that the provider keeps. Anthropic's code for where it keeps none: on it, its SDKs send the whole conversation.
fn no_threads() -> Failure {
    let mut failure = refuse("thread", "needs a provider that keeps conversations");
    failure.code = Some("thread_unsupported_request".to_owned());
    failure
}

#[derive(Deserialize)]
struct ToolMember<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    description: Option<String>,
    #[serde(borrow)]
    input_schema: Option<&'a RawValue>,
    strict: Option<bool>,
    #[serde(borrow)]
    cache_control: Option<&'a RawValue>,
}

const KNOWN_OF_TOOLS: [&str; 6] = [
    "type",
    "name",
    "description",
    "input_schema",
    "strict",
    "cache_control",
];

fn tools(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let members: Vec<&RawValue> = value("tools", text)?;
    for (index, raw) in members.into_iter().enumerate() {
        let at = format!("/tools/{index}");
        let place = format!("tools[{index}]");
        let tool: ToolMember<'_> = value(&place, raw.get())?;
        if tool.kind.as_deref().is_some_and(|kind| kind != "custom") {
            // Tools of the vendor's own: nobody else has them.
            request.extra.push(Given::new(raw.to_owned(), at));
            continue;
        }
        keep_unknown(raw.get(), &KNOWN_OF_TOOLS, &at, &mut request.extra);
        let schema = tool.input_schema.filter(|raw| raw.get() != "null");
        let name = tool
            .name
            .ok_or_else(|| bad(&format!("{place}.name"), "is missing"))?;
        request.tools.push(Tool {
            name,
            description: tool.description,
            input: ToolInput::Json(schema.map(ToOwned::to_owned)),
            strict: tool
                .strict
                .map(|strict| Given::new(strict, format!("{at}/strict"))),
            cache: cache_control(tool.cache_control)
                .map(|point| Given::new(point, format!("{at}/cache_control"))),
            at,
        });
    }
    Ok(())
}

#[derive(Deserialize)]
struct ChoiceMember {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

fn tool_choice(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let member: ChoiceMember = value("tool_choice", text)?;
    let choice = match (member.kind.as_str(), member.name) {
        ("auto", _) => ToolChoice::Auto,
        ("none", _) => ToolChoice::None,
        ("any", _) => ToolChoice::Required,
        ("tool", Some(name)) => ToolChoice::Named(name),
        ("tool", None) => return Err(bad("tool_choice.name", "is missing")),
        (other, _) => {
            return Err(bad(
                "tool_choice.type",
                &format!("is '{other}', which is none"),
            ));
        }
    };
    request.tool_choice = Some(Given::new(choice, "/tool_choice"));
    request.parallel_tool_calls = member
        .disable_parallel_tool_use
        .filter(|disabled| *disabled)
        .map(|_| Given::new(false, "/tool_choice/disable_parallel_tool_use"));
    Ok(())
}

#[derive(Deserialize)]
struct ThinkingMember {
    #[serde(rename = "type")]
    kind: String,
    budget_tokens: Option<u64>,
    display: Option<String>,
}

fn thinking(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let member: ThinkingMember = value("thinking", text)?;
    let (wanted, at) = match (member.kind.as_str(), member.budget_tokens) {
        ("disabled", _) => (Thinking::Off, "/thinking"),
        ("enabled", Some(tokens)) => (Thinking::Budget(tokens), "/thinking/budget_tokens"),
        ("enabled" | "adaptive", _) => (Thinking::Auto, "/thinking"),
        (other, _) => {
            return Err(bad(
                "thinking.type",
                &format!("is '{other}', which is none"),
            ));
        }
    };
    // An effort that was read before says more than `adaptive` does, and less than a budget.
    match request.thinking.take() {
        Some(effort) if wanted == Thinking::Auto => request.thinking = Some(effort),
        before => {
            if let Some(Given {
                value: Thinking::Effort(effort),
                ..
            }) = before
            {
                unused(request, effort)?;
            }
            request.thinking = Some(Given::new(wanted, at));
        }
    }
    request.show_thinking = match member.display.as_deref() {
        Some("omitted") => Some(Given::new(false, "/thinking/display")),
        Some(_) => Some(Given::new(true, "/thinking/display")),
        None if wanted != Thinking::Off => Some(Given::new(true, "/thinking")),
        None => None,
    };
    Ok(())
}

#[derive(Deserialize)]
struct ConfigMember<'a> {
    effort: Option<String>,
    #[serde(borrow)]
    format: Option<&'a RawValue>,
}

fn output_config(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let member: ConfigMember<'_> = value("output_config", text)?;
    keep_unknown(
        text,
        &["effort", "format"],
        "/output_config",
        &mut request.extra,
    );
    if let Some(named) = member.effort {
        let effort = Effort::named(&named).ok_or_else(|| {
            bad(
                "output_config.effort",
                &format!("is '{named}', which is none"),
            )
        })?;
        let is_stated = request
            .thinking
            .as_ref()
            .is_some_and(|given| given.value != Thinking::Auto);
        if is_stated {
            unused(request, effort)?;
        } else {
            request.thinking = Some(Given::new(Thinking::Effort(effort), EFFORT));
        }
    }
    match member.format {
        Some(format) => output(request, format.get(), "/output_config/format"),
        None => Ok(()),
    }
}

const EFFORT: &str = "/output_config/effort";

/// An effort beside a budget, or beside no thinking at all: others know one of the two.
fn unused(request: &mut ChatRequest, effort: Effort) -> Result<(), Failure> {
    let effort = raw("output_config.effort", &quote(effort.name()))?;
    request.extra.push(Given::new(effort, EFFORT));
    Ok(())
}

#[derive(Deserialize)]
struct FormatMember<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
}

fn output(request: &mut ChatRequest, text: &str, at: &str) -> Result<(), Failure> {
    if text == "null" {
        return Ok(());
    }
    let place = at.trim_start_matches('/').replace('/', ".");
    let member: FormatMember<'_> = value(&place, text)?;
    match (member.kind.as_str(), member.schema) {
        ("json_schema", Some(schema)) => {
            let shape = OutputShape::JsonSchema {
                name: None,
                description: None,
                schema: schema.to_owned(),
                strict: Some(true),
            };
            request.output = Some(Given::new(shape, at));
        }
        _ => request.extra.push(Given::new(raw(&place, text)?, at)),
    }
    Ok(())
}

#[derive(Deserialize)]
struct MetadataMember {
    user_id: Option<String>,
}

fn metadata(request: &mut ChatRequest, text: &str) -> Result<(), Failure> {
    let member: MetadataMember = value("metadata", text)?;
    keep_unknown(text, &["user_id"], "/metadata", &mut request.extra);
    request.user = member
        .user_id
        .map(|user| Given::new(user, "/metadata/user_id"));
    Ok(())
}
