//! `guardrails`: LiteLLM's own filters of text are guards here; those that ask a service are not.

use polygate_engine::guard::finder;
use serde_json::{Map, Value, json};

use super::{is_on, text};
use crate::import::{At, Notes};

/// LiteLLM's patterns by name, and the detectors that find the same.
const DETECTORS: [(&str, &str); 13] = [
    ("email", "email"),
    ("visa", "card"),
    ("mastercard", "card"),
    ("amex", "card"),
    ("discover", "card"),
    ("credit_card", "card"),
    ("iban", "iban"),
    ("aws_access_key", "api-key"),
    ("github_token", "api-key"),
    ("openai_api_key", "api-key"),
    ("slack_token", "api-key"),
    ("generic_api_key", "api-key"),
    ("jwt", "jwt"),
];

/// LiteLLM's actions and ours.
const ACTIONS: [(&str, &str); 2] = [("BLOCK", "block"), ("MASK", "redact")];

/// The sides that each mode is for.
const MODES: [(&str, &[&str]); 3] = [
    ("pre_call", &["request"]),
    ("post_call", &["answer"]),
    ("during_call", &["request", "answer"]),
];

/// Of those that ask somebody.
const SERVICE: &str = "there is no such guard here: detect, words and patterns find text without a service, and a guard's webhook asks one (docs/guards.md)";

/// Of one that requests have to name.
const ON_DEMAND: &str = "it is for requests that name it, which none does here: with default_on: true it is a guard for all; a guard's `when` says for which";

/// What one of LiteLLM's looks for, by what is done about it.
#[derive(Debug, Default)]
struct Looks {
    detect: Vec<Value>,
    patterns: Vec<Value>,
    words: Vec<Value>,
}

/// The guards that a section comes to.
pub fn read(section: &At<'_>, notes: &mut Notes) -> Vec<Value> {
    let mut guards: Vec<Value> = Vec::new();
    for entry in section.items() {
        guard(&entry, &mut guards, notes);
    }
    guards
}

fn guard(entry: &At<'_>, guards: &mut Vec<Value>, notes: &mut Notes) {
    for (key, at) in entry.entries() {
        if !["guardrail_name", "litellm_params"].contains(&key) {
            notes.missing(&at, "guards have none of this");
        }
    }
    let params = entry.get("litellm_params");
    let kind = params.as_ref().and_then(|params| params.get("guardrail"));
    let Some((params, kind)) = params.zip(kind) else {
        notes.missing(entry, "it has no litellm_params.guardrail");
        return;
    };
    let mut looks: [Looks; 2] = Default::default();
    match kind.text() {
        Some("litellm_content_filter") => {}
        Some("hide-secrets") => {
            let [_, redact] = &mut looks;
            redact.detect = ["api-key", "jwt", "private-key"].map(Value::from).to_vec();
        }
        _ => {
            notes.missing(entry, SERVICE);
            return;
        }
    }
    let is_default = params.get("default_on").and_then(|at| is_on(&at));
    if is_default != Some(true) {
        notes.missing(entry, ON_DEMAND);
        return;
    }
    let on = sides(&params, notes);
    for (key, at) in params.entries() {
        match key {
            "guardrail" | "mode" | "default_on" => {}
            "patterns" => at.items().iter().for_each(|at| pattern(at, &mut looks, notes)),
            "blocked_words" => at.items().iter().for_each(|at| word(at, &mut looks, notes)),
            "blocked_words_file" => notes.missing(&at, "no file is read: write them into the guard's words"),
            "categories" => notes.missing(&at, "lists of words of LiteLLM's own are not carried: write a guard's words, or ask by webhook"),
            "pattern_redaction_format" | "keyword_redaction_tag" => {
                notes.missing(&at, "a placeholder says what it was, and a keyed hash of it: [EMAIL_3f9a1c2b]");
            }
            _ => notes.missing(&at, "guards have none of this"),
        }
    }
    let before = guards.len();
    let name = entry.get("guardrail_name");
    let name = named(name.as_ref().and_then(At::text).unwrap_or("guardrail"));
    for (looks, (_, action)) in looks.into_iter().zip(ACTIONS) {
        looks.finish(&name, action, &on, guards);
    }
    match guards.get(before..).map(<[Value]>::len) {
        None | Some(0) => notes.missing(entry, "nothing is left of it that could be looked for"),
        Some(_) => {
            let message = "guards: words are found within longer ones, and a placeholder stands where text is taken out";
            notes.changed(entry, message);
        }
    }
}

