//! What the cache would do with a call.

use polygate_core::Failure;
use serde::Serialize;

use crate::cache::{Cache, Verdict};
use crate::call::Call;
use crate::config::CacheRule;
use crate::engine::Engine;

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
}

impl Engine {
    /// What the cache would do with this call; `None`: nothing. Whether it has an answer is not looked at.
    pub(super) fn cached(&self, call: &Call) -> Result<Option<Cached>, Failure> {
        let snapshot = self.snapshot();
        let Some(cache) = &snapshot.cache else {
            return Ok(None);
        };
        Ok(match cache.verdict(call)? {
            Verdict::NotAsked => None,
            Verdict::Passed(rule, why) => Some(Cached::of(cache, rule, Some(why))),
            Verdict::LookedUp(rule, _) => Some(Cached::of(cache, rule, None)),
        })
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
        }
    }
}
