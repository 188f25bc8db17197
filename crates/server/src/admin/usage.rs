//! What calls add up to.

use axum::response::Json;
use http::Method;
use polygate_core::moment;
use polygate_store::usage::{Filter, Group, GroupBy, Totals};
use serde_json::{Map, Value, json};

use super::asked::Asked;
use super::problem::Problem;
use super::role::Area;
use super::route::{Doc, Param, ParamKind, Route};
use super::view;
use super::write::asking;

/// What groups are made by, with the words for it.
const GROUPS: [(&str, GroupBy); 5] = [
    ("key", GroupBy::Key),
    ("team", GroupBy::Team),
    ("model", GroupBy::Model),
    ("provider", GroupBy::Provider),
    ("hour", GroupBy::Hour),
];

const WORDS: &[&str] = &["key", "team", "model", "provider", "hour"];

const PARAMETERS: &[Param] = &[
    Param {
        name: "from",
        kind: ParamKind::Text,
        about: "from this moment: RFC 3339, a day, or seconds since 1970; sums begin with its hour",
    },
    Param {
        name: "until",
        kind: ParamKind::Text,
        about: "before this moment, likewise; sums end with its hour",
    },
    Param {
        name: "key",
        kind: ParamKind::Text,
        about: "of this key, by name",
    },
    Param {
        name: "team",
        kind: ParamKind::Text,
        about: "of this team",
    },
    Param {
        name: "model",
        kind: ParamKind::Text,
        about: "of this model: a configured name or pattern, a name of the catalogue, or `other`",
    },
    Param {
        name: "provider",
        kind: ParamKind::Text,
        about: "answered by this provider",
    },
    Param {
        name: "group_by",
        kind: ParamKind::Word(WORDS),
        about: "a sum for each of these as well",
    },
];

const NAMES: [&str; 7] = [
    "from", "until", "key", "team", "model", "provider", "group_by",
];

/// Its route.
pub fn routes() -> Vec<Route> {
    let doc = Doc {
        id: "get_usage".to_owned(),
        summary: "What calls add up to, by whole hours; `waiting` is how many calls of this replica are not in it yet".to_owned(),
        query: PARAMETERS,
        answers: vec![(200, Some("Usage"))],
        refusals: &[400],
        ..Doc::default()
    };
    let (path, area) = ("/admin/v1/usage", Area::Usage);
    vec![Route::new(Method::GET, path, area, usage, doc)]
}

async fn usage(asked: Asked) -> Result<Json<Value>, Problem> {
    asked.knows(&NAMES)?;
    let filter = Filter {
        from: asked_moment(&asked, "from")?,
        until: asked_moment(&asked, "until")?,
        key: asked.query("key").map(str::to_owned),
        team: team(&asked)?,
        model: asked.query("model").map(str::to_owned),
        provider: asked.query("provider").map(str::to_owned),
    };
    let by = group_by(&asked)?;
    let store = &asked.state.admin.store;
    let all = asking(store.totals(&filter, None)).await?;
    let groups = match by {
        Some((_, by)) => asking(store.totals(&filter, Some(by))).await?,
        None => Vec::new(),
    };
    let totals = all.into_iter().next().map(|group| group.totals);
    let groups: Vec<Value> = groups.iter().map(|group| shown(group, by)).collect();
    let mut answer = json!({
        "totals": totals.unwrap_or_default(),
        "group_by": by.map(|(word, _)| word),
        "groups": groups,
    });
    lag(&asked, &mut answer);
    Ok(Json(answer))
}

/// Adds how many calls the store does not have yet.
fn lag(asked: &Asked, answer: &mut Value) {
    let stats = asked.state.engine.ledger().map(|ledger| ledger.stats());
    let stats = stats.unwrap_or_default();
    answer["waiting"] = stats.waiting.into();
    answer["oldest_waiting"] = json!(stats.oldest_unshipped.map(view::time));
}

fn group_by(asked: &Asked) -> Result<Option<(&'static str, GroupBy)>, Problem> {
    let Some(word) = asked.query("group_by") else {
        return Ok(None);
    };
    let found = GROUPS.into_iter().find(|(known, _)| *known == word);
    let message = || format!("must be one of {}", WORDS.join(", "));
    found.map_or_else(
        || Err(wrong("group_by", &message())),
        |found| Ok(Some(found)),
    )
}

/// A group: its name, also under what it is a name of, and its sum.
fn shown(group: &Group, by: Option<(&'static str, GroupBy)>) -> Value {
    let name = match by {
        Some((_, GroupBy::Hour)) => group.name.parse().map(view::time).unwrap_or_default(),
        _ => group.name.as_str().into(),
    };
    let mut members = sums(&group.totals);
    if let Some((word, _)) = by {
        members.insert(word.to_owned(), name.clone());
    }
    members.insert("name".to_owned(), name);
    Value::Object(members)
}

fn sums(totals: &Totals) -> Map<String, Value> {
    match json!(totals) {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// What is wrong with a parameter.
pub(super) fn wrong(name: &str, message: &str) -> Problem {
    Problem::invalid(format!("'{name}' {message}"))
}

/// A parameter that is a moment.
pub(super) fn asked_moment(asked: &Asked, name: &str) -> Result<Option<i64>, Problem> {
    let Some(text) = asked.query(name) else {
        return Ok(None);
    };
    let message = "must be a moment such as 2026-11-25T18:30:00Z, a day, or seconds since 1970";
    let at = moment_of(text.trim()).and_then(|seconds| i64::try_from(seconds).ok());
    let at = at.and_then(|seconds| seconds.checked_mul(1_000_000));
    at.map(Some).ok_or_else(|| wrong(name, message))
}

/// Seconds since 1970.
fn moment_of(text: &str) -> Option<u64> {
    let day = || moment::parse(&format!("{text}T00:00:00Z"));
    let number = || text.parse().ok();
    moment::parse(text).or_else(day).or_else(number)
}

/// The team that is asked for, or that the asker is confined to.
pub(super) fn team(asked: &Asked) -> Result<Option<String>, Problem> {
    let wanted = asked.query("team");
    match (asked.principal.confined(), wanted) {
        (Some(own), Some(wanted)) if own != wanted => Err(Problem::forbidden(
            "a team's admin sees what its own team uses",
        )),
        (Some(own), _) => Ok(Some(own.to_owned())),
        (None, wanted) => Ok(wanted.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_several_ways() {
        for text in [
            "2025-11-25T18:30:00Z",
            "2025-11-25T20:30:00+02:00",
            "1764095400",
        ] {
            assert_eq!(moment_of(text), Some(1_764_095_400), "{text}");
        }
        assert_eq!(moment_of("2025-11-25"), Some(1_764_028_800));
        for text in ["", "yesterday", "2025-11", "2025-02-29", "-5", "1.5", "é"] {
            assert_eq!(moment_of(text), None, "{text}");
        }
    }
}
