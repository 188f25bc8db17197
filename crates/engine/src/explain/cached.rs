//! What the cache would do with a call.

use polygate_core::Failure;
use serde::Serialize;

use crate::cache::{Asked, Cache, Verdict};
use crate::call::Call;
use crate::config::CacheRule;
use crate::engine::Engine;
use crate::route::Route;
use crate::snapshot::Snapshot;

/// The rule of the cache that is for a call.
#[derive(Clone, Debug, Serialize)]
pub struct Cached {
    /// Its number, from 1.
    pub rule: usize,
    /// For which calls it is; empty: for all.
    pub when: String,
    /// How long answers are good.
    pub ttl_seconds: u64,
    /// Who gets the answers of whom.
    pub share: &'static str,
    /// Calls that ask the same wait for one another.
    pub coalesce: bool,
    /// Why it is not looked up all the same.
    pub why_not: Option<&'static str>,
    /// Whether there is an answer; `None` where that was not looked at: it would be in Redis, or guards come before.
    pub is_found: Option<bool>,
    /// How old that answer is.
    pub age_seconds: Option<u64>,
}

impl Engine {
    /// What the cache would do with this call; `None`: nothing.
    pub(super) fn cached(
        &self,
        snapshot: &Snapshot,
        call: &Call,
        route: &Route,
    ) -> Result<Option<Cached>, Failure> {
        let Some(cache) = &snapshot.cache else {
            return Ok(None);
        };
        let (rule, wish) = match cache.verdict(call)? {
            Verdict::NotAsked => return Ok(None),
            Verdict::Passed(rule, why) => return Ok(Some(Cached::of(cache, rule, Some(why)))),
            Verdict::LookedUp(rule, wish) => (rule, wish),
        };
        let mut cached = Cached::of(cache, rule, None);
        if cache.room() > 0 && snapshot.guards.of(call).is_empty() {
            let asked = Asked {
                snapshot,
                call,
                route,
                body: call.object.as_ref().map_or(&[], |object| object.bytes()),
            };
            let now = self.clock().unix_micros() / 1000;
            let found = cache.find_here(&cache.lookup(rule, wish, &asked), now);
            cached.is_found = Some(found.is_some());
            cached.age_seconds = found.map(|entry| entry.age(now).as_secs());
        }
        Ok(Some(cached))
    }
}

impl Cached {
    fn of(cache: &Cache, rule: &CacheRule, why_not: Option<&'static str>) -> Self {
        Self {
            rule: cache.number(rule),
            when: rule.when.to_string(),
            ttl_seconds: rule.ttl.as_secs(),
            share: rule.share.name(),
            coalesce: rule.coalesce,
            why_not,
            is_found: None,
            age_seconds: None,
        }
    }
}
