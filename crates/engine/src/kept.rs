//! Answers that Responses clients go on from (`previous_response_id`, `item_reference`), for upstreams that keep none themselves.
//!
//! Bounded by size and age, and per key: nobody goes on from another key's answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use polygate_core::{Failure, Kind};
use polygate_wire::raw::Edit;
use polygate_wire::{Keep, RawObject};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::admit::Caller;
use crate::call::{Call, Endpoint};

/// The most bytes that are kept.
const MOST: u64 = 64 * 1024 * 1024;

/// The most bytes of one conversation.
const MOST_OF_ONE: usize = 4 * 1024 * 1024;

/// How long an answer is kept.
const AGE: Duration = Duration::from_secs(24 * 3600);

/// What an answer or an item of one is kept under: whose it is, and its id.
type Name = (Arc<str>, String);

/// Conversations by their last answer's id: the JSON of their items, without brackets. And items of answers by their own ids.
#[derive(Clone, Debug)]
pub struct Kept(Cache<Name, Arc<str>>);

impl Default for Kept {
    fn default() -> Self {
        let weigh = |(_, id): &Name, items: &Arc<str>| {
            u32::try_from(id.len() + items.len()).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().max_capacity(MOST).weigher(weigh);
        Self(cache.time_to_live(AGE).build())
    }
}

/// A call that goes on from what is kept here.
#[derive(Clone, Debug)]
pub struct GoesOn {
    /// The answer's id, where the call names one that is kept here.
    pub id: Option<String>,
    /// The body, with what was said before in it.
    pub object: RawObject,
}

#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Identified {
    id: String,
}

impl Kept {
    /// The body with what was said before in it, where the call goes on from what is kept here.
    pub fn resolve(
        &self,
        endpoint: &Endpoint,
        object: &RawObject,
        caller: &Caller,
    ) -> Result<Option<GoesOn>, Failure> {
        if !matches!(endpoint, Endpoint::Responses | Endpoint::ResponsesCount) {
            return Ok(None);
        }
        let input = object.get("input");
        let Some(input) = input.and_then(|input| self.with_items(input, &caller.name())) else {
            return self.continued(object, caller);
        };
        let object = RawObject::parse(object.edit(&[Edit::Set("input", &input)]))?;
        let continued = self.continued(&object, caller)?;
        Ok(Some(continued.unwrap_or(GoesOn { id: None, object })))
    }

    /// The body with the conversation so far in it.
    fn continued(&self, object: &RawObject, caller: &Caller) -> Result<Option<GoesOn>, Failure> {
        let Some(id) = object
            .get("previous_response_id")
            .filter(|text| *text != "null")
        else {
            return Ok(None);
        };
        let id: String = serde_json::from_str(id).map_err(|_| {
            Failure::new(
                Kind::InvalidRequest,
                "'previous_response_id' must be a string",
            )
            .param("previous_response_id")
        })?;
        let Some(before) = self.0.get(&(caller.name(), id.clone())) else {
            return Ok(None);
        };
        let input = format!("[{}]", joined(&before, &items(object.get("input"))?));
        let body = object.edit(&[
            Edit::Remove("previous_response_id"),
            Edit::Set("input", &input),
        ]);
        let object = RawObject::parse(body)?;
        let id = Some(id);
        Ok(Some(GoesOn { id, object }))
    }

    /// The input with items in the place of references to them; `None` where it refers to none that is kept here.
    fn with_items(&self, input: &str, owner: &Arc<str>) -> Option<String> {
        if !input.contains("item_reference") {
            return None;
        }
        let items: Vec<&RawValue> = serde_json::from_str(input).ok()?;
        let kept: Vec<Option<Arc<str>>> = items.iter().map(|item| self.item(item, owner)).collect();
        if kept.iter().all(Option::is_none) {
            return None;
        }
        let items: Vec<&str> = items
            .iter()
            .zip(&kept)
            .map(|(item, kept)| kept.as_deref().unwrap_or(item.get()))
            .collect();
        Some(format!("[{}]", items.join(",")))
    }

    fn item(&self, item: &RawValue, owner: &Arc<str>) -> Option<Arc<str>> {
        let reference: Reference<'_> = serde_json::from_str(item.get()).ok()?;
        if reference.kind != "item_reference" {
            return None;
        }
        self.0.get(&(owner.clone(), reference.id.into_owned()))
    }

    /// Keeps the answer to this call, unless its client wants none kept.
    pub fn keeper(&self, call: &Call) -> Keep {
        let object = match (&call.inbound.endpoint, &call.object) {
            (Endpoint::Responses, Some(object)) if object.get("store") != Some("false") => object,
            _ => return Keep::default(),
        };
        let Ok(input) = items(object.get("input")) else {
            return Keep::default();
        };
        let (cache, owner) = (self.0.clone(), call.inbound.caller.name());
        Keep::with(move |id, output| {
            for item in serde_json::from_str::<Vec<&RawValue>>(output).unwrap_or_default() {
                if let Ok(named) = serde_json::from_str::<Identified>(item.get()) {
                    cache.insert((owner.clone(), named.id), item.get().into());
                }
            }
            let output = output.strip_prefix('[').unwrap_or(output);
            let output = output.strip_suffix(']').unwrap_or(output);
            let conversation = joined(&input, output);
            if conversation.len() <= MOST_OF_ONE {
                cache.insert((owner.clone(), id.to_owned()), conversation.into());
            }
        })
    }
}

/// The items of an input, without brackets; a text is a user's message.
fn items(input: Option<&str>) -> Result<String, Failure> {
    let text = input.unwrap_or("[]").trim();
    if text.starts_with('"') {
        return Ok(format!(
            r#"{{"type":"message","role":"user","content":{text}}}"#
        ));
    }
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| {
        Failure::new(
            Kind::InvalidRequest,
            "'input' must be a text or a list of items",
        )
        .param("input")
    })?;
    let items: Vec<&str> = items.into_iter().map(RawValue::get).collect();
    Ok(items.join(","))
}

fn joined(before: &str, after: &str) -> String {
    match (before.is_empty(), after.is_empty()) {
        (true, _) => after.to_owned(),
        (_, true) => before.to_owned(),
        (false, false) => format!("{before},{after}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_what_they_refer_to_and_others_stay() {
        let kept = Kept::default();
        let (own, other): (Arc<str>, Arc<str>) = ("own".into(), "other".into());
        let item = r#"{"id":"rs_1","type":"reasoning","summary":[]}"#;
        kept.0.insert((own.clone(), "rs_1".to_owned()), item.into());
        let input = r#"[{"role":"user","content":"x"},{"type":"item_reference","id":"rs_1"},{"type":"item_reference","id":"rs_2"}]"#;
        let expected = format!(
            r#"[{{"role":"user","content":"x"}},{item},{{"type":"item_reference","id":"rs_2"}}]"#
        );
        assert_eq!(kept.with_items(input, &own), Some(expected));
        assert_eq!(kept.with_items(input, &other), None, "of another key");
        let text = r#""what is an item_reference?""#;
        assert_eq!(kept.with_items(text, &own), None);
    }
}
