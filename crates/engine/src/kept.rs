//! Answers that Responses clients go on from (`previous_response_id`, `item_reference`), for upstreams that keep none themselves.
//!
//! Bounded by size and age, and per key: nobody goes on from another key's answer.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;
use moka::sync::Cache;
use polygate_core::{Failure, Kind};
use polygate_wire::raw::Edit;
use polygate_wire::{Keep, Keepsake, RawObject};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::admit::Caller;
use crate::call::{Call, Endpoint, Inbound, InboundBody};

/// The most bytes that are kept.
const MOST: u64 = 64 * 1024 * 1024;

/// The most bytes of one conversation.
const MOST_OF_ONE: usize = 4 * 1024 * 1024;

/// How long an answer is kept.
const AGE: Duration = Duration::from_secs(24 * 3600);

/// How many ids of one call are looked for elsewhere.
const MOST_RECALLED: usize = 16;

/// What an answer or an item of one is kept under: whose it is, and its id.
type Name = (Arc<str>, String);

/// Conversations by their last answer's id, and items of answers by their own ids.
#[derive(Clone, Debug)]
pub struct Kept {
    known: Cache<Name, Entry>,
    /// Where what other processes answered is found.
    elsewhere: Option<Arc<dyn Elsewhere>>,
}

/// What is kept under one id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// JSON of the item, or of the items of the conversation, without brackets.
    pub items: Arc<str>,
    /// The answer itself, of a conversation.
    pub answer: Option<Arc<str>>,
}

/// What is found of some ids.
pub type Found<'a> = Pin<Box<dyn Future<Output = Vec<(String, Entry)>> + Send + 'a>>;

/// Where answers are kept for other processes too.
pub trait Elsewhere: std::fmt::Debug + Send + Sync {
    /// Keeps one for so long. Nothing is waited for.
    fn keep(&self, owner: &Arc<str>, id: &str, entry: &Entry, age: Duration);
    /// Those that others kept for this owner. A call waits for it: soon, if with nothing.
    fn find<'a>(&'a self, owner: &'a str, ids: &'a [String]) -> Found<'a>;
    /// Forgets these. Nothing is waited for.
    fn forget(&self, owner: &str, ids: Vec<String>);
}

impl Default for Kept {
    fn default() -> Self {
        let weigh = |(_, id): &Name, entry: &Entry| {
            let answer = entry.answer.as_ref().map_or(0, |answer| answer.len());
            u32::try_from(id.len() + entry.items.len() + answer).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().max_capacity(MOST).weigher(weigh);
        Self {
            known: cache.time_to_live(AGE).build(),
            elsewhere: None,
        }
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

/// What of a body may refer to answers.
#[derive(Deserialize)]
struct Refers<'a> {
    #[serde(default, borrow)]
    previous_response_id: Option<&'a RawValue>,
    #[serde(default, borrow)]
    input: Option<&'a RawValue>,
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
    /// Keeps answers there too, and looks there for those that it does not know.
    pub fn share(&mut self, elsewhere: Arc<dyn Elsewhere>) {
        self.elsewhere = Some(elsewhere);
    }

    /// Learns what a call refers to that is not known here; `None` where there is nothing of that, which is almost always.
    pub(crate) fn recalling(
        &self,
        inbound: &Inbound,
    ) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        self.elsewhere.as_ref()?;
        let is_of_answers = matches!(
            inbound.endpoint,
            Endpoint::Responses | Endpoint::ResponsesCount
        );
        let InboundBody::Whole(body) = &inbound.body else {
            return None;
        };
        let ids = is_of_answers.then(|| references(body))?;
        if ids.is_empty() {
            return None;
        }
        let (kept, caller) = (self.clone(), inbound.caller.clone());
        Some(Box::pin(async move { kept.recall(&caller, ids).await }))
    }

    /// Learns what others kept for this caller under these ids.
    pub async fn recall(&self, caller: &Caller, mut ids: Vec<String>) {
        let Some(elsewhere) = &self.elsewhere else {
            return;
        };
        let owner = caller.name();
        ids.retain(|id| !self.known.contains_key(&(owner.clone(), id.clone())));
        if ids.is_empty() {
            return;
        }
        for (id, entry) in elsewhere.find(&owner, &ids).await {
            self.known.insert((owner.clone(), id), entry);
        }
    }

    /// The answer of this id, where it is kept for this caller.
    pub fn answer(&self, caller: &Caller, id: &str) -> Option<Arc<str>> {
        self.known.get(&(caller.name(), id.to_owned()))?.answer
    }

    /// Forgets an answer and its items; whether it was kept for this caller.
    pub fn forget(&self, caller: &Caller, id: &str) -> bool {
        let Some(answer) = self.answer(caller, id) else {
            return false;
        };
        let output: Result<Output, _> = serde_json::from_str(&answer);
        let items = output.into_iter().flat_map(|output| output.output);
        let items = items.map(|item| item.id);
        let ids: Vec<String> = items.chain([id.to_owned()]).collect();
        for id in &ids {
            self.known.invalidate(&(caller.name(), id.clone()));
        }
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.forget(&caller.name(), ids);
        }
        true
    }

