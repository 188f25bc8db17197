//! Tools as Converse offers and forces them.

use std::borrow::Cow;

use polygate_core::{Failure, Kind};
use serde::Serialize;
use serde_json::value::RawValue;

use super::blocks::{Block, Message, Place, Writer, called, has_calls};
use super::model::Facts;
use crate::anthropic_messages::egress::{input_schema, is_strict};
use crate::canon::{ChatRequest, Losses, Tool, ToolChoice, ToolInput};

/// What decides on the tools.
pub(crate) struct Tools<'a, 'b> {
    pub request: &'a ChatRequest,
    pub facts: &'b Facts,
    pub messages: &'b [Message<'a>],
    /// Thinking on a budget allows no force.
    pub has_budget: bool,
}

impl<'a> Tools<'a, '_> {
    fn wanted(&self) -> Option<&'a ToolChoice> {
        let given = self.request.tool_choice.as_ref();
        given.map(|given| &given.value)
    }

    /// Converse has no word for no tool: they are left out, unless the conversation has calls, which are not taken without.
    pub(crate) fn config(&self, losses: &mut Losses) -> Result<Option<ToolConfig<'a>>, Failure> {
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
        let mut tools = Vec::with_capacity(self.request.tools.len());
        for tool in self.request.offered() {
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
        if !has_tools || self.has_budget || !self.facts.forces {
            // There is nothing to force, or the model allows no force, as none does that thinks on a budget.
            losses.unless_absent(&self.request.tool_choice);
            return None;
        }
        Some(choice)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolConfig<'a> {
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
