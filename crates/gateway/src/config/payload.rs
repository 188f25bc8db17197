//! `payload`: what is changed in the bodies that providers are sent. ai-proxy's files have it in the same form.

use polygate_engine::config::Provider;
use polygate_engine::pattern::Pattern;
use polygate_engine::payload::{self, Kind, Protocol, Rule, TargetIs};
use polygate_wire::Format;
use polygate_wire::raw::path::Path;
use serde_json::{Map, Value};

use super::condition::when;
use super::pieces::pattern;
use super::reader::{Item, Section};
use super::yaml;

/// What is spoken there, as words.
const PROTOCOLS: [(&str, Protocol); 9] = [
    ("openai", Protocol::OpenAi),
    ("openai-compat", Protocol::OpenAiCompatible),
    ("claude", Protocol::Claude),
    ("gemini", Protocol::Speaks(Format::Gemini)),
    ("openai-chat", Protocol::Speaks(Format::OpenaiChat)),
    (
        "openai-responses",
        Protocol::Speaks(Format::OpenaiResponses),
    ),
    ("anthropic-messages", Protocol::Claude),
    (
        "bedrock-converse",
        Protocol::Speaks(Format::BedrockConverse),
    ),
    ("bedrock", Protocol::Speaks(Format::BedrockConverse)),
];

/// All rules, in the order in which they come.
pub fn rules(top: &Section<'_>) -> Vec<Rule> {
    let Some(section) = top.section("payload") else {
        return vec![];
    };
    let mut rules = Vec::new();
    for (name, kind) in Kind::NAMES {
        let items = section.items(name);
        rules.extend(items.iter().filter_map(|item| rule(item, kind)));
    }
    section.finish();
    rules
}

fn rule(item: &Item<'_>, kind: Kind) -> Option<Rule> {
    let section = item.section()?;
    let targets: Vec<TargetIs> = section.items("models").iter().filter_map(target).collect();
    let when = when(&section);
    let params = section.required("params").map(|params| match kind {
        Kind::Filter => removed(&params),
        Kind::Default | Kind::Override => set(&params),
    });
    let params = params.unwrap_or_default();
    if params.is_empty() && section.item("params").is_some() {
        section.warn("params", "names no place: the rule does nothing");
    }
    section.finish();
    Some(Rule {
        kind,
        targets,
        when,
        params,
    })
}

fn target(item: &Item<'_>) -> Option<TargetIs> {
    if matches!(item.node.kind, yaml::Kind::Scalar { .. }) {
        let model = pattern(item, item.text()?.trim(), Pattern::glob)?;
        return Some(TargetIs {
            model,
            protocol: None,
        });
    }
    let section = item.section()?;
    let name = section.required("name");
    let model = name.and_then(|name| pattern(&name, name.text()?.trim(), Pattern::glob));
    let protocol = section.item("protocol");
    let protocol = protocol.and_then(|item| spoken(&item));
    section.finish();
    Some(TargetIs {
        model: model?,
        protocol,
    })
}

/// As published: in any case, and nothing is anything.
fn spoken(item: &Item<'_>) -> Option<Protocol> {
    let text = item.text()?;
    if text.trim().is_empty() {
        return None;
    }
    let words: Vec<&str> = PROTOCOLS.iter().map(|(word, _)| *word).collect();
    let expected = format!("one of {}", words.join(", "));
    item.parsed(&expected, |text| {
        let text = text.trim().replace('_', "-");
        let found = PROTOCOLS
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(&text));
        found.map(|(_, protocol)| *protocol)
    })
}

fn removed(params: &Item<'_>) -> Vec<(Path, Box<str>)> {
    let items = params.list();
    let paths = items.iter().filter_map(|item| path(item, &item.text()?));
    paths.map(|path| (path, "null".into())).collect()
}

fn set(params: &Item<'_>) -> Vec<(Path, Box<str>)> {
    let entries = params.section().map(|section| section.entries());
    let entries = entries.into_iter().flatten();
    entries
        .filter_map(|(name, item)| {
            let path = path(&item, name);
            let json = value(&item)?.to_string();
            Some((path?, json.into()))
        })
        .collect()
}

fn path(item: &Item<'_>, text: &str) -> Option<Path> {
    match Path::parse(text.trim()) {
        Ok(path) => match payload::refusal(&path) {
            None => Some(path),
            Some(why) => {
                item.error(format!("'{path}' is not for rules: {why}"));
                None
            }
        },
        Err(why) => {
            item.error(format!("'{text}' is no path such as a.b.0.c: {why}"));
            None
        }
    }
}

/// Any value, as JSON: what stands without quotes is a number, true, false or null where it can be one.
fn value(item: &Item<'_>) -> Option<Value> {
    Some(match &item.node.kind {
        yaml::Kind::Scalar { plain, .. } => scalar(item.text()?, *plain),
        yaml::Kind::List(_) => {
            let items = item.list();
            Value::Array(items.iter().map(value).collect::<Option<_>>()?)
        }
        yaml::Kind::Map(_) => {
            let entries = item.section()?.entries();
            let members = entries
                .into_iter()
                .map(|(name, item)| Some((name.to_owned(), value(&item)?)));
            Value::Object(members.collect::<Option<Map<_, _>>>()?)
        }
    })
}

fn scalar(text: String, is_plain: bool) -> Value {
    if !is_plain {
        return Value::String(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match serde_json::from_str(&text) {
            Ok(Value::Number(number)) => Value::Number(number),
            _ => Value::String(text),
        },
    }
}

/// What is to be said of rules that no provider here can come under.
pub fn idle(rules: &[Rule], providers: &[Provider]) -> Vec<String> {
    let is_idle = |rule: &&Rule| {
        !rule.targets.is_empty()
            && !rule.targets.iter().any(|target| {
                providers
                    .iter()
                    .any(|provider| may_be_for(target, provider))
            })
    };
    let idle = rules.iter().filter(is_idle);
    idle.map(|rule| {
        let names: Vec<&str> = rule.targets.iter().map(|target| target.model.source()).collect();
            let kind = rule.kind.name();
        format!(
            "payload.{kind}: no provider here has a model '{}' and speaks what the rule says: it changes nothing",
            names.join("', '")
        )
    })
    .collect()
}

/// Where a provider takes any name, any may come.
fn may_be_for(target: &TargetIs, provider: &Provider) -> bool {
    let is_named = provider.models.is_empty()
        || provider.models.iter().any(|mapping| match &mapping.target {
            Some(there) => target.model.matches(there),
            None => !mapping.pattern.is_exact() || target.model.matches(mapping.pattern.source()),
        });
    is_named
        && target
            .protocol
            .is_none_or(|protocol| speaks(protocol, provider))
}

fn speaks(protocol: Protocol, provider: &Provider) -> bool {
    let settings = polygate_engine::snapshot::settings(provider);
    let Ok(row) = polygate_providers::registry::row_of(&settings) else {
        return true;
    };
    let Ok(built) = polygate_providers::build(&settings) else {
        return true;
    };
    built
        .formats()
        .iter()
        .any(|format| protocol.is(&row.name, *format))
}
