//! Where texts stand in the events of a stream, format by format: which text goes on in an event, and which ones it ends.

use std::borrow::Cow;

use polygate_wire::Format;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::channel::Kind;

/// Which text of an answer: of which choice, item or block, of which part of it, and what of that.
pub type Key = (u64, u64, Cow<'static, str>);

/// What an event says of the texts of its stream.
#[derive(Debug, Default)]
pub struct Event<'a> {
    /// Texts that go on in it.
    pub deltas: Vec<Delta<'a>>,
    /// Texts that end with it.
    pub ends: Ends,
}

/// A text goes on.
#[derive(Debug)]
pub struct Delta<'a> {
    /// Which.
    pub key: Key,
    /// What it is.
    pub kind: Kind,
    /// The string of the event.
    pub string: &'a RawValue,
}

/// Texts that end.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Ends {
    /// None, but where another text of the same choice, item or block goes on.
    #[default]
    None,
    /// Those of these choices, items or blocks.
    Of(Vec<u64>),
    /// All.
    All,
}

/// Whether these texts are of one choice, item or block, and where one of them goes on the other is over. Of one family, before the
/// slash, are texts that are said side by side.
pub fn excludes(one: &Key, other: &Key) -> bool {
    one.0 == other.0 && family(one) != family(other)
}

fn family(key: &Key) -> &str {
    key.2.split('/').next().unwrap_or_default()
}

/// A number, or none where it is none: who counts nothing says `null`.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let raw = <&RawValue>::deserialize(from)?;
    Ok(raw.get().parse().unwrap_or_default())
}

/// Reads an event.
pub fn read(format: Format, data: &str) -> Event<'_> {
    // What is of another shape has texts of its own at most.
    match format {
        Format::OpenaiChat => serde_json::from_str(data).map(chat).unwrap_or_default(),
        Format::OpenaiResponses => serde_json::from_str(data)
            .map(responses)
            .unwrap_or_default(),
        Format::AnthropicMessages => serde_json::from_str(data).map(messages).unwrap_or_default(),
        Format::Gemini => serde_json::from_str(data).map(gemini).unwrap_or_default(),
        Format::BedrockConverse => Event::default(),
    }
}

/// What stands there, where it is a string with something in it.
fn said(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get().starts_with('"') && value.get() != "\"\"")
}

impl<'a> Event<'a> {
    fn add(&mut self, key: Key, kind: Kind, value: Option<&'a RawValue>) {
        let delta = said(value).map(|string| Delta { key, kind, string });
        self.deltas.extend(delta);
    }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default, deserialize_with = "number")]
    index: u64,
    #[serde(borrow, default)]
    delta: Option<ChatDelta<'a>>,
    /// Of a completion.
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ChatDelta<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reasoning: Option<&'a RawValue>,
    /// The same thoughts once more, as some say them.
    #[serde(borrow, default)]
    reasoning_details: Option<Vec<Detail<'a>>>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow, default)]
    audio: Option<Audio<'a>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ChatCall<'a>>>,
    #[serde(borrow, default)]
    function_call: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Detail<'a> {
    #[serde(default, deserialize_with = "number")]
    index: u64,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    summary: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Audio<'a> {
    #[serde(borrow, default)]
    transcript: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ChatCall<'a> {
    #[serde(default, deserialize_with = "number")]
    index: u64,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
    #[serde(borrow, default)]
    custom: Option<Custom<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Custom<'a> {
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

fn chat(chunk: Chunk<'_>) -> Event<'_> {
    let (mut event, mut ended) = (Event::default(), Vec::new());
    for choice in chunk.choices {
        let index = choice.index;
        let key = |what: &'static str| (index, 0, Cow::Borrowed(what));
        event.add(key("text"), Kind::Plain, choice.text);
        if let Some(delta) = choice.delta {
            event.add(key("reasoning"), Kind::Plain, delta.reasoning);
            let content = delta.reasoning_content;
            event.add(key("reasoning/content"), Kind::Plain, content);
            for detail in delta.reasoning_details.into_iter().flatten() {
                let key = |what: &'static str| (index, detail.index, Cow::Borrowed(what));
                event.add(key("reasoning/text"), Kind::Plain, detail.text);
                event.add(key("reasoning/summary"), Kind::Plain, detail.summary);
            }
            event.add(key("content"), Kind::Plain, delta.content);
            event.add(key("refusal"), Kind::Plain, delta.refusal);
            let transcript = delta.audio.and_then(|audio| audio.transcript);
            event.add(key("audio"), Kind::Plain, transcript);
            let function = delta.function_call.and_then(|call| call.arguments);
            event.add(key("function"), Kind::Json, function);
            for call in delta.tool_calls.into_iter().flatten() {
                let key = |what: &'static str| (index, call.index, Cow::Borrowed(what));
                let arguments = call.function.and_then(|function| function.arguments);
                event.add(key("arguments"), Kind::Json, arguments);
                let input = call.custom.and_then(|custom| custom.input);
                event.add(key("input"), Kind::Plain, input);
            }
        }
        let is_over = choice.finish_reason.is_some_and(|why| why.get() != "null");
        ended.extend(is_over.then_some(index));
    }
    if !ended.is_empty() {
        event.ends = Ends::Of(ended);
    }
    event
}

#[derive(Deserialize)]
struct ResponsesEvent<'a> {
    #[serde(rename = "type", borrow)]
    name: Cow<'a, str>,
    #[serde(default, deserialize_with = "number")]
    output_index: u64,
    #[serde(default, deserialize_with = "number")]
    content_index: u64,
    #[serde(default, deserialize_with = "number")]
    summary_index: u64,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
}

