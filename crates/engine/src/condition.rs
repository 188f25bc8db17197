//! Whether a rule is for a call: by who calls, with what, in which words.

use std::borrow::Cow;
use std::fmt;

use http::HeaderName;
use polygate_wire::canon::{Given, Part};
use polygate_wire::{ChatRequest, Format, RawObject, counting, ingress};

use crate::call::Call;
use crate::expect;
use crate::pattern::Pattern;

/// What has to be so of a call: all that is set, and of each list one. Nothing set is true of every call.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// The model's name, as the client says it.
    pub models: Vec<Pattern>,
    /// The key's name.
    pub keys: Vec<Pattern>,
    /// The key's team.
    pub teams: Vec<Pattern>,
    /// One of the key's tags or its team's.
    pub tags: Vec<Pattern>,
    /// Headers, all of them.
    pub headers: Vec<HeaderIs>,
    /// What the client speaks.
    pub formats: Vec<Format>,
    /// What is asked of, as metrics call it.
    pub endpoints: Vec<Pattern>,
    /// Whether a stream is wanted.
    pub stream: Option<bool>,
    /// Whether tools may be called.
    pub tools: Option<bool>,
    /// Whether there are pictures in it.
    pub images: Option<bool>,
    /// The prompt, estimated by its length, has more tokens than this …
    pub tokens_above: Option<u64>,
    /// … and no more than this.
    pub tokens_up_to: Option<u64>,
}

/// A header with a value that matches.
#[derive(Clone, Debug)]
pub struct HeaderIs {
    /// Its name.
    pub name: HeaderName,
    /// Its whole value.
    pub value: Pattern,
}

impl Condition {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        let Self {
            models,
            keys,
            teams,
            tags,
            headers,
            formats,
            endpoints,
            stream,
            tools,
            images,
            tokens_above,
            tokens_up_to,
        } = self;
        [models, keys, teams, tags, endpoints]
            .iter()
            .all(|list| list.is_empty())
            && headers.is_empty()
            && formats.is_empty()
            && [stream, tools, images].iter().all(|one| one.is_none())
            && [tokens_above, tokens_up_to].iter().all(|one| one.is_none())
    }

    /// Whether it is so of this call, by the model that it is of.
    pub fn holds(&self, call: &Call) -> bool {
        self.holds_for([&*call.model], call)
    }

    /// The same by one of these models. The cheap is looked at first: pictures are looked for in the whole request.
    pub fn holds_for<'a>(&self, models: impl IntoIterator<Item = &'a str>, call: &Call) -> bool {
        models.into_iter().any(|model| self.means(model)) && self.holds_whatever_model(call)
    }

    /// The same by any model that the call names, or may name where nobody sees it.
    pub fn may_hold(&self, call: &Call) -> bool {
        let is_meant = call.mentioned.is_unseen || call.named().any(|model| self.means(model));
        is_meant && self.holds_whatever_model(call)
    }

    fn holds_whatever_model(&self, call: &Call) -> bool {
        self.is_of(call)
            && self.headers.iter().all(|header| header.holds(call))
            && (call.object.is_some() || !self.asks_of_body())
            && is_as_wanted(self.stream, || call.stream)
            && self.is_in_size(call)
            && is_as_wanted(self.tools, || has_tools(call))
            && is_as_wanted(self.images, || has_images(call))
    }

    /// Whether it is of what a body says: of one that passes unread nobody knows.
    fn asks_of_body(&self) -> bool {
        let switches = [self.stream, self.tools, self.images];
        let sizes = [self.tokens_above, self.tokens_up_to];
        switches.iter().any(Option::is_some) || sizes.iter().any(Option::is_some)
    }

    /// Whether it is so of a model, as clients say it.
    pub fn means(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|one| one.matches(model))
    }

    /// By who calls, in which words.
    fn is_of(&self, call: &Call) -> bool {
        let caller = &call.inbound.caller;
        let one_of = |patterns: &[Pattern], name: Option<&str>| {
            patterns.is_empty()
                || name.is_some_and(|name| patterns.iter().any(|pattern| pattern.matches(name)))
        };
        let key = caller.key.as_ref().map(|key| &*key.name);
        let team = caller.team.as_ref().map(|team| &*team.name);
        let format = call.inbound.endpoint.format();
        one_of(&self.keys, key)
            && one_of(&self.teams, team)
            && one_of(&self.endpoints, Some(call.inbound.endpoint.label()))
            && (self.formats.is_empty() || self.formats.contains(&format))
            && self.has_tag(call)
    }

    fn has_tag(&self, call: &Call) -> bool {
        let caller = &call.inbound.caller;
        let own = caller.key.iter().flat_map(|key| key.tags.iter());
        let shared = caller.team.iter().flat_map(|team| team.tags.iter());
        self.tags.is_empty()
            || own
                .chain(shared)
                .any(|tag| self.tags.iter().any(|pattern| pattern.matches(tag)))
    }

    fn is_in_size(&self, call: &Call) -> bool {
        if self.tokens_above.is_none() && self.tokens_up_to.is_none() {
            return true;
        }
        let input = expect::prompt(call);
        self.tokens_above.is_none_or(|least| input > least)
            && self.tokens_up_to.is_none_or(|most| input <= most)
    }
}

