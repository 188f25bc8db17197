//! An explanation as people read it.

use std::fmt::Write as _;

use serde_json::Value;

/// Of a call to come, or of one that was.
pub fn of(explanation: &Value) -> String {
    let mut text = String::new();
    call(&mut text, explanation);
    if let Some(code) = explanation["refusal"]["code"].as_str() {
        let message = said(&explanation["refusal"]["message"]);
        let _ = writeln!(text, "Refused: {code} {message}");
    }
    if let Some(rule) = explanation["cache"]["rule"].as_u64() {
        let _ = writeln!(text, "{}", cached(rule, &explanation["cache"]));
    }
    list(&mut text, "Routes", &explanation["routes"], |one, _| {
        route(one)
    });
    list(&mut text, "Limits", &explanation["limits"], |one, _| {
        limit(one)
    });
    list(&mut text, "Guards", &explanation["guards"], |one, _| {
        guard(one)
    });
    list(
        &mut text,
        "Considered",
        &explanation["considered"],
        |one, _| considered(one),
    );
    list(
        &mut text,
        "Candidates",
        &explanation["candidates"],
        candidate,
    );
    list(
        &mut text,
        "Passed over",
        &explanation["passed_over"],
        |one, _| {
            format!(
                "{}: {}",
                place(one, ["provider", "credential", "model"]),
                rest(one)
            )
        },
    );
    list(&mut text, "Attempts", &explanation["attempts"], attempt);
    text
}

fn call(text: &mut String, explanation: &Value) {
    let of = |name: &str| said(&explanation[name]);
    let _ = write!(text, "{} of model {}", of("endpoint"), of("model"));
    if explanation["label"] != explanation["model"] && !explanation["label"].is_null() {
        let _ = write!(text, " (as {})", of("label"));
    }
    let _ = write!(text, " by key {}", of("key"));
    if let Some(team) = explanation["team"].as_str().filter(|team| !team.is_empty()) {
        let _ = write!(text, " of team {team}");
    }
    match explanation["outcome"].as_str() {
        Some(outcome) => {
            let (status, took) = (of("status_code"), of("total_duration_ms"));
            let cost = dollars(&explanation["cost_micro_usd"]);
            let _ = writeln!(
                text,
                "\n{outcome} with {status} after {took} ms, {cost} ({})",
                of("state")
            );
            for (name, said) in [
                ("losses", "Lost in translation"),
                ("altered", "Altered"),
                ("rules", "By rules"),
            ] {
                let words = words(&explanation[name]);
                if !words.is_empty() {
                    let _ = writeln!(text, "{said}: {words}");
                }
            }
        }
        None => {
            let (input, output) = (of("input_tokens"), of("output_tokens"));
            let _ = writeln!(
                text,
                "\nabout {input} tokens, and at most {output} of an answer"
            );
        }
    }
}

/// A heading and its items, where there are any.
fn list(text: &mut String, heading: &str, items: &Value, line: impl Fn(&Value, usize) -> String) {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return;
    }
    let _ = writeln!(text, "{heading}:");
    for (at, item) in items.iter().enumerate() {
        let _ = writeln!(text, "  {}", line(item, at + 1));
    }
}

fn cached(rule: u64, cache: &Value) -> String {
    let of = |name: &str| said(&cache[name]);
    match cache["why_not"].as_str() {
        Some(why) => format!("Cache: rule {rule}, but it is not looked up: {why}"),
        None => {
            let found = match cache["is_found"].as_bool() {
                Some(true) => format!("; there is one, {} s old", of("age_seconds")),
                Some(false) => "; there is none".to_owned(),
                None => String::new(),
            };
            format!(
                "Cache: rule {rule}, answers are good for {} s and shared by {}{found}",
                of("ttl_seconds"),
                of("share")
            )
        }
    }
}

fn route(one: &Value) -> String {
    let of = |name: &str| said(&one[name]);
    let mut line = format!("{}#{} -> {}", of("model"), of("route"), of("to"));
    let percent = Some(of("percent")).filter(|percent| !percent.is_empty());
    let percent = percent.map(|percent| format!("{percent} %"));
    let when = Some(of("when")).filter(|when| !when.is_empty());
    let conditions: Vec<String> = when.into_iter().chain(percent).collect();
    if !conditions.is_empty() {
        let _ = write!(line, " ({})", conditions.join("; "));
    }
    let _ = write!(
        line,
        ": {}",
        match one["verdict"].as_str() {
            Some("condition") => "for other calls",
            Some("percent") => "others were drawn",
            Some("behind") => "behind the one that is taken",
            _ => "taken",
        }
    );
    if one["by_chance"] == true {
        line += ", by chance";
    }
    line
}

