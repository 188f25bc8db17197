//! Answers that are kept for calls that ask the same again: for which calls, what it is that they ask, and where the answers are.
//!
//! A call is looked up once it is admitted. What is found is given as it was; what is not is asked for, and kept if it comes to a
//! good end (`tape`). Nothing of this is done where the configuration has no `cache`.

mod answers;
mod decided;
mod entry;
mod flights;
mod key;
mod memory;
mod shaping;
mod tape;
mod wish;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use polygate_core::Failure;

use crate::call::{Call, Endpoint};
use crate::config::{self, CacheRule, CacheStore, Config, Share};
use crate::route::Route;
use crate::snapshot::{Snapshot, Upstream};

pub use answers::{Answers, Elsewhere, Forgotten, Found, Purged, Replicas, Size, Told};
pub use entry::Entry;
pub(crate) use entry::Head;
pub(crate) use flights::{Joined, Lead, Turn};
pub use key::Key;
pub(crate) use tape::Tape;
use wish::Wish;

/// The cache of one configuration.
#[derive(Debug)]
pub struct Cache {
    rules: Vec<CacheRule>,
    store: CacheStore,
    max_bytes: usize,
    max_entry: usize,
    /// What of the configuration shapes answers.
    shape: [u8; 32],
    /// Headers of clients that reach providers.
    headers: Vec<HeaderName>,
    answers: Arc<Answers>,
}

/// Whether a call is looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict<'a> {
    /// No rule is for it.
    NotAsked,
    /// A rule is for it, and all the same it is not looked up.
    Passed(&'a CacheRule, &'static str),
    /// It is, as it wishes.
    LookedUp(&'a CacheRule, Wish),
}

/// What a call is looked up by, and what becomes of its answer.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    pub key: Key,
    pub wish: Wish,
    pub coalesce: bool,
    ttl: Duration,
}

/// A call with what has a say in its answer.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub snapshot: &'a Snapshot,
    pub call: &'a Call,
    pub route: &'a Route,
    /// The body as it came.
    pub body: &'a [u8],
}

/// What makes a call one that leaves or needs something at a provider, by the member that says so.
const STATEFUL: [(&str, Says); 5] = [
    ("previous_response_id", Says::Anything),
    ("conversation", Says::Anything),
    ("container", Says::Anything),
    ("background", Says::True),
    ("store", Says::True),
];

/// What a member has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Anything,
    True,
}

/// Gemini's methods that answer with a model's work.
const GEMINI_METHODS: [&str; 2] = ["embedContent", "batchEmbedContents"];

impl Cache {
    /// The cache of a configuration; `None` where it has none.
    pub fn compile(
        config: &Config,
        upstreams: &[Arc<Upstream>],
        answers: &Arc<Answers>,
    ) -> Option<Self> {
        let config::Cache {
            store,
            max_bytes,
            max_entry,
            rules,
        } = config.cache.as_ref()?;
        let mut headers: Vec<HeaderName> = forwarded(config, upstreams).collect();
        headers.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        headers.dedup();
        Some(Self {
            rules: rules.clone(),
            store: *store,
            max_bytes: *max_bytes,
            max_entry: *max_entry,
            shape: shaping::shaping(config),
            headers,
            answers: answers.clone(),
        })
    }

    /// How many bytes there may be of answers in memory.
    pub(crate) fn room(&self) -> usize {
        match self.store {
            CacheStore::Memory => self.max_bytes,
            CacheStore::Redis => 0,
        }
    }

