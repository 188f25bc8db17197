//! Parameters that LiteLLM gives to calls which do not say them: rules of `payload.default`, in the words of whoever is asked.

use polygate_engine::payload::refusal;
use polygate_wire::Format;
use polygate_wire::raw::path::Path;
use serde_json::{Map, Number, Value};

use super::native;
use crate::config::values::boolean;
use crate::config::yaml::{Kind, Node};
use crate::import::{At, Finding, Notes};

/// The formats that places are listed for, with their words in rules.
const FORMATS: [(Format, &str); 5] = [
    (Format::OpenaiChat, "openai-chat"),
    (Format::OpenaiResponses, "openai-responses"),
    (Format::AnthropicMessages, "anthropic-messages"),
    (Format::Gemini, "gemini"),
    (Format::BedrockConverse, "bedrock-converse"),
];

/// Where each parameter stands in each format, in the order of `FORMATS`; "" where the format has none of it. A place is listed only
/// where it means the same.
#[rustfmt::skip]
const PLACES: [(&str, [&str; 5]); 27] = [
    ("temperature", ["temperature", "temperature", "temperature", "generationConfig.temperature", "inferenceConfig.temperature"]),
    ("top_p", ["top_p", "top_p", "top_p", "generationConfig.topP", "inferenceConfig.topP"]),
    ("top_k", ["top_k", "", "top_k", "generationConfig.topK", ""]),
    ("max_tokens", ["max_tokens", "max_output_tokens", "max_tokens", "generationConfig.maxOutputTokens", "inferenceConfig.maxTokens"]),
    ("max_completion_tokens", ["max_completion_tokens", "max_output_tokens", "max_tokens", "generationConfig.maxOutputTokens", "inferenceConfig.maxTokens"]),
    ("stop", ["stop", "", "stop_sequences", "generationConfig.stopSequences", "inferenceConfig.stopSequences"]),
    ("seed", ["seed", "", "", "generationConfig.seed", ""]),
    ("presence_penalty", ["presence_penalty", "", "", "generationConfig.presencePenalty", ""]),
    ("frequency_penalty", ["frequency_penalty", "", "", "generationConfig.frequencyPenalty", ""]),
    ("n", ["n", "", "", "generationConfig.candidateCount", ""]),
    ("user", ["user", "user", "metadata.user_id", "", ""]),
    ("reasoning_effort", ["reasoning_effort", "reasoning.effort", "", "", ""]),
    ("thinking", ["", "", "thinking", "", ""]),
    ("verbosity", ["verbosity", "text.verbosity", "", "", ""]),
    ("parallel_tool_calls", ["parallel_tool_calls", "parallel_tool_calls", "", "", ""]),
    ("service_tier", ["service_tier", "service_tier", "", "", ""]),
    ("store", ["store", "store", "", "", ""]),
    ("safety_identifier", ["safety_identifier", "safety_identifier", "", "", ""]),
    ("prompt_cache_key", ["prompt_cache_key", "prompt_cache_key", "", "", ""]),
    ("top_logprobs", ["top_logprobs", "top_logprobs", "", "", ""]),
    ("logprobs", ["logprobs", "", "", "", ""]),
    ("logit_bias", ["logit_bias", "", "", "", ""]),
    ("response_format", ["response_format", "", "", "", ""]),
    ("tools", ["tools", "", "", "", ""]),
    ("tool_choice", ["tool_choice", "", "", "", ""]),
    ("repetition_penalty", ["repetition_penalty", "", "", "", ""]),
    ("min_p", ["min_p", "", "", "", ""]),
];

/// Where `extra_body` is put into the body as it is.
const OPEN: [Format; 3] = [
    Format::OpenaiChat,
    Format::OpenaiResponses,
    Format::AnthropicMessages,
];

/// The two names of one limit in OpenAI's chat, which takes only one of them in a call.
const LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// Clients whose chats go out as they are …
const NATIVE: &[&str] = &["openai-chat"];

/// … and those whose calls are translated into chats, which have the limit that the provider knows.
const TRANSLATED: &[&str] = &["openai-responses", "anthropic-messages", "gemini"];

/// What a deployment gives to calls.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    parts: Vec<Part>,
    /// What is to be said of them if they are carried.
    pub findings: Vec<Finding>,
}

/// Those that go into bodies of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What is spoken there, where that matters.
    pub protocol: Option<&'static str>,
    /// Only for clients that speak these; none is all.
    pub clients: &'static [&'static str],
    /// The places, and what stands there.
    pub params: Map<String, Value>,
}

impl Defaults {
    /// Those for each kind of body.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
}

/// Reads the parameters of a deployment.
#[derive(Debug)]
pub struct Reader {
    /// What its provider speaks.
    formats: Vec<Format>,
    /// What its provider calls the limit of a chat's answer.
    limit: &'static str,
    /// By whatever name it is said.
    is_only_limit: bool,
    parts: Vec<Part>,
    /// What is to be said of these.
    said: Notes,
}