impl HeaderIs {
    fn holds(&self, call: &Call) -> bool {
        let values = call.inbound.headers.get_all(&self.name);
        let mut texts = values.iter().filter_map(|value| value.to_str().ok());
        texts.any(|text| self.value.matches(text.trim()))
    }
}

fn is_as_wanted(wanted: Option<bool>, is: impl FnOnce() -> bool) -> bool {
    wanted.is_none_or(|wanted| wanted == is())
}

/// The turns that are asked for, or whose count is.
fn turns(call: &Call) -> Option<Cow<'_, RawObject>> {
    let object = call.object.as_ref()?;
    match call.inbound.endpoint.counts() {
        true => counting::asked(object).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(object)),
    }
}

fn has_tools(call: &Call) -> bool {
    let turns = turns(call);
    let named = ["tools", "functions"]
        .iter()
        .find_map(|name| turns.as_ref()?.get(name));
    named.is_some_and(|text| {
        let inside = text.strip_prefix('[').map(str::trim_start);
        inside.is_some_and(|inside| !inside.starts_with(']'))
    })
}

/// What is no chat has none that anybody could find.
fn has_images(call: &Call) -> bool {
    let endpoint = &call.inbound.endpoint;
    let ingress = match endpoint.counts() {
        true => ingress(endpoint.format()),
        false => endpoint.ingress(),
    };
    let request = ingress
        .zip(turns(call))
        .and_then(|(ingress, turns)| ingress.decode_request(&turns).ok());
    request.as_ref().is_some_and(shows_images)
}

fn shows_images(request: &ChatRequest) -> bool {
    let is_image = |part: &Given<Part>| matches!(part.value, Part::Image(_));
    let shows = |part: &Given<Part>| match &part.value {
        Part::Image(_) => true,
        Part::ToolResult(result) => result.content.iter().any(is_image),
        _ => false,
    };
    request
        .messages
        .iter()
        .any(|message| message.parts.iter().any(shows))
}

