//! `payload`: what is changed in the bodies that providers are sent. ai-proxy's files have it in the same form.

use polygate_engine::config::{Model, Provider};
use polygate_engine::pattern::Pattern;
use polygate_engine::payload::{self, Kind, Protocol, Rule, TargetIs};
use polygate_wire::Format;
use polygate_wire::raw::path::Path;
use polygate_wire::raw::quote;
use serde_json::Number;

use super::condition::when;
use super::pieces::pattern;
use super::reader::{Item, Section};
use super::yaml;

/// What is spoken there, as words.
const PROTOCOLS: [(&str, Protocol); 9] = [
    ("openai", Protocol::OpenAi),
    ("openai-compat", Protocol::OpenAiCompatible),
    ("claude", Protocol::Speaks(Format::AnthropicMessages)),
    ("gemini", Protocol::Speaks(Format::Gemini)),
    ("openai-chat", Protocol::Speaks(Format::OpenaiChat)),
    (
        "openai-responses",
        Protocol::Speaks(Format::OpenaiResponses),
    ),
    (
        "anthropic-messages",
        Protocol::Speaks(Format::AnthropicMessages),
    ),
    (
        "bedrock-converse",
        Protocol::Speaks(Format::BedrockConverse),
    ),
    ("bedrock", Protocol::Speaks(Format::BedrockConverse)),
];

/// The first word for it.
pub fn word(protocol: Protocol) -> Option<&'static str> {
    let mut words = PROTOCOLS.iter();
    let found = words.find(|(_, known)| *known == protocol);
    found.map(|(word, _)| *word)
}

/// All rules, in the order in which they come.
pub fn rules(top: &Section<'_>) -> Vec<Rule> {
    let Some(section) = top.section("payload") else {
        return vec![];
    };
    let mut rules = Vec::new();
    for (name, kind) in Kind::NAMES {
        let items = section.items(name);
        let items = items.iter().enumerate();
        rules.extend(items.filter_map(|(number, item)| rule(item, kind, number)));
    }
    section.finish();
    rules
}

