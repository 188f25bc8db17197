//! What a request or an answer says, as lines: without pointers, and without what is the same to a model (where one message ends and
//! the next of the same speaker begins).

use polygate_wire::canon::{Block, Given, Media, OutputShape, Part, Said, Tool, ToolInput};
use polygate_wire::{ChatRequest, ChatResponse};

/// The lines that only one of both has.
pub fn differences(first: &[String], second: &[String]) -> Vec<String> {
    let only = |sign: &str, these: &[String], those: &[String]| -> Vec<String> {
        let these = these.iter().filter(|line| !those.contains(line));
        these.map(|line| format!("{sign} {line}")).collect()
    };
    let mut lines = only("-", first, second);
    lines.extend(only("+", second, first));
    if lines.is_empty() && first != second {
        lines.push(format!("order: {first:#?} but {second:#?}"));
    }
    lines
}

/// A request.
pub fn request(request: &ChatRequest) -> Vec<String> {
    let ChatRequest {
        source,
        model,
        stream,
        include_usage,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls,
        max_tokens,
        temperature,
        top_p,
        top_k,
        stop,
        seed,
        presence_penalty,
        frequency_penalty,
        thinking,
        show_thinking,
        output,
        verbosity,
        logprobs,
        user,
        namespaces,
        search,
        // Made while reading, of what is here.
        echo: _,
        extra,
    } = request;
    let mut lines = vec![format!(
        "{source:?} {model:?} stream {stream} usage {include_usage}"
    )];
    for message in messages {
        let role = message.role;
        let parts = message.parts.iter();
        lines.extend(parts.map(|given| format!("{role:?} {}", part(&given.value))));
    }
    lines.extend(tools.iter().map(tool));
    let members = [
        value("tool_choice", tool_choice),
        value("parallel_tool_calls", parallel_tool_calls),
        value("max_tokens", max_tokens),
        value("temperature", temperature),
        value("top_p", top_p),
        value("top_k", top_k),
        value("stop", stop),
        value("seed", seed),
        value("presence_penalty", presence_penalty),
        value("frequency_penalty", frequency_penalty),
        value("thinking", thinking),
        value("show_thinking", show_thinking),
        value("verbosity", verbosity),
        value("logprobs", logprobs),
        value("user", user),
    ];
    lines.extend(members.into_iter().flatten());
    lines.extend(output.as_ref().map(|given| shape(&given.value)));
    lines.push(format!("{namespaces:?} {search:?}"));
    lines.extend(
        extra
            .iter()
            .map(|given| format!("extra {} {}", given.at, given.value)),
    );
    lines
}

fn value<T: std::fmt::Debug>(name: &str, given: &Option<Given<T>>) -> Option<String> {
    let given = given.as_ref()?;
    Some(format!("{name} {:?}", given.value))
}

fn part(part: &Part) -> String {
    match part {
        Part::Image(shown) => format!("image {}", media(shown)),
        Part::File(shown) => format!("file {}", media(shown)),
        Part::Audio(shown) => format!("audio {}", media(shown)),
        Part::ToolResult(result) => {
            let content: Vec<String> = result
                .content
                .iter()
                .map(|given| self::part(&given.value))
                .collect();
            let failed = result.is_error();
            format!(
                "result of {} {:?} {:?} failed {failed}: {content:?}",
                result.call_id, result.name, result.kind
            )
        }
        other => format!("{other:?}"),
    }
}

fn media(media: &Media) -> String {
    format!(
        "{:?} {:?} {:?} {:?}",
        media.source,
        media.mime,
        media.name.as_deref(),
        media.detail.as_deref()
    )
}

fn tool(tool: &Tool) -> String {
    let input = match &tool.input {
        ToolInput::Json(schema) => format!("takes {:?}", schema.as_ref().map(|raw| raw.get())),
        ToolInput::Freeform(grammar) => {
            format!(
                "takes text {:?}",
                grammar.as_ref().map(|given| &given.value)
            )
        }
    };
    format!(
        "tool {} {:?} {input} strict {:?} cache {:?}",
        tool.name,
        tool.description,
        tool.strict.as_ref().map(|given| given.value),
        tool.cache.as_ref().map(|given| &given.value),
    )
}

fn shape(shape: &OutputShape) -> String {
    match shape {
        OutputShape::JsonObject => "output any object".to_owned(),
        OutputShape::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => format!(
            "output {name:?} {:?} {schema} strict {strict:?}",
            description.as_deref()
        ),
    }
}

/// An answer.
pub fn answer(answer: &ChatResponse) -> Vec<String> {
    let ChatResponse {
        id,
        model,
        said,
        stop,
        usage,
    } = answer;
    // No counts are counts of nothing.
    let usage = usage.unwrap_or_default();
    let mut lines = vec![format!("{id:?} {model:?} {stop:?} {usage:?}")];
    lines.extend(said.iter().map(block));
    lines
}

/// A block; blanks between the arguments of a call are its model's own.
fn block(said: &Said) -> String {
    let Said {
        block,
        text,
        citations,
        logprobs,
        opaque,
    } = said;
    let text = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) if matches!(block, Block::ToolCall { .. }) => json.to_string(),
        _ => text.clone(),
    };
    format!("{block:?} {text:?} {citations:?} {logprobs:?} {opaque:?}")
}