impl fmt::Display for Condition {
    /// For people: what explain shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        for (name, patterns) in [
            ("models", &self.models),
            ("keys", &self.keys),
            ("teams", &self.teams),
            ("tags", &self.tags),
            ("endpoints", &self.endpoints),
        ] {
            let sources: Vec<&str> = patterns.iter().map(Pattern::source).collect();
            if !sources.is_empty() {
                said.push(format!("{name} {}", sources.join("|")));
            }
        }
        // Values of headers may be secrets.
        said.extend(
            self.headers
                .iter()
                .map(|header| format!("header {}", header.name)),
        );
        let formats: Vec<&str> = self.formats.iter().map(|format| format.name()).collect();
        if !formats.is_empty() {
            said.push(format!("formats {}", formats.join("|")));
        }
        for (name, wanted) in [
            ("stream", self.stream),
            ("tools", self.tools),
            ("images", self.images),
        ] {
            said.extend(wanted.map(|wanted| format!("{name} {wanted}")));
        }
        said.extend(
            self.tokens_above
                .map(|least| format!("tokens above {least}")),
        );
        said.extend(self.tokens_up_to.map(|most| format!("tokens up to {most}")));
        f.write_str(&said.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::admit::Caller;
    use crate::call::{Endpoint, Inbound, InboundBody};
    use crate::config::Config;
    use crate::health::HealthBook;
    use crate::snapshot::Snapshot;

    fn call(endpoint: Endpoint, body: &'static str) -> Call {
        let snapshot = Snapshot::compile(Config::default(), &HealthBook::default(), None);
        let mut headers = HeaderMap::new();
        headers.append("x-tier", HeaderValue::from_static("silver"));
        headers.append("x-tier", HeaderValue::from_static("gold-2"));
        let inbound = Inbound {
            endpoint,
            method: Method::POST,
            model_in_path: None,
            headers,
            body: InboundBody::Whole(Bytes::from_static(body.as_bytes())),
            request_id: Arc::from("r"),
            caller: Caller::default(),
        };
        let read = Call::read(&snapshot.expect("no provider is none too many"), inbound);
        read.expect("a call").0
    }

    fn glob(source: &str) -> Vec<Pattern> {
        vec![Pattern::glob(source).expect("a pattern")]
    }

    fn header(name: &'static str, value: &str) -> Condition {
        let value = Pattern::glob(value).expect("a pattern");
        let name = HeaderName::from_static(name);
        Condition {
            headers: vec![HeaderIs { name, value }],
            ..Condition::default()
        }
    }

    #[test]
    fn everything_that_is_said_has_to_be_so() {
        const TEXT: &str =
            r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
        let call = call(Endpoint::Chat, TEXT);
        let tokens = expect::prompt(&call);
        let none = Condition::default;
        for (condition, holds) in [
            (none(), true),
            (
                Condition {
                    models: glob("gpt-*"),
                    ..none()
                },
                true,
            ),
            (
                Condition {
                    models: glob("claude-*"),
                    ..none()
                },
                false,
            ),
            (
                Condition {
                    models: glob("gpt-*"),
                    stream: Some(false),
                    ..none()
                },
                false,
            ),
            (
                Condition {
                    keys: glob("*"),
                    ..none()
                },
                false,
            ),
            (
                Condition {
                    teams: glob("*"),
                    ..none()
                },
                false,
            ),
            (
                Condition {
                    tags: glob("*"),
                    ..none()
                },
                false,
            ),
            (header("x-tier", "gold-*"), true),
            (header("x-tier", "bronze"), false),
            (header("x-other", "*"), false),
            (
                Condition {
                    formats: vec![Format::Gemini, Format::OpenaiChat],
                    ..none()
                },
                true,
            ),
            (
                Condition {
                    formats: vec![Format::Gemini],
                    ..none()
                },
                false,
            ),
            (
                Condition {
                    tools: Some(false),
                    images: Some(false),
                    ..none()
                },
                true,
            ),
            (
                Condition {
                    tools: Some(true),
                    ..none()
                },
                false,
            ),
            (
                Condition {
                    tokens_above: Some(tokens),
                    ..none()
                },
                false,
            ),
            (
                Condition {
                    tokens_above: Some(tokens - 1),
                    tokens_up_to: Some(tokens),
                    ..none()
                },
                true,
            ),
            (
                Condition {
                    tokens_up_to: Some(tokens - 1),
                    ..none()
                },
                false,
            ),
        ] {
            assert_eq!(condition.holds(&call), holds, "{condition}");
            assert!(
                condition.is_empty() == condition.to_string().is_empty(),
                "{condition}"
            );
        }
    }

    #[test]
    fn tools_and_images_are_found_in_every_format() {
        const PIXEL: &str = "iVBORw0KGgo=";
        let sse = true;
        let gemini = Endpoint::Generate { stream: false, sse };
        let cases: [(Endpoint, String); 4] = [
            (
                Endpoint::Chat,
                format!(
                    r#"{{"model":"m","tools":[ {{"type":"function","function":{{"name":"f"}}}}],"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{PIXEL}"}}}}]}}]}}"#
                ),
            ),
            (
                Endpoint::Responses,
                format!(
                    r#"{{"model":"m","tools":[{{"type":"function","name":"f","parameters":{{}}}}],"input":[{{"role":"user","content":[{{"type":"input_image","image_url":"data:image/png;base64,{PIXEL}"}}]}}]}}"#
                ),
            ),
            (
                Endpoint::Messages,
                format!(
                    r#"{{"model":"m","max_tokens":1,"tools":[{{"name":"f","input_schema":{{"type":"object"}}}}],"messages":[{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t","content":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{PIXEL}"}}}}]}}]}}]}}"#
                ),
            ),
            (
                gemini,
                format!(
                    r#"{{"model":"m","tools":[{{"functionDeclarations":[{{"name":"f"}}]}}],"contents":[{{"role":"user","parts":[{{"inlineData":{{"mimeType":"image/png","data":"{PIXEL}"}}}}]}}]}}"#
                ),
            ),
        ];
        let wanted = Condition {
            tools: Some(true),
            images: Some(true),
            ..Condition::default()
        };
        let [_, responses, messages, gemini] = cases.each_ref().map(|(_, body)| body.clone());
        let count = || Endpoint::GeminiMethod("countTokens".to_owned());
        let nested = format!(r#"{{"model":"m","generateContentRequest":{gemini}}}"#);
        let counts = [
            (Endpoint::ResponsesCount, responses),
            (Endpoint::CountTokens, messages),
            (count(), gemini),
            (count(), nested),
        ];
        for (endpoint, body) in cases.into_iter().chain(counts) {
            let call = call(endpoint, body.leak());
            assert!(wanted.holds(&call), "{:?}", call.inbound.endpoint);
        }
        let words = call(
            Endpoint::Chat,
            r#"{"model":"m","tools":[ ],"messages":[{"role":"user","content":"\"type\":\"image_url\""}]}"#,
        );
        assert!(
            !Condition {
                images: Some(true),
                ..Condition::default()
            }
            .holds(&words)
        );
        assert!(
            !Condition {
                tools: Some(true),
                ..Condition::default()
            }
            .holds(&words)
        );
    }
}
