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

/// Conversations by their last answer's id, and items of answers by their own ids.
#[derive(Clone, Debug)]
pub struct Kept(Cache<Name, Entry>);

#[derive(Clone, Debug)]
struct Entry {
    /// JSON of the item, or of the items of the conversation, without brackets.
    items: Arc<str>,
    /// The answer itself, of a conversation.
    answer: Option<Arc<str>>,
}

impl Default for Kept {
    fn default() -> Self {
        let weigh = |(_, id): &Name, entry: &Entry| {
            let answer = entry.answer.as_ref().map_or(0, |answer| answer.len());
            u32::try_from(id.len() + entry.items.len() + answer).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().max_capacity(MOST).weigher(weigh);
        Self(cache.time_to_live(AGE).build())
    }
}

/// What stands in a call's body of what was said before: the client never sent that, and nothing may be told of it as if it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continued {
    /// The answer that the call goes on from.
    pub id: String,
    /// How many items of the input are the conversation so far.
    kept: usize,
    /// The client's own input was a text.
    is_text: bool,
}

impl Continued {
    /// A pointer into the body as one into the client's own request.
    pub fn pointer(&self, pointer: &str) -> String {
        let own = pointer
            .strip_prefix("/input/")
            .and_then(|rest| self.own(rest, rest.find('/')));
        match own {
            None => pointer.to_owned(),
            Some(Own::Before) => "/previous_response_id".to_owned(),
            Some(Own::Text) => "/input".to_owned(),
            Some(Own::Item(at, rest)) => format!("/input/{at}{rest}"),
        }
    }

    /// A failure told of the client's own request.
    pub fn failure(&self, mut failure: Failure) -> Failure {
        let Some(param) = &failure.param else {
            return failure;
        };
        let own = param
            .strip_prefix("input[")
            .and_then(|rest| self.own(rest, rest.find(']')));
        let own = match own {
            None => self.pointer(param),
            Some(Own::Before) => "previous_response_id".to_owned(),
            Some(Own::Text) => "input".to_owned(),
            Some(Own::Item(at, rest)) => format!("input[{at}{rest}"),
        };
        failure.message = failure.message.replace(param.as_str(), &own);
        failure.param = Some(own);
        failure
    }

    /// Where in the client's request the item stands that `text` begins with the number of.
    fn own<'a>(&self, text: &'a str, end: Option<usize>) -> Option<Own<'a>> {
        let (number, rest) = text.split_at_checked(end.unwrap_or(text.len()))?;
        Some(match number.parse::<usize>().ok()?.checked_sub(self.kept) {
            None => Own::Before,
            Some(_) if self.is_text => Own::Text,
            Some(at) => Own::Item(at, rest),
        })
    }
}