impl Reader {
    /// For a provider that speaks these; `is_new_limit` where it has `max_completion_tokens`, which models that think take alone.
    pub fn new(formats: &[Format], is_new_limit: bool, is_thinking: bool) -> Self {
        Self {
            formats: formats.to_vec(),
            limit: if is_new_limit { LIMITS[1] } else { LIMITS[0] },
            is_only_limit: is_new_limit && is_thinking,
            parts: Vec::new(),
            said: Notes::default(),
        }
    }

    /// Reads a parameter; whether it is one.
    pub fn read(&mut self, key: &str, at: &At<'_>, notes: &mut Notes) -> bool {
        if key == "extra_body" {
            self.extra_body(at, notes);
            return true;
        }
        let Some((_, places)) = PLACES.iter().find(|(known, _)| *known == key) else {
            return false;
        };
        let Some(value) = value(at.node) else {
            notes.missing(at, "there is a control character in it");
            return true;
        };
        let spoken = FORMATS.iter().zip(places);
        let spoken = spoken.filter(|((format, _), _)| self.formats.contains(format));
        let (there, not_there): (Vec<_>, Vec<_>) = spoken.partition(|(_, place)| !place.is_empty());
        for ((format, word), place) in &there {
            // OpenAI's takes a text too.
            let value = match &value {
                Value::String(_) if key == "stop" && *format != Format::OpenaiChat => {
                    Value::Array(vec![value.clone()])
                }
                value => value.clone(),
            };
            let is_limit = *format == Format::OpenaiChat && LIMITS.contains(&key);
            if !is_limit || key == self.limit {
                self.put(word, &[], place, value);
            } else if self.is_only_limit {
                self.put(word, &[], self.limit, value);
            } else {
                self.put(word, NATIVE, place, value.clone());
                self.put(word, TRANSLATED, self.limit, value);
            }
        }
        let words = |spoken: Vec<(&(Format, &'static str), &&str)>| {
            let words = spoken.into_iter().map(|((_, word), _)| *word);
            words.collect::<Vec<_>>()
        };
        let (there, lacking) = (words(there), words(not_there));
        self.note(at, key, &there, &lacking, notes);
        true
    }

    /// Members that are put into the body as they are.
    fn extra_body(&mut self, at: &At<'_>, notes: &mut Notes) {
        let open = FORMATS.iter();
        let open =
            open.filter(|(format, _)| OPEN.contains(format) && self.formats.contains(format));
        let open: Vec<&str> = open.map(|(_, word)| *word).collect();
        for (name, at) in at.entries() {
            let place = name.replace('\\', r"\\").replace('.', r"\.");
            let path = Path::parse(&place).map_err(|_| "no member can be called so");
            let why = path.and_then(|path| refusal(&path).map_or(Ok(()), Err));
            match (why, value(at.node)) {
                (Err(why), _) => notes.missing(&at, why),
                (Ok(()), None) => notes.missing(&at, "there is a control character in it"),
                (Ok(()), Some(_)) if open.is_empty() => {
                    notes.missing(&at, "its provider's requests have another shape: write it into payload.default at the place that it has there");
                }
                (Ok(()), Some(value)) => {
                    for word in &open {
                        self.put(word, &[], &place, value.clone());
                    }
                    self.said.carried(&at, "payload.default");
                }
            }
        }
    }

    fn put(
        &mut self,
        protocol: &'static str,
        clients: &'static [&'static str],
        place: &str,
        value: Value,
    ) {
        let is = |part: &&mut Part| part.protocol == Some(protocol) && part.clients == clients;
        let place = place.to_owned();
        match self.parts.iter_mut().find(is) {
            Some(part) => {
                part.params.insert(place, value);
            }
            None => self.parts.push(Part {
                protocol: Some(protocol),
                clients,
                params: Map::from_iter([(place, value)]),
            }),
        }
    }

    /// All of them. Where every format has the same ones in the same places, they are for all.
    pub fn finish(mut self) -> Defaults {
        let first = self.parts.first().cloned();
        if let Some(first) = first
            && self.parts.len() == self.formats.len()
            && self
                .parts
                .iter()
                .all(|part| part.clients.is_empty() && part.params == first.params)
        {
            self.parts.truncate(1);
            for part in &mut self.parts {
                part.protocol = None;
            }
        }
        Defaults {
            parts: self.parts,
            findings: self.said.0,
        }
    }

    /// What became of a parameter, which these formats have a place for, and those not.
    fn note(
        &mut self,
        at: &At<'_>,
        key: &str,
        there: &[&str],
        lacking: &[&str],
        notes: &mut Notes,
    ) {
        let lacking = lacking.join(" and ");
        if there.is_empty() {
            let message =
                format!("{lacking} has no place that means the same: see payload.default");
            notes.missing(at, message);
        } else if LIMITS.contains(&key) && there.contains(&FORMATS[0].1) {
            let (written, whose) = match self.is_only_limit {
                true => (self.limit, ""),
                false => (key, "as by LiteLLM, "),
            };
            let renamed = if written == key {
                ""
            } else {
                ", as max_completion_tokens"
            };
            let other = LIMITS.iter().find(|limit| **limit != written).copied();
            let message = format!(
                "payload.default{renamed}; a chat that says {} has both then, {whose}which OpenAI refuses",
                other.unwrap_or_default()
            );
            self.said.changed(at, message);
        } else if lacking.is_empty() {
            self.said.carried(at, "payload.default");
        } else {
            let message = format!("payload.default; not for {lacking}");
            self.said.changed(at, message);
        }
    }
}

