//! Guard rails: `guards` and `guards_key`.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use polygate_core::Secret;
use polygate_engine::config::{Action, By, Detector, Guard, Guards, Looks, Webhook};
use polygate_engine::guard::detect::DETECTORS;
use polygate_engine::guard::{Side, finder};

use crate::config::condition::when;
use crate::config::pieces;
use crate::config::reader::{Item, Section};

/// The sides of a call.
const SIDES: [(&str, Side); 2] = [("request", Side::Request), ("answer", Side::Answer)];

/// What becomes of calls without a webhook's answer.
const FAILURES: [(&str, bool); 2] = [("open", true), ("closed", false)];

/// How long a webhook may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest name, and the longest word.
const NAME: usize = 64;

/// The fewest signs of a key.
const KEY: usize = 16;

/// `guards` and `guards_key`.
pub fn read(top: &Section<'_>) -> Guards {
    let key = top.item("guards_key").and_then(|item| {
        let key = item.secret()?;
        let is_short = key.reveal().len() < KEY;
        is_short.then(|| item.error(format!("must have {KEY} signs at least")));
        Some(key)
    });
    let mut list: Vec<Guard> = Vec::new();
    for item in top.items("guards") {
        let Some(guard) = guard(&item) else {
            continue;
        };
        if list.iter().any(|other| other.name == guard.name) {
            item.error(format!("there is another guard '{}'", guard.name));
        }
        list.push(guard);
    }
    Guards { list, key }
}

fn guard(item: &Item<'_>) -> Option<Guard> {
    let section = item.section()?;
    let name = name(&section);
    let when = when(&section);
    let sides = sides(&section);
    let by = match section.section("webhook") {
        Some(own) => webhook(own).map(By::Webhook),
        None => looks(item, &section).map(By::Looks),
    };
    let of = |side| sides.contains(&side);
    let restores = matches!(&by, Some(By::Looks(looks)) if looks.action == Action::Restore);
    if restores && !of(Side::Request) {
        section.error(
            "on",
            "must have 'request': what is put back is taken out there",
        );
    }
    section.finish();
    Some(Guard {
        name: name?,
        when,
        requests: of(Side::Request),
        answers: of(Side::Answer),
        by: by?,
    })
}

fn looks(item: &Item<'_>, section: &Section<'_>) -> Option<Looks> {
    let action = section.required("action");
    let asked = ["detect", "patterns", "words"];
    if asked.iter().all(|key| section.item(key).is_none()) {
        item.error("looks for nothing: say what by detect, patterns or words, or ask by webhook");
    }
    let looks = Looks {
        action: Action::Flag,
        detectors: detectors(section),
        patterns: patterns(section),
        words: pieces::words(section, "words"),
        case_sensitive: section.boolean("case_sensitive").unwrap_or(false),
    };
    let action = action.and_then(|item| item.word(&Action::NAMES))?;
    Some(Looks { action, ..looks })
}

fn webhook(section: Section<'_>) -> Option<Webhook> {
    let url = section.required("url").and_then(|item| {
        let url = item.secret()?;
        let uri = url.reveal().parse::<http::Uri>().ok();
        let is_good = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        if !is_good {
            // Without it: there may be a secret in it.
            item.error("must be an address: http://host:port/path or https://host/path");
        }
        is_good.then_some(url)
    });
    let mut headers = Vec::new();
    for (name, value) in pieces::headers(&section, "headers") {
        match HeaderName::try_from(&name) {
            Ok(name) if HeaderValue::try_from(&value).is_ok() => {
                headers.push((name, Secret::new(value)));
            }
            _ => section.error("headers", format!("'{name}' is no header that can be sent")),
        }
    }
    let timeout = section.patience("timeout").unwrap_or(PATIENCE);
    let fails_open = section.word("on_failure", &FAILURES);
    section.finish();
    Some(Webhook {
        url: url?,
        headers,
        timeout,
        fails_open: fails_open.unwrap_or(false),
    })
}

/// It stands in headers, and in lists with commas.
fn name(section: &Section<'_>) -> Option<String> {
    let name = section.required_text("name")?;
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.len() > NAME || !name.bytes().all(is_good) {
        section.error(
            "name",
            format!("must be at most {NAME} letters, digits, '-', '_' and '.'"),
        );
        return None;
    }
    Some(name)
}

fn sides(section: &Section<'_>) -> Vec<Side> {
    let Some(on) = section.item("on") else {
        return vec![Side::Request, Side::Answer];
    };
    let sides: Vec<Side> = on
        .list()
        .iter()
        .filter_map(|item| item.word(&SIDES))
        .collect();
    if sides.is_empty() {
        on.error("must have 'request', 'answer' or both");
    }
    sides
}

fn detectors(section: &Section<'_>) -> Vec<&'static Detector> {
    let known = DETECTORS
        .each_ref()
        .map(|detector| (detector.name, detector));
    let items = section.items("detect");
    items.iter().filter_map(|item| item.word(&known)).collect()
}

fn patterns(section: &Section<'_>) -> Vec<String> {
    let items = section.items("patterns");
    let pattern = |item: &Item<'_>| {
        let pattern = item.text()?;
        if let Err(why) = finder::check(&pattern) {
            item.error(format!("'{pattern}' cannot be looked for: {why}"));
            return None;
        }
        Some(pattern)
    };
    items.iter().filter_map(pattern).collect()
}