    /// Whether this call is looked up. `Err`: it wishes what cannot be meant.
    pub(crate) fn verdict(&self, call: &Call) -> Result<Verdict<'_>, Failure> {
        if !has_answers(&call.inbound.endpoint) {
            return Ok(Verdict::NotAsked);
        }
        let wish = Wish::read(&call.inbound.headers)?;
        let is_for = |rule: &&CacheRule| (wish.asks || !rule.on_request) && rule.when.holds(call);
        let Some(rule) = self.rules.iter().find(is_for) else {
            return Ok(Verdict::NotAsked);
        };
        Ok(if wish.is_off {
            Verdict::Passed(rule, "the request wants no cache")
        } else if is_stateful(call) {
            let why = "it goes on from what a provider keeps, or has it keep something";
            Verdict::Passed(rule, why)
        } else if hides(call) {
            Verdict::Passed(rule, "guards hide something in it, and put it back")
        } else {
            Verdict::LookedUp(rule, wish)
        })
    }

    /// The number of a rule, from 1.
    pub(crate) fn number(&self, rule: &CacheRule) -> usize {
        let mut rules = self.rules.iter();
        let at = rules.position(|one| std::ptr::eq(one, rule));
        at.map_or(0, |at| at + 1)
    }

    /// What a call is looked up by.
    pub(crate) fn lookup(&self, rule: &CacheRule, wish: Wish, asked: &Asked<'_>) -> Lookup {
        let Asked {
            snapshot,
            call,
            route,
            body,
        } = *asked;
        let around = key::Around {
            share: rule.share,
            shape: &self.shape,
            decided: &decided::decided(snapshot, call, route),
            headers: &self.headers,
        };
        Lookup {
            key: key::of(call, body, &around),
            // Whom a webhook is asked for is part of the question to it.
            coalesce: rule.coalesce
                && wish.takes_any()
                && !call.guarded.as_ref().is_some_and(|guarded| guarded.asks()),
            ttl: wish.ttl.map_or(rule.ttl, |ttl| ttl.min(rule.ttl)),
            wish,
        }
    }

    /// The answer that is kept, where there is one that the call takes. The moment is in milliseconds since 1970.
    pub(crate) async fn find(&self, lookup: &Lookup, now: i64) -> Option<Arc<Entry>> {
        if self.store == CacheStore::Memory || lookup.wish.is_fresh_wanted {
            return self.find_here(lookup, now);
        }
        // In a box: most calls do without.
        let found = Box::pin(self.answers.there(&lookup.key)).await;
        found.filter(|entry| lookup.takes(entry, now))
    }

    /// The same in memory.
    pub(crate) fn find_here(&self, lookup: &Lookup, now: i64) -> Option<Arc<Entry>> {
        let found = self.answers.here(&lookup.key);
        found.filter(|entry| lookup.takes(entry, now))
    }

    /// Joins those who ask the same.
    pub(crate) fn join(&self, lookup: &Lookup) -> Joined {
        let name = (lookup.key, self.answers.epoch());
        self.answers.flights().join(name)
    }

    /// What takes the answer down as it goes to the client.
    pub(crate) fn tape(&self, lookup: Lookup, lead: Option<Lead>) -> Tape {
        Tape::new(tape::Parts {
            key: lookup.key,
            ttl: lookup.ttl,
            most: self.max_entry,
            store: self.store,
            epoch: self.answers.epoch(),
            answers: self.answers.clone(),
            lead,
        })
    }
}

impl Lookup {
    /// Whether this answer is one for it.
    fn takes(&self, entry: &Entry, now: i64) -> bool {
        !self.wish.is_fresh_wanted && entry.is_good(now) && self.wish.takes(entry.age(now))
    }
}

/// Headers of clients that reach one of the providers.
fn forwarded<'a>(
    config: &'a Config,
    upstreams: &'a [Arc<Upstream>],
) -> impl Iterator<Item = HeaderName> + 'a {
    upstreams.iter().flat_map(|one| {
        let provider = config.providers.iter().find(|own| *own.name == *one.name);
        let own = provider.and_then(|provider| provider.header_policy.forward.as_ref());
        let rules = own.unwrap_or(&one.said.forward).rules();
        rules.iter().map(|rule| rule.name.clone())
    })
}

/// Whether a model answers there.
fn has_answers(endpoint: &Endpoint) -> bool {
    match endpoint {
        Endpoint::Chat
        | Endpoint::Completions
        | Endpoint::Embeddings
        | Endpoint::Responses
        | Endpoint::Messages
        | Endpoint::Generate { .. } => true,
        Endpoint::GeminiMethod(method) => GEMINI_METHODS.contains(&&**method),
        Endpoint::ResponsesCount | Endpoint::CountTokens | Endpoint::Proxy(_) => false,
    }
}

/// Whether the call goes on from something that is kept for its client, or leaves something that its client may go on from, or
/// delete. Answers of Responses are kept unless the request says otherwise.
fn is_stateful(call: &Call) -> bool {
    let Some(object) = &call.object else {
        return true;
    };
    let says = |(member, says): &(&str, Says)| match object.get(member) {
        None | Some("null") => false,
        Some(text) => *says == Says::Anything || text == "true",
    };
    let is_kept =
        call.inbound.endpoint == Endpoint::Responses && object.get("store") != Some("false");
    call.continued.is_some() || is_kept || STATEFUL.iter().any(says)
}

/// Whether guards took something out of the request that is nobody else's business, and put it back into the answer.
fn hides(call: &Call) -> bool {
    let guarded = call.guarded.as_ref();
    guarded.is_some_and(|guarded| guarded.restores())
}

#[cfg(test)]
mod tests;
