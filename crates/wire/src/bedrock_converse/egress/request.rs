//! The hub's request → Converse's. The model and whether it streams are the address's to say.

use std::collections::BTreeMap;

use bytes::Bytes;
use polygate_core::{Failure, Kind};
use serde::Serialize;
use serde_json::value::RawValue;

use super::blocks::{Block, Message, Writer, ask_to_go_on};
use super::model::Facts;
use super::tools::{ToolConfig, Tools};
use crate::anthropic_messages::egress::{Takes, Thinking, fit, plan, sampling, stop_sequences};
use crate::canon::{ChatRequest, Losses, OutputShape};
use crate::turns::{Conversation, Instructions, conversation};
use crate::{Format, Loss, Target};

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
    let mut losses = Losses::of(request);
    let said = conversation(&request.messages, Instructions::Apart, &mut losses)?;
    let facts = Facts::named(target.model);
    let (inference_config, own, effort) = model_members(request, &facts, &said, &mut losses);
    let mut writer = Writer::new(&facts, &mut losses);
    let mut messages = writer.messages(&said.turns)?;
    if facts.claude.is_some_and(|claude| !claude.prefill) || own.thinking.is_some() {
        ask_to_go_on(&mut messages);
    }
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
                    description: description.as_ref().map(|given| given.value.as_str()),
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
mod tests;
