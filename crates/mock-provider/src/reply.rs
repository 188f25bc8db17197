//! What the simulated model says: decided once, written by each format.

use serde_json::{Map, Value, json};

use crate::script::Behaviour;

/// The question, as any format asks it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub model: String,
    pub stream: bool,
    /// The last user text.
    pub prompt: String,
    /// All text together, for counting.
    pub all_text: usize,
    pub tools: Vec<AskedTool>,
    /// A tool that must be called; empty = any.
    pub forced: Option<String>,
    /// What a tool answered last.
    pub tool_result: Option<String>,
    /// What the answer has to fit.
    pub schema: Option<Value>,
    pub max_tokens: Option<u64>,
    pub include_usage: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct AskedTool {
    pub name: String,
    pub schema: Value,
}

/// The answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub id: String,
    pub model: String,
    pub thought: Vec<String>,
    pub words: Vec<String>,
    pub calls: Vec<Call>,
    pub stop: Stop,
    pub input: u64,
    pub output: u64,
    pub include_usage: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub id: String,
    pub name: String,
    pub arguments: Value,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stop {
    #[default]
    End,
    Length,
    Tools,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        self.words.concat()
    }

    /// A seal of the thought, as those of vendors whose thoughts have one: nobody else can make it.
    pub(crate) fn seal(&self) -> String {
        format!("c2VhbA/{}==", self.id.replace('-', "/"))
    }
}

/// Decides what to say.
pub(crate) fn reply(ask: &Ask, behaviour: &Behaviour, name: &str, seq: usize) -> Reply {
    let calls = if behaviour.text.is_none() {
        calls(ask, seq)
    } else {
        vec![]
    };
    let mut words = match (&behaviour.text, &ask.schema, &ask.tool_result) {
        _ if !calls.is_empty() => vec![],
        (Some(text), ..) => words(text, " "),
        (None, Some(schema), _) => words(&example(schema, "").to_string(), ",:"),
        (None, None, Some(result)) => words(&format!("The tool answered: {}", cut(result)), " "),
        (None, None, None) => {
            let said = cut(&ask.prompt);
            let text = format!("You said: \"{said}\". This is {name}, a simulated model.");
            words(&text, " ")
        }
    };
    let thought = self::words(behaviour.thought.as_deref().unwrap_or_default(), " ");
    if let Some(wanted) = behaviour.tokens {
        let filler = ["word ", "after ", "word "]
            .iter()
            .cycle()
            .map(|word| (*word).to_owned());
        words = words
            .into_iter()
            .chain(filler)
            .take(wanted as usize)
            .collect();
    }
    let limit = ask.max_tokens.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let too_long = words.len() > limit;
    words.truncate(limit);
    let stop = match (calls.is_empty(), too_long) {
        (false, _) => Stop::Tools,
        (true, true) => Stop::Length,
        (true, false) => Stop::End,
    };
    let output = (thought.len() + words.len()) as u64 + calls.len() as u64 * 5;
    let input = (ask.all_text as u64 / 4).max(1);
    Reply {
        id: format!("{name}-{seq}"),
        model: ask.model.clone(),
        thought,
        words,
        calls,
        stop,
        input,
        output,
        include_usage: ask.include_usage,
    }
}

fn words(text: &str, ends: &str) -> Vec<String> {
    let words = text.split_inclusive(|sign| ends.contains(sign));
    words.map(str::to_owned).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Which tools are called: the forced one, those the text names, or the first for a question that smells of tools.
fn calls(ask: &Ask, seq: usize) -> Vec<Call> {
    if ask.tools.is_empty() || ask.tool_result.is_some() {
        return vec![];
    }
    let prompt = ask.prompt.to_ascii_lowercase();
    let named = ask
        .tools
        .iter()
        .filter(|tool| prompt.contains(&tool.name.to_ascii_lowercase()));
    let smells = prompt.contains("tool") || prompt.contains("weather");
    let mut chosen: Vec<&AskedTool> = match &ask.forced {
        Some(name) if !name.is_empty() => {
            ask.tools.iter().filter(|tool| tool.name == *name).collect()
        }
        Some(_) => ask.tools.iter().take(1).collect(),
        None => named.collect(),
    };
    if chosen.is_empty() && smells {
        chosen = ask.tools.iter().take(1).collect();
    }
    if prompt.contains("parallel") && !chosen.is_empty() {
        chosen = ask.tools.iter().cycle().take(2).collect();
    }
    let call = |(at, tool): (usize, &&AskedTool)| Call {
        id: format!("call_{seq}_{at}"),
        name: tool.name.clone(),
        arguments: example(&tool.schema, ""),
    };
    chosen.iter().enumerate().map(call).collect()
}

/// A value that fits a schema.
fn example(schema: &Value, name: &str) -> Value {
    if let Some(first) = schema
        .get("enum")
        .and_then(Value::as_array)
        .and_then(|all| all.first())
    {
        return first.clone();
    }
    let kind = schema
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("object")
        .to_ascii_lowercase();
    match kind.as_str() {
        "string" if name.contains("city") || name.contains("location") => json!("Paris"),
        "string" => json!("example"),
        "integer" | "number" => json!(1),
        "boolean" => json!(true),
        "array" => json!([example(schema.get("items").unwrap_or(&Value::Null), name)]),
        _ => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let each = properties
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), example(schema, name)));
            Value::Object(each.collect::<Map<String, Value>>())
        }
    }
}
