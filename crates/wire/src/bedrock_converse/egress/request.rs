//! The hub's request → Converse's. The model and whether it streams are the address's to say.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use serde::Serialize;
use serde_json::value::RawValue;

use super::blocks::{Block, Message, Place, Writer, called, has_calls};
use crate::anthropic_messages::egress::{
    Model, Takes, Thinking, fit, input_schema, is_strict, plan, sampling, stop_sequences,
};
use crate::canon::{ChatRequest, Losses, OutputShape, Tool, ToolChoice, ToolInput};
use crate::turns::{Conversation, Instructions, conversation};
use crate::{Format, Loss, Target};

/// What a model takes, as its name tells: Bedrock refuses members by model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Claude, and which.
    pub claude: Option<Model>,
    /// Where marks for the prompt cache may stand.
    pub marks: Marks,
    /// Whether results of tools may be errors.
    pub status: bool,
    /// Whether answers and calls keep to a schema by themselves.
    pub schemas: bool,
}

/// Where a model takes marks for the prompt cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// In the prompt and behind tools, and whether for an hour.
    Everywhere { hours: bool },
    /// In the prompt only.
    Prompt,
    /// A mark is an error.
    Nowhere,
}

/// Makers and models that keep to no schema.
const LOOSE: [&str; 8] = [
    "amazon.",
    "meta.",
    "cohere.",
    "ai21.",
    "writer.",
    "deepseek.r1",
    "mistral.mistral-7b",
    "mistral.mixtral",
];

impl Facts {
    /// The model of this name. Names that tell nothing take what most do.
    pub(crate) fn named(name: &str) -> Self {
        if name.contains("anthropic") || name.contains("claude") {
            let model = Model::named(name);
            // Since 4.5, as the refusal of `temperature` beside `top_p`.
            let is_late = model.sampling != Takes::All;
            return Self {
                claude: Some(model),
                marks: Marks::Everywhere { hours: is_late },
                status: true,
                schemas: model.schemas && is_late,
            };
        }
        let is_nova = name.contains("nova");
        Self {
            claude: None,
            marks: if is_nova {
                Marks::Prompt
            } else {
                Marks::Nowhere
            },
            status: is_nova,
            schemas: !is_nova && !LOOSE.iter().any(|loose| name.contains(loose)),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "InferenceConfig::is_empty")]
    inference_config: InferenceConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "OutputConfig::is_empty")]
    output_config: OutputConfig<'a>,
    #[serde(skip_serializing_if = "ClaudesOwn::is_empty")]
    additional_model_request_fields: ClaudesOwn,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    additional_model_response_field_paths: &'static [&'static str],
    #[serde(flatten)]
    beside: Beside<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct InferenceConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<&'a str>,
}

impl InferenceConfig<'_> {
    fn is_empty(&self) -> bool {
        self.max_tokens.is_none()
            && self.temperature.is_none()
            && self.top_p.is_none()
            && self.stop_sequences.is_empty()
    }
}

/// Members that Converse passes to Claude as they are.
#[derive(Default, Serialize)]
struct ClaudesOwn {
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
}

impl ClaudesOwn {
    fn is_empty(&self) -> bool {
        self.thinking.is_none() && self.top_k.is_none()
    }
}

/// Where Claude's stop sequence is found: Converse's own members leave it out.
const STOP_SEQUENCE: [&str; 2] = ["/stop_sequence", "/delta/stop_sequence"];

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text_format: Option<TextFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
}