/// Whose an item of the body is.
enum Own<'a> {
    /// Of the conversation so far.
    Before,
    /// The client's text.
    Text,
    /// The client's item of this number, and what of it.
    Item(usize, &'a str),
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

#[derive(Deserialize)]
struct Output {
    output: Vec<Identified>,
}

impl Kept {
    /// The answer of this id, where it is kept for this caller.
    pub fn answer(&self, caller: &Caller, id: &str) -> Option<Arc<str>> {
        self.0.get(&(caller.name(), id.to_owned()))?.answer
    }

    /// Forgets an answer and its items; whether it was kept for this caller.
    pub fn forget(&self, caller: &Caller, id: &str) -> bool {
        let Some(answer) = self.answer(caller, id) else {
            return false;
        };
        let output: Result<Output, _> = serde_json::from_str(&answer);
        let items = output.into_iter().flat_map(|output| output.output);
        for Identified { id } in items {
            self.0.invalidate(&(caller.name(), id));
        }
        self.0.invalidate(&(caller.name(), id.to_owned()));
        true
    }

    /// The body with what was said before in it, where the call goes on from what is kept here.
    pub fn resolve(
        &self,
        endpoint: &Endpoint,
        object: &RawObject,
        caller: &Caller,
    ) -> Result<Option<(RawObject, Option<Continued>)>, Failure> {
        if !matches!(endpoint, Endpoint::Responses | Endpoint::ResponsesCount) {
            return Ok(None);
        }
        let input = object.get("input");
        let Some(input) = input.and_then(|input| self.with_items(input, &caller.name())) else {
            return self.continued(object, caller);
        };
        let object = RawObject::parse(object.edit(&[Edit::Set("input", &input)]))?;
        let continued = self.continued(&object, caller)?;
        Ok(Some(continued.unwrap_or((object, None))))
    }

    /// The body with the conversation so far in it.
    fn continued(
        &self,
        object: &RawObject,
        caller: &Caller,
    ) -> Result<Option<(RawObject, Option<Continued>)>, Failure> {
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
        let before = before.items;
        let input = object.get("input");
        let continued = Continued {
            id,
            kept: count(&before),
            is_text: input.is_some_and(|input| input.starts_with('"')),
        };
        let input = format!("[{}]", joined(&before, &items(input)?));
        let body = object.edit(&[
            Edit::Remove("previous_response_id"),
            Edit::Set("input", &input),
        ]);
        Ok(Some((RawObject::parse(body)?, Some(continued))))
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
        let entry = self.0.get(&(owner.clone(), reference.id.into_owned()))?;
        entry.answer.is_none().then_some(entry.items)
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
        Keep::with(move |sake| {
            for item in serde_json::from_str::<Vec<&RawValue>>(sake.output).unwrap_or_default() {
                if let Ok(named) = serde_json::from_str::<Identified>(item.get()) {
                    let items = item.get().into();
                    let answer = None;
                    cache.insert((owner.clone(), named.id), Entry { items, answer });
                }
            }
            let output = sake.output.strip_prefix('[').unwrap_or(sake.output);
            let output = output.strip_suffix(']').unwrap_or(output);
            let conversation = joined(&input, output);
            if conversation.len() <= MOST_OF_ONE {
                let items = conversation.into();
                let answer = Some(sake.answer.into());
                cache.insert((owner.clone(), sake.id.to_owned()), Entry { items, answer });
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

/// How many items these are.
fn count(items: &str) -> usize {
    let list = format!("[{items}]");
    let items: Vec<&RawValue> = serde_json::from_str(&list).unwrap_or_default();
    items.len()
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
    fn what_is_told_is_told_of_the_clients_own_request() {
        let continued = Continued {
            id: "resp_1".to_owned(),
            kept: count(r#"{"a":[1,2]},{"b":1}"#),
            is_text: false,
        };
        for (in_body, own) in [
            ("/input/1/content/0", "/previous_response_id"),
            ("/input/2", "/input/0"),
            ("/input/13/content/4/text", "/input/11/content/4/text"),
            ("/tools/0/strict", "/tools/0/strict"),
        ] {
            assert_eq!(continued.pointer(in_body), own);
        }
        let failure = |param: &str| {
            let message = format!("'{param}' is missing");
            let failure = Failure::new(Kind::InvalidRequest, message).param(param);
            let failure = continued.failure(failure);
            (failure.message, failure.param)
        };
        let own = "input[1].call_id";
        let expected = (format!("'{own}' is missing"), Some(own.to_owned()));
        assert_eq!(failure("input[3].call_id"), expected);
        assert_eq!(
            failure("input[0].x").1.as_deref(),
            Some("previous_response_id")
        );
        assert_eq!(failure("/input/4/name").1.as_deref(), Some("/input/2/name"));
        assert_eq!(failure("temperature").1.as_deref(), Some("temperature"));
        let text = Continued {
            is_text: true,
            ..continued
        };
        assert_eq!(text.pointer("/input/2/content"), "/input");
    }

    #[test]
    fn references_become_what_they_refer_to_and_others_stay() {
        let kept = Kept::default();
        let (own, other): (Arc<str>, Arc<str>) = ("own".into(), "other".into());
        let item = r#"{"id":"rs_1","type":"reasoning","summary":[]}"#;
        let entry = Entry {
            items: item.into(),
            answer: None,
        };
        kept.0.insert((own.clone(), "rs_1".to_owned()), entry);
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
