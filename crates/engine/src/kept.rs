//! Answers that Responses clients go on from (`previous_response_id`), for upstreams that keep none themselves.
//!
//! Bounded by size and age, and per key: nobody goes on from another key's answer.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use polygate_core::{Failure, Kind};
use polygate_wire::raw::Edit;
use polygate_wire::{Keep, RawObject};
use serde_json::value::RawValue;

use crate::admit::Caller;
use crate::call::{Call, Endpoint};

/// The most bytes that are kept.
const MOST: u64 = 64 * 1024 * 1024;

/// The most bytes of one conversation.
const MOST_OF_ONE: usize = 4 * 1024 * 1024;

/// How long an answer is kept.
const AGE: Duration = Duration::from_secs(24 * 3600);

/// What an answer is kept under: whose it is, and its id.
type Name = (Arc<str>, String);

/// Conversations by their last answer's id: the JSON of their items, without brackets.
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

/// A call that goes on from an answer that is kept here.
#[derive(Clone, Debug)]
pub struct GoesOn {
    /// The answer's id.
    pub id: String,
    /// The body, with the whole conversation in it.
    pub object: RawObject,
}

impl Kept {
    /// The body with the conversation so far in it, where the call goes on from an answer that is kept here.
    pub fn resolve(
        &self,
        endpoint: &Endpoint,
        object: &RawObject,
        caller: &Caller,
    ) -> Result<Option<GoesOn>, Failure> {
        if *endpoint != Endpoint::Responses {
            return Ok(None);
        }
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
        Ok(Some(GoesOn { id, object }))
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