fn limit(one: &Value) -> String {
    let amount = |value: &Value| match one["measure"].as_str() {
        Some("usd") => dollars(value),
        _ => format!("{value} {}", said(&one["measure"])),
    };
    let whose = format!("{} {}", said(&one["of"]), said(&one["name"]));
    let (left, most) = (amount(&one["left"]), amount(&one["most"]));
    format!(
        "{whose}: {left} left of {most} per {}",
        said(&one["period"])
    )
}

/// Of a call to come, or of one that was.
fn guard(one: &Value) -> String {
    let of = |name: &str| said(&one[name]);
    let mut line = of("guard");
    match one["action"].as_str() {
        Some(action) => line += &format!(": {action}"),
        None => line += ": asks a webhook",
    }
    let sides = match one["side"].as_str() {
        Some(side) => side.to_owned(),
        None => words(&one["on"]),
    };
    line += &format!(" in {sides}");
    for count in [&one["found"], &one["count"]] {
        if !count.is_null() {
            line += &format!(", {count} found");
        }
    }
    line
}

/// One of those that the first choice was between, and what it went by.
fn considered(one: &Value) -> String {
    let scores = &one["scores"];
    let mut words = vec![format!("{} calls", scores["calls"])];
    if let Some(latency) = scores["latency_ms"].as_u64() {
        words.push(format!("{latency} ms to the first event"));
    }
    if let Some(price) = scores["price"].as_i64() {
        words.push(format!("price {}", dollars(&price.into())));
    }
    let place = place(one, ["provider", "credential", "model"]);
    format!("{place}: {}", words.join("; "))
}

fn candidate(one: &Value, number: usize) -> String {
    let mut line = match one["verdict"].as_str() {
        Some("asked") => format!("{number}. "),
        _ => "-  ".to_owned(),
    };
    line += &place(one, ["provider", "credential", "model"]);
    let mut words = vec![rest(one)];
    words.push(format!(
        "group {} by {}",
        one["group"],
        said(&one["strategy"])
    ));
    for (name, word) in [
        ("by_affinity", "preferred by affinity"),
        ("by_chance", "or another, by chance"),
    ] {
        if one[name] == true {
            words.push(word.to_owned());
        }
    }
    if let Some(lane) = one["lane"].as_object() {
        let of = |name: &str| lane.get(name).map(said).unwrap_or_default();
        words.push(format!("{} {}", of("kind"), of("format")));
    }
    for (name, word) in [
        ("altered", "alters"),
        ("losses", "loses"),
        ("rules", "by rules"),
    ] {
        let pointers = self::words(&one[name]);
        if !pointers.is_empty() {
            words.push(format!("{word} {pointers}"));
        }
    }
    if let Some(message) = one["refusal"]["message"].as_str() {
        words.push(format!("would not be sent it: {message}"));
    }
    words.push(match &one["most_cost"] {
        Value::Null => "of unknown price".to_owned(),
        most => format!("at most {}", dollars(most)),
    });
    let latency = &one["scores"]["latency_ms"];
    if !latency.is_null() {
        words.push(format!("{latency} ms to the first event"));
    }
    line + ": " + &words.join("; ")
}

/// The verdict, and what there is to say of it.
fn rest(one: &Value) -> String {
    let mut text = said(&one["verdict"]);
    if !one["rests_for_seconds"].is_null() {
        let _ = write!(text, ", rests {} s", one["rests_for_seconds"]);
    }
    for name in ["fallback_for", "why"] {
        if let Some(word) = one[name].as_str() {
            let _ = write!(text, " ({word})");
        }
    }
    text
}

fn attempt(one: &Value, number: usize) -> String {
    let names = ["provider_name", "provider_credential_name", "mapped_model"];
    let of = |name: &str| said(&one[name]);
    let (outcome, status) = (of("outcome"), of("status_code"));
    let (started, took) = (of("started_ms"), of("duration_ms"));
    let (place, cost) = (place(one, names), dollars(&one["cost_micro_usd"]));
    format!("{number}. {place}: {outcome} ({status}), from {started} ms for {took} ms, {cost}")
}

fn place(one: &Value, [provider, credential, model]: [&str; 3]) -> String {
    let of = |name: &str| said(&one[name]);
    format!("{} / {} as {}", of(provider), of(credential), of(model))
}

/// Text as it is, anything else as JSON. What came from outside moves no cursor.
fn said(value: &Value) -> String {
    match value {
        Value::String(text) => text
            .chars()
            .map(|one| if one.is_control() { ' ' } else { one })
            .collect(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn words(list: &Value) -> String {
    let words = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let words: Vec<String> = words.iter().map(said).collect();
    words.join(", ")
}

fn dollars(micros: &Value) -> String {
    let micros = micros.as_i64().unwrap_or_default();
    format!("{}.{:06} USD", micros / 1_000_000, micros % 1_000_000)
}