impl OutputConfig<'_> {
    fn is_empty(&self) -> bool {
        self.text_format.is_none() && self.effort.is_none()
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename = "json_schema")]
struct TextFormat<'a> {
    structure: Structure<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Structure<'a> {
    JsonSchema {
        /// JSON in a string.
        schema: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    tools: Vec<ToolOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ToolOut<'a> {
    Spec(Spec<'a>),
    Mark(Block<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Spec<'a> {
    #[serde(rename_all = "camelCase")]
    ToolSpec {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        input_schema: Schema<'a>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        strict: bool,
    },
}

#[derive(Serialize)]
struct Schema<'a> {
    json: Cow<'a, RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Choice<'a> {
    Any {},
    Tool { name: &'a str },
}

/// What is not the model's: where the call is worked on, and words for the logs.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Beside<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<Tier<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    request_metadata: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Tier<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
}

/// Writes a request; names what it cannot carry.
pub(crate) fn encode(
    request: &ChatRequest,
    target: &Target<'_>,
) -> Result<(Bytes, Vec<Loss>), Failure> {
    let mut losses = Losses::default();
    let said = conversation(&request.messages, Instructions::Apart, &mut losses)?;
    let facts = Facts::named(target.model);
    let (inference_config, own, effort) = model_members(request, &facts, &said, &mut losses);
    let mut writer = Writer::new(&facts, &mut losses);
    let messages = writer.messages(&said.turns)?;
    let system = writer.system(&said.system)?;
    let has_budget = matches!(own.thinking, Some(Thinking::Enabled { .. }));
    let tool_config = Tools {
        request,
        facts: &facts,
        messages: &messages,
        has_budget,
    }
    .config(&mut losses)?;
    let asks_for_sequence = facts.claude.is_some() && !inference_config.stop_sequences.is_empty();
    let body = Body {
        tool_config,
        messages,
        system,
        inference_config,
        output_config: OutputConfig {
            text_format: text_format(request, &facts, &mut losses),
            effort,
        },
        additional_model_request_fields: own,
        additional_model_response_field_paths: if asks_for_sequence {
            &STOP_SEQUENCE
        } else {
            &[]
        },
        beside: beside(request, &mut losses),
    };
    no_place_for(request, &mut losses);
    let bytes = serde_json::to_vec(&body)
        .map_err(|_| Failure::new(Kind::Internal, "the request could not be written"))?;
    Ok((bytes.into(), losses.into_vec()))
}

/// Limits, sampling and thinking. Without a limit of the client's the model's own holds.
fn model_members<'a>(
    request: &'a ChatRequest,
    facts: &Facts,
    said: &Conversation<'_>,
    losses: &mut Losses,
) -> (InferenceConfig<'a>, ClaudesOwn, Option<&'static str>) {
    let mut own = ClaudesOwn::default();
    let mut effort = None;
    let mut max_tokens = request.max_tokens.as_ref().map(|given| given.value);
    let mut takes = Takes::All;
    if let Some(model) = facts.claude {
        let plan = plan(request, model, said, losses);
        max_tokens = max_tokens.map(|_| plan.max_tokens);
        takes = if plan.thinking.is_some() {
            Takes::Nothing
        } else {
            model.sampling
        };
        (own.thinking, effort) = (plan.thinking, plan.effort);
    } else {
        losses.unless_absent(&request.thinking);
        losses.unless_absent(&request.show_thinking);
        losses.unless_absent(&request.top_k);
    }
    let sampled = sampling(request, takes, losses);
    own.top_k = sampled.top_k.filter(|_| facts.claude.is_some());
    let inference_config = InferenceConfig {
        max_tokens,
        temperature: sampled.temperature,
        top_p: sampled.top_p,
        stop_sequences: stop_sequences(request, losses),
    };
    (inference_config, own, effort)
}

/// Members that Converse does not have. A penalty of nothing is none.
fn no_place_for(request: &ChatRequest, losses: &mut Losses) {
    losses.unless_absent(&request.seed);
    losses.unless_absent(&request.verbosity);
    losses.unless_absent(&request.logprobs);
    losses.unless_absent(&request.user);
    for penalty in [&request.presence_penalty, &request.frequency_penalty] {
        if penalty.as_ref().is_some_and(|given| given.value != 0.0) {
            losses.unless_absent(penalty);
        }
    }
}

/// Bedrock's grammar holds what Anthropic's does.
fn text_format<'a>(
    request: &'a ChatRequest,
    facts: &Facts,
    losses: &mut Losses,
) -> Option<TextFormat<'a>> {
    let output = request.output.as_ref()?;
    let format = match &output.value {
        OutputShape::JsonSchema {
            name,
            description,
            schema,
            ..
        } if facts.schemas => fit(schema).map(|fitted| {
            if fitted.is_loosened {
                losses.at(output.at.clone());
            }
            TextFormat {
                structure: Structure::JsonSchema {
                    schema: fitted.json.get().to_owned(),
                    name: name.as_deref(),
                    description: description.as_deref(),
                },
            }
        }),
        _ => None,
    };
    if format.is_none() {
        losses.at(output.at.clone());
    }
    format
}