fn responses(read: ResponsesEvent<'_>) -> Event<'_> {
    let mut event = Event::default();
    let name = &*read.name;
    if let Some(what) = name.strip_suffix(".delta") {
        // Sound is in none of the words that guards know.
        if !what.ends_with("audio") {
            let is_json = what.contains("call_arguments");
            let kind = if is_json { Kind::Json } else { Kind::Plain };
            let part = read.content_index.max(read.summary_index);
            let key = (read.output_index, part, Cow::Owned(what.to_owned()));
            event.add(key, kind, read.delta);
        }
    } else if name.ends_with(".done") {
        event.ends = Ends::Of(vec![read.output_index]);
    } else if matches!(
        name,
        "response.completed" | "response.incomplete" | "response.failed" | "error"
    ) {
        event.ends = Ends::All;
    }
    event
}

#[derive(Deserialize)]
struct MessagesEvent<'a> {
    #[serde(rename = "type", borrow)]
    name: Cow<'a, str>,
    #[serde(default, deserialize_with = "number")]
    index: u64,
    #[serde(borrow, default)]
    delta: Option<BlockDelta<'a>>,
    /// What a block begins with.
    #[serde(borrow, default)]
    content_block: Option<BlockDelta<'a>>,
}

#[derive(Deserialize)]
struct BlockDelta<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow, default)]
    partial_json: Option<&'a RawValue>,
}

fn messages(read: MessagesEvent<'_>) -> Event<'_> {
    let mut event = Event::default();
    match &*read.name {
        "content_block_start" | "content_block_delta" => {
            let key = |what: &'static str| (read.index, 0, Cow::Borrowed(what));
            if let Some(delta) = read.content_block.or(read.delta) {
                event.add(key("text"), Kind::Plain, delta.text);
                event.add(key("thinking"), Kind::Plain, delta.thinking);
                event.add(key("partial_json"), Kind::Json, delta.partial_json);
            }
        }
        "content_block_stop" => event.ends = Ends::Of(vec![read.index]),
        "message_delta" | "message_stop" | "error" => event.ends = Ends::All,
        _ => {}
    }
    event
}

#[derive(Deserialize)]
struct GeminiChunk<'a> {
    #[serde(borrow, default)]
    candidates: Vec<GeminiCandidate<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GeminiCandidate<'a> {
    #[serde(default, deserialize_with = "number")]
    index: u64,
    #[serde(borrow, default)]
    content: Option<GeminiContent<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct GeminiContent<'a> {
    #[serde(borrow, default)]
    parts: Vec<GeminiPart<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GeminiPart<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(default)]
    thought: Option<bool>,
    #[serde(borrow, default)]
    function_call: Option<GeminiCall<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GeminiCall<'a> {
    /// What a tool is called with, as it comes.
    #[serde(borrow, default)]
    partial_args: Option<Vec<PartialArg<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartialArg<'a> {
    #[serde(borrow, default)]
    json_path: Cow<'a, str>,
    #[serde(borrow, default)]
    string_value: Option<&'a RawValue>,
}

fn gemini(chunk: GeminiChunk<'_>) -> Event<'_> {
    let (mut event, mut ended) = (Event::default(), Vec::new());
    for candidate in chunk.candidates {
        for part in candidate
            .content
            .into_iter()
            .flat_map(|content| content.parts)
        {
            let is_thought = part.thought.unwrap_or_default();
            let what = if is_thought { "thought" } else { "text" };
            let key = |what| (candidate.index, 0, what);
            event.add(key(Cow::Borrowed(what)), Kind::Plain, part.text);
            let call = part.function_call.and_then(|call| call.partial_args);
            for argument in call.into_iter().flatten() {
                let what = Cow::Owned(argument.json_path.into_owned());
                event.add(key(what), Kind::Plain, argument.string_value);
            }
        }
        ended.extend(candidate.finish_reason.is_some().then_some(candidate.index));
    }
    if !ended.is_empty() {
        event.ends = Ends::Of(ended);
    }
    event
}
