//! Whether a body is what the description says that it may be: types and ranges, by field. What is unknown or missing is for whoever
//! reads it.

use serde_json::Value;

use super::super::problem::Field;

/// What is wrong with a value, by the schema that it should have.
pub fn check(schema: &Value, value: &Value) -> Vec<Field> {
    let mut problems = Vec::new();
    look(schema, value, "", &mut problems);
    problems
}

fn look(schema: &Value, value: &Value, at: &str, problems: &mut Vec<Field>) {
    if let Some(ways) = schema["anyOf"].as_array() {
        return any_of(ways, value, at, problems);
    }
    let wanted = || Field::new(at, format!("must be {}", noun(schema)));
    if !is_of_type(schema, value) || !is_in_range(schema, value) {
        problems.push(wanted());
        return;
    }
    match value {
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                look(&schema["items"], item, &format!("{at}[{number}]"), problems);
            }
        }
        Value::Object(members) => {
            let join = |name: &str| match at {
                "" => name.to_owned(),
                at => format!("{at}.{name}"),
            };
            for (name, member) in members {
                let known = schema["properties"].get(name);
                let of_others = &schema["additionalProperties"];
                // What may not be there at all is told by who knows what was meant.
                let schema = known.unwrap_or(of_others);
                if schema.is_object() {
                    look(schema, member, &join(name), problems);
                }
            }
        }
        _ => {}
    }
}

/// One way is enough; of several that fail the one of the value's type says why.
fn any_of(ways: &[Value], value: &Value, at: &str, problems: &mut Vec<Field>) {
    let tried = ways.iter().map(|way| {
        let mut found = Vec::new();
        look(way, value, at, &mut found);
        (way, found)
    });
    let tried: Vec<(&Value, Vec<Field>)> = tried.collect();
    if tried.iter().any(|(_, found)| found.is_empty()) {
        return;
    }
    let deeper = tried
        .iter()
        .find(|(way, _)| is_of_type(way, value) && is_in_range(way, value));
    match deeper {
        Some((_, found)) => problems.extend(found.iter().cloned()),
        None => {
            let nouns = ways.iter().map(noun).filter(|noun| noun != "null");
            let nouns: Vec<String> = nouns.collect();
            problems.push(Field::new(at, format!("must be {}", nouns.join(", or "))));
        }
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_of_type(schema: &Value, value: &Value) -> bool {
    if let Some(words) = schema["enum"].as_array() {
        return words.contains(value);
    }
    // A way among others may itself have ways.
    if let Some(ways) = schema["anyOf"].as_array() {
        let mut ways = ways.iter();
        return ways.any(|way| is_of_type(way, value) && is_in_range(way, value));
    }
    let types = types(schema);
    types.is_empty()
        || types.iter().any(|kind| match *kind {
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "null" => value.is_null(),
            _ => true,
        })
}

fn is_in_range(schema: &Value, value: &Value) -> bool {
    let bound = |name: &str| schema[name].as_f64();
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            bound("minimum").is_none_or(|least| number >= least)
                && bound("maximum").is_none_or(|most| number <= most)
        }
        Value::String(text) => {
            let length = text.chars().count() as f64;
            bound("minLength").is_none_or(|least| length >= least)
                && bound("maxLength").is_none_or(|most| length <= most)
        }
        _ => true,
    }
}

/// For people.
fn noun(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(Value::to_string).collect();
        return format!("one of {}", words.join(", "));
    }
    if let Some(ways) = schema["anyOf"].as_array() {
        let nouns: Vec<String> = ways
            .iter()
            .map(noun)
            .filter(|noun| noun != "null")
            .collect();
        return nouns.join(", or ");
    }
    let word = |kind: &&str| match *kind {
        "string" => match (&schema["minLength"], &schema["maxLength"]) {
            (Value::Null, Value::Null) => "a text".to_owned(),
            (least, most) => format!("a text of {least} to {most} characters"),
        },
        "integer" => format!("a whole number{}", range(schema)),
        "number" => format!("a number{}", range(schema)),
        "boolean" => "true or false".to_owned(),
        "array" => "a list".to_owned(),
        "object" => "an object".to_owned(),
        other => other.to_owned(),
    };
    let words: Vec<String> = types(schema)
        .iter()
        .filter(|kind| **kind != "null")
        .map(word)
        .collect();
    match words.as_slice() {
        [] => "null".to_owned(),
        words => words.join(", or "),
    }
}

fn range(schema: &Value) -> String {
    match (schema["minimum"].as_i64(), schema["maximum"].as_i64()) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" of at least {least}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::schemas;
    use super::*;

    #[test]
    fn what_is_sent_is_held_to_its_description() {
        let all = schemas::all();
        for (name, body, field, message) in [
            (
                "NewProvider",
                json!({"id": "p", "weight": 2, "api_key": "k", "model_mapping": {"a": "b"}, "region": null}),
                "",
                "",
            ),
            (
                "NewProvider",
                json!({"weight": "2"}),
                "weight",
                "must be a whole number from 0 to 4294967295",
            ),
            (
                "NewProvider",
                json!({"weight": -1}),
                "weight",
                "must be a whole number from 0 to 4294967295",
            ),
            ("NewProvider", json!({"type": 5}), "type", "must be a text"),
            (
                "NewProvider",
                json!({"is_enabled": "yes"}),
                "is_enabled",
                "must be true or false",
            ),
            (
                "NewProvider",
                json!({"provider_params": {"anthropic_beta_policy": "some"}}),
                "provider_params.anthropic_beta_policy",
                "must be one of \"drop\", \"allowlist\", \"passthrough\"",
            ),
            (
                "NewProvider",
                json!({"model_mapping": 5}),
                "model_mapping",
                "must be an object, or a list",
            ),
            (
                "NewProvider",
                json!({"headers": {"a": 1}}),
                "headers.a",
                "must be a text",
            ),
            (
                "NewProvider",
                json!({"api_keys": ["k", {"key": 5}]}),
                "api_keys[1].key",
                "must be a text",
            ),
            (
                "NewProvider",
                json!({"api_keys": [5]}),
                "api_keys[0]",
                "must be a text, or an object",
            ),
            (
                "NewProvider",
                json!({"wire_api": "x"}),
                "wire_api",
                "must be one of \"chat\", \"responses\"",
            ),
            (
                "KeyChange",
                json!({"rate_limit": 5, "limits": {"usd_per_day": 0.5}}),
                "",
                "",
            ),
            (
                "KeyChange",
                json!({"rate_limit": {"requests_per_second": "5"}}),
                "rate_limit.requests_per_second",
                "must be a whole number from 0 to 4294967295",
            ),
            (
                "KeyChange",
                json!({"rate_limit": "5"}),
                "rate_limit",
                "must be a whole number from 0 to 4294967295, or an object",
            ),
            (
                "KeyChange",
                json!({"id": ""}),
                "id",
                "must be a text of 1 to 200 characters",
            ),
            (
                "KeyChange",
                json!({"key_preview": "sk-***", "version": 3}),
                "",
                "",
            ),
        ] {
            let found = check(&all[name], &body);
            let said = found
                .first()
                .map(|one| (one.field.as_str(), one.message.as_str()));
            assert_eq!(said.unwrap_or_default(), (field, message), "{body}");
            assert!(found.len() <= 1);
        }
    }
}