    /// Another process forgot it.
    pub fn forgotten(&self, owner: &str, id: &str) {
        self.known.invalidate(&(owner.into(), id.to_owned()));
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
        let Some(before) = self.known.get(&(caller.name(), id.clone())) else {
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
        let entry = self
            .known
            .get(&(owner.clone(), reference.id.into_owned()))?;
        entry.answer.is_none().then_some(entry.items)
    }

    /// Keeps the answer to this call, unless its client wants none kept, or gets none.
    pub fn keeper(&self, call: &Call) -> Keep {
        let object = match (&call.inbound.endpoint, call.meant()) {
            _ if call.is_shadow => return Keep::default(),
            (Endpoint::Responses, Some(object)) if object.get("store") != Some("false") => object,
            _ => return Keep::default(),
        };
        let Ok(input) = items(object.get("input")) else {
            return Keep::default();
        };
        let (kept, owner) = (self.clone(), call.inbound.caller.name());
        let guarded = call.guarded.clone();
        Keep::with(move |sake| {
            // As the client gets it, and sends it again.
            let seen = |json| match &guarded {
                Some(guarded) => guarded.kept(json),
                None => Some(Cow::Borrowed(json)),
            };
            let (Some(output), Some(answer)) = (seen(sake.output), seen(sake.answer)) else {
                return;
            };
            let sake = Keepsake {
                id: sake.id,
                output: &output,
                answer: &answer,
            };
            for item in serde_json::from_str::<Vec<&RawValue>>(sake.output).unwrap_or_default() {
                if let Ok(named) = serde_json::from_str::<Identified>(item.get()) {
                    let items = item.get().into();
                    let answer = None;
                    kept.keep(&owner, named.id, Entry { items, answer });
                }
            }
            let output = sake.output.strip_prefix('[').unwrap_or(sake.output);
            let output = output.strip_suffix(']').unwrap_or(output);
            let conversation = joined(&input, output);
            if conversation.len() <= MOST_OF_ONE {
                let items = conversation.into();
                let answer = Some(sake.answer.into());
                kept.keep(&owner, sake.id.to_owned(), Entry { items, answer });
            }
        })
    }

    fn keep(&self, owner: &Arc<str>, id: String, entry: Entry) {
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.keep(owner, &id, &entry, AGE);
        }
        self.known.insert((owner.clone(), id), entry);
    }
}