/// What decides on the tools.
struct Tools<'a, 'b> {
    request: &'a ChatRequest,
    facts: &'b Facts,
    messages: &'b [Message<'a>],
    /// Thinking on a budget allows no force.
    has_budget: bool,
}

impl<'a> Tools<'a, '_> {
    fn wanted(&self) -> Option<&'a ToolChoice> {
        let given = self.request.tool_choice.as_ref();
        given.map(|given| &given.value)
    }

    /// Converse has no word for no tool: they are left out, unless the conversation has calls, which are not taken without.
    fn config(&self, losses: &mut Losses) -> Result<Option<ToolConfig<'a>>, Failure> {
        let has_calls = has_calls(self.messages);
        if self.wanted() == Some(&ToolChoice::None) {
            if !has_calls {
                return Ok(None);
            }
            losses.unless_absent(&self.request.tool_choice);
        }
        let mut tools = self.offered(losses)?;
        let tool_choice = self.choice(!tools.is_empty(), losses);
        if tools.is_empty() {
            tools = self.stand_ins();
        } else if let Some(parallel) = &self.request.parallel_tool_calls
            && !parallel.value
        {
            losses.at(parallel.at.clone());
        }
        Ok((!tools.is_empty()).then_some(ToolConfig { tools, tool_choice }))
    }

    fn offered(&self, losses: &mut Losses) -> Result<Vec<ToolOut<'a>>, Failure> {
        let allowed = match self.wanted() {
            Some(ToolChoice::Allowed { names, .. }) => Some(names),
            _ => None,
        };
        let mut tools = Vec::with_capacity(self.request.tools.len());
        for tool in &self.request.tools {
            if allowed.is_some_and(|names| !names.contains(&tool.name)) {
                continue;
            }
            tools.push(ToolOut::Spec(self.spec(tool, losses)?));
            if let Some(cache) = &tool.cache {
                let mut writer = Writer::new(self.facts, losses);
                let mark = writer.mark(&cache.value, &cache.at, Place::Tools);
                tools.extend(mark.map(ToolOut::Mark));
            }
        }
        Ok(tools)
    }

    fn spec(&self, tool: &'a Tool, losses: &mut Losses) -> Result<Spec<'a>, Failure> {
        let json = input_schema(tool).ok_or_else(|| {
            let name = &tool.name;
            let message =
                format!("the parameters of the tool '{name}' are not a JSON schema of an object");
            Failure::new(Kind::InvalidRequest, message).param(tool.at.clone())
        })?;
        if let ToolInput::Freeform(grammar) = &tool.input {
            losses.unless_absent(grammar);
        }
        // A schema that the grammar cannot hold would be refused; it still guides the model.
        let strict = tool.is_strict() && self.facts.schemas && is_strict(&json);
        if tool.is_strict() && !strict {
            losses.unless_absent(&tool.strict);
        }
        let description = tool.description.as_deref();
        Ok(Spec::ToolSpec {
            name: &tool.name,
            description: description.filter(|text| !text.trim().is_empty()),
            input_schema: Schema { json },
            strict,
        })
    }

    /// Tools that the conversation calls and the client no longer offers: calls are not taken without any.
    fn stand_ins(&self) -> Vec<ToolOut<'a>> {
        const NOTHING: &str = r#"{"type":"object","properties":{}}"#;
        let spec = |name| {
            let json = RawValue::from_string(NOTHING.to_owned()).ok()?;
            Some(ToolOut::Spec(Spec::ToolSpec {
                name,
                description: Some("No longer available. Do not call it."),
                input_schema: Schema {
                    json: Cow::Owned(json),
                },
                strict: false,
            }))
        };
        called(self.messages).into_iter().filter_map(spec).collect()
    }

    /// What the model does without a word need not be said: some models refuse it.
    fn choice(&self, has_tools: bool, losses: &mut Losses) -> Option<Choice<'a>> {
        let choice = match self.wanted()? {
            ToolChoice::Required | ToolChoice::Allowed { required: true, .. } => Choice::Any {},
            ToolChoice::Named(name) => Choice::Tool { name },
            ToolChoice::Auto | ToolChoice::None | ToolChoice::Allowed { .. } => return None,
        };
        if !has_tools || self.has_budget {
            // There is nothing to force, or thinking on a budget allows no force.
            losses.unless_absent(&self.request.tool_choice);
            return None;
        }
        Some(choice)
    }
}

