//! What a target has no word for, said in words it has, and put right again in the answer: freeform tools as functions, a schema
//! as a tool that must be called, names of tools that are too long.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::anthropic_messages::{can_keep_to, keeps_to_schemas};
use crate::canon::{
    Block, CallKind, ChatEvent, ChatRequest, ChatResponse, Given, Grammar, Losses, OutputShape,
    Part, Stop, Tool, ToolChoice, ToolInput,
};
use crate::{Format, Loss, bedrock_converse};

/// The longest name of a tool that everyone takes.
const LONGEST_NAME: usize = 64;

/// The schema of a freeform tool's function.
const INPUT_SCHEMA: &str = r#"{"type":"object","properties":{"input":{"type":"string","description":"The whole input, as plain text."}},"required":["input"],"additionalProperties":false}"#;

/// The schema of any JSON object.
const ANY_OBJECT: &str = r#"{"type":"object","additionalProperties":true}"#;

/// How a request was bent for its target.
#[derive(Clone, Debug, Default)]
pub struct Bridge {
    /// Freeform tools that went as functions, by the names that were sent.
    freeform: Vec<String>,
    /// The tool whose arguments are the answer.
    answer: Option<String>,
    /// Names that were sent, and the client's own.
    names: HashMap<String, String>,
}

/// A freeform input inside a function's arguments.
#[derive(Deserialize, Serialize)]
struct Wrapped<'a> {
    #[serde(borrow)]
    input: Cow<'a, str>,
}

impl Bridge {
    /// Bends a request for a target; names what is lost by that.
    pub fn build(request: &mut ChatRequest, format: Format, model: &str) -> (Self, Vec<Loss>) {
        let mut bridge = Self::default();
        let mut losses = Losses::default();
        choose(request, &mut losses);
        bridge.rename(request);
        if format != Format::OpenaiResponses {
            bridge.wrap_freeform(request, &mut losses);
        }
        match format {
            Format::AnthropicMessages => {
                bridge.answer_by_tool(request, keeps_to_schemas(model));
            }
            Format::BedrockConverse if bedrock_converse::can_be_forced(model) => {
                bridge.answer_by_tool(request, bedrock_converse::keeps_to_schemas(model));
            }
            _ => {}
        }
        (bridge, losses.into_vec())
    }

    /// Nothing was bent: the answer needs nothing put right.
    pub fn is_straight(&self) -> bool {
        self.freeform.is_empty() && self.answer.is_none() && self.names.is_empty()
    }

    /// Puts a whole answer right.
    pub fn put_right(&self, response: ChatResponse) -> ChatResponse {
        if self.is_straight() {
            return response;
        }
        let mut events = response.events();
        Return::new(self.clone()).put_right(&mut events);
        // No event of a whole answer reports a failure.
        ChatResponse::gather(events).unwrap_or_else(|_| ChatResponse {
            id: None,
            model: None,
            said: vec![],
            stop: Stop::End,
            usage: None,
        })
    }

    fn rename(&mut self, request: &mut ChatRequest) {
        let names = request.tools.iter().map(|tool| &tool.name);
        let names: HashMap<String, String> = names
            .filter(|name| !fits(name))
            .map(|name| (name.clone(), fitting(name)))
            .collect();
        if names.is_empty() {
            return;
        }
        let change = |name: &mut String| {
            if let Some(sent) = names.get(name) {
                name.clone_from(sent);
            }
        };
        request
            .tools
            .iter_mut()
            .for_each(|tool| change(&mut tool.name));
        match request.tool_choice.as_mut().map(|given| &mut given.value) {
            Some(ToolChoice::Named(name)) => change(name),
            Some(ToolChoice::Allowed { names, .. }) => names.iter_mut().for_each(change),
            _ => {}
        }
        for part in parts(request) {
            match part {
                Part::ToolCall(call) => change(&mut call.name),
                Part::ToolResult(result) => result.name.iter_mut().for_each(change),
                _ => {}
            }
        }
        self.names = names.into_iter().map(|(own, sent)| (sent, own)).collect();
    }

    fn wrap_freeform(&mut self, request: &mut ChatRequest, losses: &mut Losses) {
        for tool in &mut request.tools {
            let ToolInput::Freeform(grammar) = &tool.input else {
                continue;
            };
            self.freeform.push(tool.name.clone());
            losses.unless_absent(grammar);
            tool.description = Some(described(tool, grammar.as_ref()));
            tool.input = ToolInput::Json(schema(INPUT_SCHEMA));
        }
        for part in parts(request) {
            match part {
                Part::ToolCall(call) if call.kind == CallKind::Custom => {
                    let wrapped = Wrapped {
                        input: Cow::Borrowed(&call.arguments),
                    };
                    call.arguments = serde_json::to_string(&wrapped).unwrap_or_default();
                    call.kind = CallKind::Function;
                }
                Part::ToolResult(result) => result.kind = CallKind::Function,
                _ => {}
            }
        }
    }