/// The ids that a body refers to: the answer that it goes on from, and items of answers.
fn references(body: &[u8]) -> Vec<String> {
    let mentions = |word: &str| memmem::find(body, word.as_bytes()).is_some();
    if !mentions("previous_response_id") && !mentions("item_reference") {
        return Vec::new();
    }
    let Ok(refers) = serde_json::from_slice::<Refers<'_>>(body) else {
        // Who understands the call says what is wrong with it.
        return Vec::new();
    };
    let before = refers.previous_response_id;
    let before = before.and_then(|id| serde_json::from_str::<String>(id.get()).ok());
    let items = refers.input.filter(|input| input.get().starts_with('['));
    let items = items.and_then(|input| serde_json::from_str::<Vec<&RawValue>>(input.get()).ok());
    let items = items.into_iter().flatten().filter_map(|item| {
        let reference: Reference<'_> = serde_json::from_str(item.get()).ok()?;
        (reference.kind == "item_reference").then(|| reference.id.into_owned())
    });
    before
        .into_iter()
        .chain(items)
        .take(MOST_RECALLED)
        .collect()
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
        kept.known.insert((own.clone(), "rs_1".to_owned()), entry);
        let input = r#"[{"role":"user","content":"x"},{"type":"item_reference","id":"rs_1"},{"type":"item_reference","id":"rs_2"}]"#;
        let expected = format!(
            r#"[{{"role":"user","content":"x"}},{item},{{"type":"item_reference","id":"rs_2"}}]"#
        );
        assert_eq!(kept.with_items(input, &own), Some(expected));
        assert_eq!(kept.with_items(input, &other), None, "of another key");
        let text = r#""what is an item_reference?""#;
        assert_eq!(kept.with_items(text, &own), None);
    }

    #[test]
    fn a_body_is_searched_for_what_it_refers_to() {
        let found = |body: &str| references(body.as_bytes()).join(" ");
        for (body, expected) in [
            (
                r#"{"previous_response_id":"a\n","input":"item_reference"}"#,
                "a\n",
            ),
            (r#"{"previous_response_id":null,"input":[]}"#, ""),
            (r#"{"previous_response_id":7}"#, ""),
            (
                r#"{"input":[{"type":"item_reference","id":"x"},7,{"type":"message","id":"y"}],"previous_response_id":"p"}"#,
                "p x",
            ),
            (r#"{"previous_response_id""#, ""),
            ("", ""),
        ] {
            assert_eq!(found(body), expected, "{body}");
        }
        let many = r#"{"type":"item_reference","id":"x"},"#.repeat(100);
        let many = format!(r#"{{"input":[{}]}}"#, many.trim_end_matches(','));
        assert_eq!(references(many.as_bytes()).len(), MOST_RECALLED);
    }

    /// Another process's answers.
    #[derive(Debug)]
    struct There(Entry);

    impl Elsewhere for There {
        fn keep(&self, _: &Arc<str>, _: &str, _: &Entry, _: Duration) {}

        fn find<'a>(&'a self, owner: &'a str, ids: &'a [String]) -> Found<'a> {
            let ids = ids
                .iter()
                .filter(|id| owner == "anonymous" && *id == "resp_1");
            let found = ids.map(|id| (id.clone(), self.0.clone())).collect();
            Box::pin(std::future::ready(found))
        }

        fn forget(&self, _: &str, _: Vec<String>) {}
    }

    #[tokio::test]
    async fn what_is_not_known_here_is_found_elsewhere() {
        let mut kept = Kept::default();
        let caller = Caller::default();
        let ids = ["resp_1", "resp_2"].map(str::to_owned);
        kept.recall(&caller, ids.to_vec()).await;
        assert_eq!(kept.answer(&caller, "resp_1"), None);
        let answer = Some("{}".into());
        let items = "[]".into();
        kept.share(Arc::new(There(Entry { items, answer })));
        kept.recall(&caller, ids.to_vec()).await;
        assert_eq!(kept.answer(&caller, "resp_1").as_deref(), Some("{}"));
        assert_eq!(kept.answer(&caller, "resp_2"), None);
    }
}
