//! Guard rails: `guards` and `guards_key`.

use polygate_engine::config::{Action, By, Detector, Guard, Guards, Looks};
use polygate_engine::guard::detect::DETECTORS;
use polygate_engine::guard::{Side, finder};

use crate::config::condition::when;
use crate::config::reader::{Item, Section};

/// The sides of a call.
const SIDES: [(&str, Side); 2] = [("request", Side::Request), ("answer", Side::Answer)];

/// The longest name, and the longest word.
const NAME: usize = 64;
const WORD: usize = 1024;

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
    let action = section
        .required("action")
        .and_then(|item| item.word(&Action::NAMES));
    let looks = Looks {
        action: action.unwrap_or(Action::Flag),
        detectors: detectors(&section),
        patterns: patterns(&section),
        words: words(&section),
        case_sensitive: section.boolean("case_sensitive").unwrap_or(false),
    };
    let asked = ["detect", "patterns", "words"];
    if asked.iter().all(|key| section.item(key).is_none()) {
        item.error("looks for nothing: say what by detect, patterns or words");
    }
    let of = |side| sides.contains(&side);
    if action == Some(Action::Restore) && !of(Side::Request) {
        section.error(
            "on",
            "must have 'request': what is put back is taken out there",
        );
    }
    section.finish();
    action?;
    Some(Guard {
        name: name?,
        when,
        requests: of(Side::Request),
        answers: of(Side::Answer),
        by: By::Looks(looks),
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

fn words(section: &Section<'_>) -> Vec<String> {
    let items = section.items("words");
    let word = |item: &Item<'_>| {
        let word = item.text()?;
        let is_good = (1..=WORD).contains(&word.trim().len());
        if !is_good {
            item.error(format!("must have 1 to {WORD} bytes"));
        }
        is_good.then_some(word)
    };
    items.iter().filter_map(word).collect()
}