    /// Where the model does not keep to a schema by itself, the answer is the arguments of a tool that it has to call.
    fn answer_by_tool(&mut self, request: &mut ChatRequest, keeps_to_schemas: bool) {
        let Some(given) = &request.output else { return };
        let wants = request.tool_choice.as_ref().map(|given| &given.value);
        if matches!(
            wants,
            Some(ToolChoice::Named(_) | ToolChoice::Allowed { .. })
        ) {
            // The client forces a tool of its own: the answer is not asked for yet.
            return;
        }
        let (name, description, parameters) = match &given.value {
            OutputShape::JsonObject => ("answer", None, schema(ANY_OBJECT)),
            OutputShape::JsonSchema { schema, .. } if keeps_to_schemas && can_keep_to(schema) => {
                return;
            }
            OutputShape::JsonSchema { schema, .. } if !is_of_object(schema) => return,
            OutputShape::JsonSchema {
                name,
                description,
                schema,
                ..
            } => (
                name.as_deref().unwrap_or("answer"),
                description.as_ref().map(|given| given.value.clone()),
                Some(schema.clone()),
            ),
        };
        let is_taken = |name: &str| request.tools.iter().any(|tool| tool.name == name);
        let name = if fits(name) && !is_taken(name) {
            name.to_owned()
        } else {
            fitting(name)
        };
        let at = given.at.clone();
        let choice = if request.tools.is_empty() || wants == Some(&ToolChoice::None) {
            ToolChoice::Named(name.clone())
        } else {
            ToolChoice::Required
        };
        request.tools.push(Tool {
            name: name.clone(),
            description: Some(description.unwrap_or_else(|| {
                "Give the final answer by calling this tool, once, with the answer as its input.".to_owned()
            })),
            input: ToolInput::Json(parameters),
            strict: None,
            cache: None,
            at: at.clone(),
        });
        request.tool_choice = Some(Given::new(choice, at));
        request.output = None;
        self.answer = Some(name);
    }
}

/// A choice of tools that are not there has none left: the vendor's own are lost.
fn choose(request: &mut ChatRequest, losses: &mut Losses) {
    let Some(given) = &mut request.tool_choice else {
        return;
    };
    // Both lists may be long.
    let names = request.tools.iter().map(|tool| tool.name.as_str());
    let tools: HashSet<&str> = names.collect();
    let is_there = |name: &String| tools.contains(name.as_str());
    let is_left = match &mut given.value {
        ToolChoice::Named(name) if !is_there(name) => false,
        ToolChoice::Allowed { names, .. } if !names.iter().all(is_there) => {
            names.retain(is_there);
            losses.at(&given.at);
            !names.is_empty()
        }
        _ => return,
    };
    if !is_left {
        losses.at(&given.at);
        request.tool_choice = None;
    }
}

fn described(tool: &Tool, grammar: Option<&Given<Grammar>>) -> String {
    let mut text = tool.description.clone().unwrap_or_default();
    if !text.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str("Put the whole input, as plain text, into `input`.");
    if let Some(grammar) = grammar {
        text.push_str(" It has to follow this grammar:\n");
        text.push_str(&grammar.value.definition);
    }
    text
}

fn schema(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).ok()
}

fn is_of_object(schema: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Root<'a> {
        #[serde(rename = "type", borrow)]
        kind: Option<Cow<'a, str>>,
    }
    let root: Result<Root<'_>, _> = serde_json::from_str(schema.get());
    root.is_ok_and(|root| root.kind.as_deref() == Some("object"))
}

fn parts(request: &mut ChatRequest) -> impl Iterator<Item = &mut Part> {
    let messages = request.messages.iter_mut();
    messages.flat_map(|message| message.parts.iter_mut().map(|given| &mut given.value))
}

fn fits(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(is_word)
}

/// A name that everyone takes, and that no other name becomes.
fn fitting(name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let mark = format!("_{:08x}", hasher.finish() & 0xffff_ffff);
    let word = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let kept: String = name
        .chars()
        .map(word)
        .take(LONGEST_NAME - mark.len())
        .collect();
    kept + &mark
}

/// Puts the events of an answer right, as they come.
#[derive(Debug, Default)]
pub struct Return {
    bridge: Bridge,
    /// Freeform calls that are being gathered: their text can be told once it is whole.
    gathering: Vec<(usize, String)>,
    /// The block that is the answer.
    answers: Vec<usize>,
    /// Other calls than the answer have been made.
    has_calls: bool,
    /// Words, held from their beginning until it is known whether the answer comes after them.
    held: Vec<ChatEvent>,
    /// Blocks of words beside the answer.
    beside: Vec<usize>,
}