/// OpenAI's tiers and metadata have their like; everything else that nobody modelled is lost.
fn beside<'a>(request: &'a ChatRequest, losses: &mut Losses) -> Beside<'a> {
    let mut beside = Beside::default();
    let is_openai = matches!(
        request.source,
        Some(Format::OpenaiChat | Format::OpenaiResponses)
    );
    for extra in &request.extra {
        let word = extra.value.get().trim_matches('"');
        match (extra.at.as_str(), word) {
            // What there is without a word.
            ("/service_tier", "auto" | "default") => {}
            ("/service_tier", "flex" | "priority") if is_openai => {
                beside.service_tier = Some(Tier { kind: word });
            }
            ("/metadata", _) if is_openai => match metadata(&extra.value) {
                Some(words) => beside.request_metadata = words,
                None => losses.at(&extra.at),
            },
            _ => losses.at(&extra.at),
        }
    }
    beside
}

/// Names and words that Bedrock's logs take.
fn metadata(raw: &RawValue) -> Option<BTreeMap<String, String>> {
    let words: BTreeMap<String, String> = serde_json::from_str(raw.get()).ok()?;
    let fits = |text: &String| {
        let mut letters = text.chars();
        text.len() <= 256
            && letters.all(|c| c.is_ascii_alphanumeric() || " \t\n\r:_@$#=/+,-.".contains(c))
    };
    let all = words
        .iter()
        .all(|(name, word)| !name.is_empty() && fits(name) && fits(word));
    (all && words.len() <= 16).then_some(words)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Quirks, RawObject, ingress};

    const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    const NOVA: &str = "us.amazon.nova-lite-v1:0";
    const QWEN: &str = "qwen.qwen3-32b-v1:0";

    fn sent(client: Format, model: &str, body: Value) -> Result<(Value, Vec<String>), Failure> {
        let body = RawObject::parse(Bytes::from(body.to_string())).expect("an object");
        let ingress = ingress(client).expect("clients speak it");
        let request = ingress.decode_request(&body)?;
        let quirks = Quirks::default();
        let target = Target {
            model,
            quirks: &quirks,
        };
        let (sent, losses) = encode(&request, &target)?;
        let sent = serde_json::from_slice(&sent).expect("JSON");
        Ok((sent, losses.into_iter().map(|loss| loss.0).collect()))
    }

    /// What an OpenAI client's request becomes, and what is lost.
    #[track_caller]
    fn chat(model: &str, body: Value, expected: Value, lost: &[&str]) {
        let (sent, losses) = sent(Format::OpenaiChat, model, body).expect("a request");
        assert_eq!(sent, expected);
        assert_eq!(losses, lost);
    }

    /// The same for Anthropic's clients, as far as one member of it.
    #[track_caller]
    fn messages(model: &str, body: Value, member: &str, expected: Value, lost: &[&str]) {
        let (sent, losses) = sent(Format::AnthropicMessages, model, body).expect("a request");
        assert_eq!(sent.get(member).unwrap_or(&Value::Null), &expected);
        assert_eq!(losses, lost);
    }

    fn user(text: &str) -> Value {
        json!([{"role": "user", "content": text}])
    }

    #[test]
    fn a_request_is_written() {
        chat(
            CLAUDE,
            json!({
                "model": "m", "stream": true, "max_tokens": 9, "temperature": 1.5, "stop": ["X", " "],
                "messages": [
                    {"role": "system", "content": "be brief"},
                    {"role": "user", "content": "hi"},
                    {"role": "user", "content": "you"},
                ],
                "seed": 1, "user": "u", "presence_penalty": 0, "metadata": {"a": "b"},
                "service_tier": "flex", "unheard_of": 1,
            }),
            json!({
                "messages": [{"role": "user", "content": [{"text": "hi"}, {"text": "you"}]}],
                "system": [{"text": "be brief"}],
                "inferenceConfig": {"maxTokens": 9, "temperature": 1.0, "stopSequences": ["X"]},
                "additionalModelResponseFieldPaths": ["/stop_sequence", "/delta/stop_sequence"],
                "serviceTier": {"type": "flex"},
                "requestMetadata": {"a": "b"},
            }),
            &["/temperature", "/stop", "/unheard_of", "/seed", "/user"],
        );
    }

    #[test]
    fn defaults_need_not_be_said() {
        chat(
            NOVA,
            json!({"model": "m", "messages": user("hi"), "service_tier": "auto", "tool_choice": "auto", "parallel_tool_calls": false}),
            json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
            &[],
        );
    }

    #[test]
    fn metadata_that_logs_do_not_take_is_lost() {
        chat(
            NOVA,
            json!({"model": "m", "messages": user("hi"), "metadata": {"a": "{}"}}),
            json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
            &["/metadata"],
        );
    }

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "description": " ", "parameters": {"properties": {}}}})
    }

    fn spec(name: &str) -> Value {
        json!({"toolSpec": {"name": name, "inputSchema": {"json": {"properties": {}, "type": "object"}}}})
    }

    fn history() -> Value {
        json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "done"},
        ])
    }

    fn history_sent() -> Value {
        json!([
            {"role": "user", "content": [{"text": "hi"}]},
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": 1}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "done"}]}}]},
        ])
    }

    #[test]
    fn tools_are_offered_and_forced() {
        for (choice, sent) in [
            (json!("required"), json!({"any": {}})),
            (
                json!({"type": "function", "function": {"name": "f"}}),
                json!({"tool": {"name": "f"}}),
            ),
        ] {
            chat(
                CLAUDE,
                json!({"model": "m", "messages": history(), "tools": [tool("f"), tool("g")], "tool_choice": choice, "parallel_tool_calls": false}),
                json!({
                    "messages": history_sent(),
                    "toolConfig": {"tools": [spec("f"), spec("g")], "toolChoice": sent},
                }),
                &["/parallel_tool_calls"],
            );
        }
    }

    #[test]
    fn no_tool_is_said_by_offering_none() {
        chat(
            CLAUDE,
            json!({"model": "m", "messages": user("hi"), "tools": [tool("f")], "tool_choice": "none"}),
            json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
            &[],
        );
        chat(
            CLAUDE,
            json!({"model": "m", "messages": history(), "tools": [tool("f")], "tool_choice": "none"}),
            json!({"messages": history_sent(), "toolConfig": {"tools": [spec("f")]}}),
            &["/tool_choice"],
        );
    }

    #[test]
    fn calls_are_never_sent_without_tools() {
        let (sent, lost) = sent(
            Format::OpenaiChat,
            CLAUDE,
            json!({"model": "m", "messages": history()}),
        )
        .expect("a request");
        assert_eq!(sent["toolConfig"]["tools"][0]["toolSpec"]["name"], "f");
        assert_eq!(lost, [""; 0]);
    }

    fn schema() -> Value {
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"a": {"type": "number"}}}}})
    }

    #[test]
    fn answers_follow_a_schema_where_the_model_does() {
        let body = || json!({"model": "m", "messages": user("hi"), "response_format": schema()});
        for model in [CLAUDE, QWEN] {
            chat(
                model,
                body(),
                json!({
                    "messages": [{"role": "user", "content": [{"text": "hi"}]}],
                    "outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {
                        "schema": r#"{"type":"object","properties":{"a":{"type":"number"}},"additionalProperties":false}"#,
                        "name": "n",
                    }}}},
                }),
                &[],
            );
        }
        for model in [NOVA, "anthropic.claude-3-haiku-20240307-v1:0"] {
            chat(
                model,
                body(),
                json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
                &["/response_format"],
            );
        }
    }

    #[test]
    fn claude_thinks_as_it_does_at_home() {
        let thinking = json!({"type": "enabled", "budget_tokens": 2000});
        let body = |top_k: bool| {
            let mut body = json!({"model": "m", "max_tokens": 4000, "messages": user("hi"), "thinking": thinking});
            if top_k {
                body["top_k"] = json!(5);
            }
            body
        };
        let fields = "additionalModelRequestFields";
        messages(
            CLAUDE,
            body(false),
            fields,
            json!({"thinking": thinking}),
            &[],
        );
        let adaptive = json!({"thinking": {"type": "adaptive", "display": "summarized"}});
        messages(
            "global.anthropic.claude-opus-4-7",
            body(true),
            fields,
            adaptive,
            &["/top_k"],
        );
        let effort = json!({"effort": "medium"});
        messages(
            "global.anthropic.claude-opus-4-7",
            body(false),
            "outputConfig",
            effort,
            &[],
        );
        messages(
            NOVA,
            body(true),
            fields,
            Value::Null,
            &["/thinking/budget_tokens", "/thinking", "/top_k"],
        );
        let plain = json!({"model": "m", "max_tokens": 4000, "messages": user("hi"), "top_k": 5});
        messages(CLAUDE, plain, fields, json!({"top_k": 5}), &[]);
    }

    fn marked() -> Value {
        let hour = json!({"type": "ephemeral", "ttl": "1h"});
        let five = json!({"type": "ephemeral", "ttl": "5m"});
        json!({
            "model": "m", "max_tokens": 9,
            "system": [{"type": "text", "text": "s", "cache_control": hour}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "u", "cache_control": five}]}],
            "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": five}],
        })
    }

    #[test]
    fn marks_stand_where_the_model_takes_them() {
        let mark = json!({"cachePoint": {"type": "default"}});
        let hour = json!({"cachePoint": {"type": "default", "ttl": "1h"}});
        let spec = json!({"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}});
        let (sent_claude, lost) =
            sent(Format::AnthropicMessages, CLAUDE, marked()).expect("a request");
        assert_eq!(sent_claude["system"], json!([{"text": "s"}, hour]));
        assert_eq!(
            sent_claude["messages"][0]["content"],
            json!([{"text": "u"}, mark])
        );
        assert_eq!(sent_claude["toolConfig"]["tools"], json!([spec, mark]));
        assert_eq!(lost, [""; 0]);
        let tools = "/tools/0/cache_control";
        messages(
            NOVA,
            marked(),
            "system",
            json!([{"text": "s"}, mark]),
            &["/system/0/cache_control/ttl", tools],
        );
        messages(
            QWEN,
            marked(),
            "toolConfig",
            json!({"tools": [spec]}),
            &[
                "/messages/0/content/0/cache_control",
                "/system/0/cache_control",
                tools,
            ],
        );
    }

    #[test]
    fn claudes_thoughts_go_back_to_claude_only() {
        let body = || {
            json!({
                "model": "m", "max_tokens": 9,
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "sig"},
                        {"type": "redacted_thinking", "data": "cmVk"},
                        {"type": "text", "text": "b"},
                    ]},
                    {"role": "user", "content": "c"},
                ],
            })
        };
        let asked = json!({"role": "user", "content": [{"text": "a"}]});
        let next = json!({"role": "user", "content": [{"text": "c"}]});
        let thoughts = json!({"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "sig"}}},
            {"reasoningContent": {"redactedContent": "cmVk"}},
            {"text": "b"},
        ]});
        messages(
            CLAUDE,
            body(),
            "messages",
            json!([asked, thoughts, next]),
            &[],
        );
        let said = json!({"role": "assistant", "content": [{"text": "b"}]});
        let lost = ["/messages/1/content/0", "/messages/1/content/1"];
        messages(NOVA, body(), "messages", json!([asked, said, next]), &lost);
    }

    #[test]
    fn media_are_written_by_their_types() {
        let source =
            |mime: &str, data: &str| json!({"type": "base64", "media_type": mime, "data": data});
        let url = |url: &str| json!({"type": "image", "source": {"type": "url", "url": url}});
        let document =
            |source: Value| json!({"type": "document", "title": "a_b.pdf", "source": source});
        let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [
            {"type": "image", "source": source("image/png", "iVBO")},
            url("s3://bucket/a.png"),
            url("https://x/a.png"),
            document(source("application/pdf", "JVBE")),
            document(json!({"type": "text", "media_type": "text/plain", "data": "hello"})),
        ]}]});
        let expected = json!([{"role": "user", "content": [
            {"image": {"format": "png", "source": {"bytes": "iVBO"}}},
            {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/a.png"}}}},
            {"document": {"format": "pdf", "name": "a b", "source": {"bytes": "JVBE"}}},
            {"document": {"format": "txt", "name": "a b 2", "source": {"bytes": "aGVsbG8="}}},
            {"text": "See the attached document."},
        ]}]);
        messages(
            CLAUDE,
            body,
            "messages",
            expected,
            &["/messages/0/content/2"],
        );
    }

    #[test]
    fn results_of_tools_are_never_empty() {
        let body = || {
            json!({
                "model": "m", "max_tokens": 9,
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": [
                        {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
                        {"type": "tool_use", "id": "c2", "name": "f", "input": {}},
                    ]},
                    {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": "c1", "content": "", "is_error": true},
                        {"type": "tool_result", "tool_use_id": "c2", "content": [
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
                        ]},
                    ]},
                ],
                "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            })
        };
        let results = |model: &str| {
            let (sent, lost) = sent(Format::AnthropicMessages, model, body()).expect("a request");
            (sent["messages"][2]["content"].clone(), lost)
        };
        let (claude, lost) = results(CLAUDE);
        let empty = json!([{"text": "The tool gave no output."}]);
        let picture = json!([{"image": {"format": "png", "source": {"bytes": "iVBO"}}}]);
        assert_eq!(
            claude,
            json!([
                {"toolResult": {"toolUseId": "c1", "content": empty, "status": "error"}},
                {"toolResult": {"toolUseId": "c2", "content": picture}},
            ])
        );
        assert_eq!(lost, [""; 0]);
        let (qwen, lost) = results(QWEN);
        assert_eq!(qwen[0]["toolResult"].get("status"), None);
        assert_eq!(lost, ["/messages/2/content/0/is_error"]);
    }

    #[test]
    fn the_user_begins() {
        chat(
            NOVA,
            json!({"model": "m", "messages": [
                {"role": "assistant", "content": "how can I help? "},
                {"role": "user", "content": "hi"},
            ]}),
            json!({"messages": [
                {"role": "user", "content": [{"text": "(The conversation begins.)"}]},
                {"role": "assistant", "content": [{"text": "how can I help? "}]},
                {"role": "user", "content": [{"text": "hi"}]},
            ]}),
            &["/messages/0/content"],
        );
    }

    #[test]
    fn a_turn_of_which_nothing_is_left_fails() {
        let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}},
        ]}]});
        let failure = sent(Format::AnthropicMessages, CLAUDE, body).expect_err("nothing is left");
        assert_eq!(failure.kind, Kind::Untranslatable);
    }
}