/// A value with LiteLLM's variables as ours; every other dollar sign means itself. `None`: there is something in it that no file can have.
fn value(node: &Node) -> Option<Value> {
    match &node.kind {
        Kind::Scalar { .. } if node.is_null() => Some(Value::Null),
        Kind::Scalar { text, plain } => scalar(text, *plain),
        Kind::List(items) => items.iter().map(value).collect(),
        Kind::Map(members) => {
            let members = members.iter();
            let members = members.map(|(key, node)| {
                let is_sound = word(&key.text).is_some();
                is_sound.then(|| Some((key.text.clone(), value(node)?)))?
            });
            members.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
    }
}

fn scalar(text: &str, is_plain: bool) -> Option<Value> {
    if is_plain {
        let number = serde_json::from_str::<Number>(text).ok();
        // Python writes `4_096` too.
        let begins = text.starts_with(|c: char| c.is_ascii_digit());
        let whole = || text.replace('_', "").parse::<u64>().ok().map(Number::from);
        let number = number.or_else(|| whole().filter(|_| begins));
        let fraction = || Number::from_f64(text.parse().ok()?);
        // Python reads `.5` and `1.` too, but no words.
        let has_digit = text.contains(|c: char| c.is_ascii_digit());
        let number = number.or_else(|| fraction().filter(|_| has_digit));
        if let Some(number) = number {
            return Some(Value::Number(number));
        }
        if let Some(switch) = boolean(text) {
            return Some(switch.into());
        }
    }
    word(text).map(Value::String)
}

fn word(text: &str) -> Option<String> {
    let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\r');
    if text.chars().any(is_odd) {
        return None;
    }
    Some(match text.starts_with("os.environ/") {
        true => native(text),
        false => text.replace('$', "$$"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::parse;

    #[test]
    fn a_limit_is_given_to_whoever_asks_by_the_name_that_goes_out() {
        const CHAT: &[Format] = &[Format::OpenaiChat];
        let read = |key: &str, is_new_limit, is_thinking| {
            let node = parse(&format!("{key}: 5")).expect("YAML");
            let mut reader = Reader::new(CHAT, is_new_limit, is_thinking);
            let at = At::top(&node).get(key).expect("the key");
            assert!(reader.read(key, &at, &mut Notes::default()), "{key}");
            let read = reader.finish();
            let [finding] = read.findings.as_slice() else {
                panic!("one thing is said of {key}");
            };
            let parts = read.parts().iter();
            let parts = parts.map(|part| (part.clients, part.params.keys().cloned().collect()));
            let parts: Vec<(&[&str], Vec<String>)> = parts.collect();
            (parts, finding.message.clone())
        };
        let [old, new] = LIMITS.map(|limit| vec![limit.to_owned()]);
        for (key, is_new, is_thinking, expected, both) in [
            (
                "max_tokens",
                false,
                false,
                vec![(&[][..], old.clone())],
                "max_completion_tokens",
            ),
            (
                "max_tokens",
                true,
                false,
                vec![(NATIVE, old.clone()), (TRANSLATED, new.clone())],
                "max_completion_tokens",
            ),
            (
                "max_tokens",
                true,
                true,
                vec![(&[][..], new.clone())],
                "max_tokens",
            ),
            (
                "max_completion_tokens",
                true,
                true,
                vec![(&[][..], new.clone())],
                "max_tokens",
            ),
            (
                "max_completion_tokens",
                false,
                false,
                vec![(NATIVE, new), (TRANSLATED, old)],
                "max_tokens",
            ),
        ] {
            let (parts, message) = read(key, is_new, is_thinking);
            assert_eq!(parts, expected, "{key} {is_new} {is_thinking}");
            let told = format!("a chat that says {both} has both then");
            assert!(message.contains(&told), "{message}");
        }
    }

    #[test]
    fn values_mean_what_they_meant() {
        for (text, expected) in [
            ("0.20", r#"0.2"#),
            ("1e-3", "0.001"),
            (".5", "0.5"),
            ("4_096", "4096"),
            ("'0.2'", r#""0.2""#),
            ("os.environ/T", r#""${T}""#),
            ("US$ ${x}", r#""US$$ $${x}""#),
            ("yes", "true"),
            ("inf", r#""inf""#),
            ("~", "null"),
            (r#""\n""#, r#""\n""#),
            ("{a: [1, {b.c: off}]}", r#"{"a":[1,{"b.c":false}]}"#),
        ] {
            let node = parse(&format!("x: {text}")).expect("YAML");
            let value = value(node.get("x").expect("x")).expect("a value");
            assert_eq!(value.to_string(), expected, "{text}");
        }
        let odd = parse(r#"x: "\a""#).expect("YAML");
        assert_eq!(value(odd.get("x").expect("x")), None);
    }
}