impl Return {
    /// Over this bridge.
    pub fn new(bridge: Bridge) -> Self {
        Self {
            bridge,
            ..Self::default()
        }
    }

    /// Puts events right.
    pub fn put_right(&mut self, events: &mut Vec<ChatEvent>) {
        if self.bridge.is_straight() {
            return;
        }
        let taken = std::mem::take(events);
        for event in taken {
            if let Some(event) = self.words(event, events) {
                self.event(event, events);
            }
        }
    }

    /// The client reads the whole text as the answer: words beside it are told as thoughts. `None` while they wait.
    fn words(&mut self, event: ChatEvent, out: &mut Vec<ChatEvent>) -> Option<ChatEvent> {
        let Some(answer) = &self.bridge.answer else {
            return Some(event);
        };
        if !self.answers.is_empty() {
            return self.thought(event);
        }
        let (is_call, is_answer) = match &event {
            ChatEvent::Open {
                block: Block::ToolCall { name, .. },
                ..
            } => (true, name == answer),
            _ => (false, false),
        };
        let is_end = matches!(event, ChatEvent::Stop(_) | ChatEvent::Failed(_));
        let begins = matches!(&event, ChatEvent::Open { block, .. } if *block == Block::Text);
        if !is_call && !is_end && (begins || !self.held.is_empty()) {
            self.held.push(event);
            return None;
        }
        for held in std::mem::take(&mut self.held) {
            let held = if is_answer {
                self.thought(held)
            } else {
                Some(held)
            };
            held.into_iter().for_each(|held| self.event(held, out));
        }
        Some(event)
    }

    fn thought(&mut self, event: ChatEvent) -> Option<ChatEvent> {
        match event {
            ChatEvent::Open {
                index,
                block: Block::Text,
            } => {
                self.beside.push(index);
                let block = Block::Reasoning;
                Some(ChatEvent::Open { index, block })
            }
            ChatEvent::Cite { index, .. } | ChatEvent::Logprobs { index, .. }
                if self.beside.contains(&index) =>
            {
                None
            }
            other => Some(other),
        }
    }

    fn event(&mut self, event: ChatEvent, out: &mut Vec<ChatEvent>) {
        match event {
            ChatEvent::Open {
                index,
                block: Block::ToolCall { id, name, .. },
            } => {
                let block = self.call(index, id, name);
                out.push(ChatEvent::Open { index, block });
            }
            ChatEvent::Delta { index, text } => {
                let gathering = self.gathering.iter_mut().find(|(known, _)| *known == index);
                match gathering {
                    Some((_, known)) => known.push_str(&text),
                    None => out.push(ChatEvent::Delta { index, text }),
                }
            }
            ChatEvent::Close { index } => {
                let known = self.gathering.iter().position(|(known, _)| *known == index);
                if let Some(at) = known {
                    let text = unwrapped(self.gathering.remove(at).1);
                    if !text.is_empty() {
                        out.push(ChatEvent::Delta { index, text });
                    }
                }
                out.push(ChatEvent::Close { index });
            }
            ChatEvent::Seal { index, .. } if self.answers.contains(&index) => {}
            ChatEvent::Stop(Stop::ToolUse) if !self.answers.is_empty() && !self.has_calls => {
                out.push(ChatEvent::Stop(Stop::End));
            }
            other => out.push(other),
        }
    }

    fn call(&mut self, index: usize, id: String, sent: String) -> Block {
        if self.bridge.answer.as_ref() == Some(&sent) {
            self.answers.push(index);
            // Told once: two texts would be read as one, and two JSON values in a row are none.
            let is_first = self.answers.len() == 1;
            return if is_first {
                Block::Text
            } else {
                Block::Reasoning
            };
        }
        self.has_calls = true;
        let is_freeform = self.bridge.freeform.contains(&sent);
        if is_freeform {
            self.gathering.push((index, String::new()));
        }
        let own = self.bridge.names.get(&sent).cloned();
        Block::ToolCall {
            id,
            name: own.unwrap_or(sent),
            kind: if is_freeform {
                CallKind::Custom
            } else {
                CallKind::Function
            },
        }
    }
}

/// The input inside a function's arguments; whatever else the model wrote is the input itself.
fn unwrapped(arguments: String) -> String {
    if let Ok(wrapped) = serde_json::from_str::<Wrapped<'_>>(&arguments) {
        return wrapped.input.into_owned();
    }
    serde_json::from_str::<String>(&arguments).unwrap_or(arguments)
}