fn rule(item: &Item<'_>, kind: Kind, number: usize) -> Option<Rule> {
    let section = item.section()?;
    let names_none = section
        .item("models")
        .is_some_and(|models| models.node.items().is_empty());
    let targets: Vec<TargetIs> = section.items("models").iter().filter_map(target).collect();
    let when = when(&section);
    let params = section.required("params").map(|params| match kind {
        Kind::Filter => taken_out(&params),
        Kind::Default | Kind::Override => set(&params),
    });
    let params = params.unwrap_or_default();
    if params.is_empty() && section.item("params").is_some() {
        section.warn("params", "names no place: the rule does nothing");
    }
    if names_none {
        item.warn("is for no model: leave 'models' out for all of them");
        return None;
    }
    Some(Rule {
        kind,
        number,
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

fn taken_out(params: &Item<'_>) -> Vec<(Path, Box<str>)> {
    let items = params.list();
    let paths = items.iter().filter_map(|item| {
        let path = path(item, &item.text()?)?;
        if path.is_of_what_is_not_yet() {
            item.error(format!("'{path}' is of the place behind a list's last item, where nothing is to be taken out"));
            return None;
        }
        Some(path)
    });
    paths.map(|path| (path, "null".into())).collect()
}

fn set(params: &Item<'_>) -> Vec<(Path, Box<str>)> {
    let entries = params.section().map(|section| section.entries());
    let entries = entries.into_iter().flatten();
    entries
        .filter_map(|(name, item)| {
            let path = path(&item, name);
            let json = value(&item)?;
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

/// Any value, as JSON: what stands without quotes is a number, true, false or null where it can be one. Numbers stay as they are written.
fn value(item: &Item<'_>) -> Option<String> {
    Some(match &item.node.kind {
        yaml::Kind::Scalar { plain, .. } => scalar(&item.text()?, *plain),
        yaml::Kind::List(_) => {
            let items = item.list();
            let items: Option<Vec<String>> = items.iter().map(value).collect();
            format!("[{}]", items?.join(","))
        }
        yaml::Kind::Map(_) => {
            let entries = item.section()?.entries();
            let members = entries
                .into_iter()
                .map(|(name, item)| Some(format!("{}:{}", quote(name), value(&item)?)));
            format!("{{{}}}", members.collect::<Option<Vec<_>>>()?.join(","))
        }
    })
}

fn scalar(text: &str, is_plain: bool) -> String {
    match text {
        _ if !is_plain => quote(text),
        "" | "~" | "null" | "Null" | "NULL" => "null".to_owned(),
        "true" | "True" | "TRUE" => "true".to_owned(),
        "false" | "False" | "FALSE" => "false".to_owned(),
        _ if serde_json::from_str::<Number>(text).is_ok() => text.trim().to_owned(),
        _ => quote(text),
    }
}

/// What is to be said of rules that no provider here can come under.
pub fn idle(rules: &[Rule], providers: &[Provider], models: &[Model]) -> Vec<String> {
    // They may be in a database.
    if providers.is_empty() {
        return vec![];
    }
    let is_nobodys = |rule: &&Rule| {
        let mut patterns = rule.when.models.iter();
        !rule.when.models.is_empty() && !patterns.any(|one| is_somebodys(one, providers, models))
    };
    let nobodys = rules.iter().filter(is_nobodys).map(|rule| {
        let names: Vec<&str> = rule.when.models.iter().map(Pattern::source).collect();
        format!(
            "payload.{rule}: no model here is called '{}': it changes nothing",
            names.join("', '")
        )
    });
    let nobodys: Vec<String> = nobodys.collect();
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
        format!(
            "payload.{rule}: no provider here has a model '{}' and speaks what the rule says: it changes nothing",
            names.join("', '")
        )
    })
    .chain(nobodys)
    .collect()
}

/// Whether clients may call a model so, as far as anybody knows: behind a prefix any name may come.
fn is_somebodys(pattern: &Pattern, providers: &[Provider], models: &[Model]) -> bool {
    let is_of = |provider: &Provider| {
        let mut mappings = provider.models.iter();
        provider.models.is_empty()
            || provider.prefix.is_some()
            || mappings.any(|one| may_be_alike(&one.pattern, pattern))
    };
    models.iter().any(|model| pattern.matches(&model.name)) || providers.iter().any(is_of)
}

/// Where a provider takes any name, any may come.
fn may_be_for(target: &TargetIs, provider: &Provider) -> bool {
    let is_named = provider.models.is_empty()
        || provider.models.iter().any(|mapping| match &mapping.target {
            Some(there) => target.model.matches(there),
            None => may_be_alike(&mapping.pattern, &target.model),
        });
    is_named
        && target
            .protocol
            .is_none_or(|protocol| speaks(protocol, provider))
}

/// Whether a name may fit both, as far as they say how names begin.
fn may_be_alike(one: &Pattern, other: &Pattern) -> bool {
    match (one.is_exact(), other.is_exact()) {
        (true, _) => other.matches(one.source()),
        (_, true) => one.matches(other.source()),
        _ => {
            let [one, other] = [one, other].map(|pattern| begins(pattern.source()));
            one.starts_with(other) || other.starts_with(one)
        }
    }
}

/// The letters that names begin with.
fn begins(pattern: &str) -> &str {
    let is_sign = |sign: char| !(sign.is_ascii_alphanumeric() || "-_/:".contains(sign));
    let end = pattern.find(is_sign).unwrap_or(pattern.len());
    // What a sign behind it makes optional does not count.
    let end = match pattern
        .get(end..)
        .is_some_and(|rest| rest.starts_with(['?', '{', '|']))
    {
        true => end.saturating_sub(1),
        false => end,
    };
    pattern.get(..end).unwrap_or_default()
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
        .any(|format| protocol.is(row, *format))
}

/// What is to be said of rules that take out what others set.
pub fn crossing(rules: &[Rule]) -> Vec<String> {
    let of = |kind: Kind| rules.iter().filter(move |rule| rule.kind == kind);
    let mut said = Vec::new();
    for filter in of(Kind::Filter) {
        for set in of(Kind::Override).filter(|set| may_meet(set, filter)) {
            let takes = |(path, _): &&(Path, Box<str>)| {
                let mut taken = filter.params.iter();
                taken.any(|(taken, _)| path.steps().starts_with(taken.steps()))
            };
            said.extend(set.params.iter().filter(takes).map(|(path, _)| {
                format!("payload.{set}: payload.{filter} takes out '{path}' again")
            }));
        }
    }
    said
}

/// Whether two rules may be for one body.
fn may_meet(one: &Rule, other: &Rule) -> bool {
    let is_open = one.targets.is_empty() || other.targets.is_empty();
    let meet = |a: &TargetIs, b: &TargetIs| {
        let speak_alike = match (a.protocol, b.protocol) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        let named_alike = match (a.model.is_exact(), b.model.is_exact()) {
            (true, _) => b.model.matches(a.model.source()),
            (_, true) => a.model.matches(b.model.source()),
            _ => true,
        };
        speak_alike && named_alike
    };
    is_open
        || one
            .targets
            .iter()
            .any(|a| other.targets.iter().any(|b| meet(a, b)))
}