impl Looks {
    fn finish(self, name: &str, action: &str, on: &[&str], guards: &mut Vec<Value>) {
        let lists = [
            ("detect", self.detect),
            ("patterns", self.patterns),
            ("words", self.words),
        ];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let lists: Map<String, Value> = lists
            .map(|(key, list)| (key.to_owned(), Value::Array(list)))
            .collect();
        if lists.is_empty() {
            return;
        }
        let is_taken = |name: &str| guards.iter().any(|guard| guard["name"] == name);
        let numbered = (2..).map(|number| format!("{name}-{action}-{number}"));
        let names = [name.to_owned(), format!("{name}-{action}")];
        let mut names = names.into_iter().chain(numbered);
        let mut guard = json!({"name": names.find(|name| !is_taken(name)), "on": on});
        if let Value::Object(guard) = &mut guard {
            guard.extend(lists);
            guard.insert("action".to_owned(), action.into());
        }
        guards.push(guard);
    }

    fn add(list: &mut Vec<Value>, value: &str) {
        if !list.iter().any(|known| known == value) {
            list.push(value.into());
        }
    }
}

/// A name as guards have them.
fn named(said: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let words = said.split(|c| !fits(c)).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("-");
    match name.is_empty() {
        true => "guardrail".to_owned(),
        false => name.chars().take(40).collect(),
    }
}

fn sides(params: &At<'_>, notes: &mut Notes) -> Vec<&'static str> {
    let mode = params.get("mode");
    let mut sides = Vec::new();
    for at in mode.iter().flat_map(At::items) {
        let mode = MODES.iter().find(|(mode, _)| Some(*mode) == at.text());
        match mode {
            Some((_, of_it)) => sides.extend(
                of_it
                    .iter()
                    .filter(|side| !sides.contains(*side))
                    .copied()
                    .collect::<Vec<_>>(),
            ),
            None => notes.missing(&at, "guards are for requests and answers"),
        }
    }
    if sides.is_empty() {
        sides = vec!["request"];
    }
    sides
}

/// Those of an action; blocking unless another one is said.
fn of<'a>(at: &At<'_>, looks: &'a mut [Looks; 2]) -> &'a mut Looks {
    let said = at.get("action");
    let said = said.as_ref().and_then(At::text).unwrap_or_default();
    let [block, redact] = looks;
    match said.eq_ignore_ascii_case("MASK") {
        true => redact,
        false => block,
    }
}

fn pattern(at: &At<'_>, looks: &mut [Looks; 2], notes: &mut Notes) {
    if let Some(named) = at.get("pattern_name") {
        let name = named.text().unwrap_or_default();
        let found = DETECTORS.iter().find(|(theirs, _)| *theirs == name);
        match found {
            Some((_, detector)) => {
                Looks::add(&mut of(at, looks).detect, detector);
                let message = format!("detect: {detector}, which has its own idea of one");
                notes.changed(&named, message);
            }
            None => notes.missing(
                &named,
                "there is no such detector: write a pattern of your own",
            ),
        }
        return;
    }
    let Some(said) = at.get("pattern") else {
        notes.missing(at, "no pattern");
        return;
    };
    let expression = said.text().unwrap_or_default().replace(r"\b", r"(?-u:\b)");
    match finder::check(&expression) {
        Ok(()) => {
            // A dollar sign is one.
            let expression = expression.replace('$', "$$");
            Looks::add(&mut of(at, looks).patterns, &expression);
            notes.carried(&said, "patterns");
        }
        Err(why) => notes.missing(&said, format!("it cannot be looked for here: {why}")),
    }
}

fn word(at: &At<'_>, looks: &mut [Looks; 2], notes: &mut Notes) {
    let said = at.get("keyword");
    let said = said.as_ref().unwrap_or(at);
    match text(said).filter(|word| word.len() <= 1024) {
        Some(word) => {
            Looks::add(&mut of(at, looks).words, &word);
            notes.carried(said, "words");
        }
        None => notes.missing(said, "no word"),
    }
}
