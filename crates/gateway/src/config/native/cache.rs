//! `cache`: which answers are kept, for how long, and who gets them.

use std::time::Duration;

use polygate_engine::config::{Cache, CacheRule, CacheStore, Config, Share};

use crate::config::condition::when;
use crate::config::pieces::set;
use crate::config::problem::Problem;
use crate::config::reader::{Item, Section};

/// Unless the file says otherwise.
const TTL: Duration = Duration::from_secs(300);
const MAX_BYTES: usize = 64 << 20;
const MAX_ENTRY: usize = 1 << 20;

const STORES: [(&str, CacheStore); 2] =
    [("memory", CacheStore::Memory), ("redis", CacheStore::Redis)];

const SHARES: [(&str, Share); 3] = [
    ("key", Share::Key),
    ("team", Share::Team),
    ("all", Share::All),
];

/// What rules have unless they say it themselves.
#[derive(Clone, Copy)]
struct Usual {
    ttl: Duration,
    share: Share,
}

/// `cache`.
pub fn cache(section: Section<'_>) -> Option<Cache> {
    let is_on = section.boolean("enabled") != Some(false);
    let mut cache = Cache {
        store: CacheStore::Memory,
        max_bytes: MAX_BYTES,
        max_entry: MAX_ENTRY,
        rules: Vec::new(),
    };
    set(&mut cache.store, section.word("store", &STORES));
    set(&mut cache.max_bytes, section.bytes("max_bytes"));
    set(&mut cache.max_entry, section.bytes("max_entry"));
    if cache.store == CacheStore::Memory && cache.max_entry > cache.max_bytes {
        section.error(
            "max_entry",
            "is more than 'max_bytes': no such answer could be kept",
        );
    }
    let usual = Usual {
        ttl: section.patience("ttl").unwrap_or(TTL),
        share: section.word("share", &SHARES).unwrap_or_default(),
    };
    let rules = section.items("rules");
    cache.rules = rules.iter().filter_map(|item| rule(item, usual)).collect();
    if rules.is_empty() && is_on {
        let message = "is missing: answers are kept for those calls only that a rule is for; '- {}' is for all";
        section.error("rules", message);
    }
    section.finish();
    is_on.then_some(cache)
}

fn rule(item: &Item<'_>, usual: Usual) -> Option<CacheRule> {
    let section = item.section()?;
    let rule = CacheRule {
        when: when(&section),
        ttl: section.patience("ttl").unwrap_or(usual.ttl),
        share: section.word("share", &SHARES).unwrap_or(usual.share),
        coalesce: section.boolean("coalesce").unwrap_or_default(),
        on_request: section.boolean("on_request").unwrap_or_default(),
    };
    section.finish();
    Some(rule)
}

/// What is wrong where answers are to be kept in Redis, and there is none.
pub fn without_redis(config: &Config, has_redis: bool) -> Option<Problem> {
    let cache = config.cache.as_ref()?;
    let has_redis = has_redis || config.redis_url.is_some();
    let is_wrong = cache.store == CacheStore::Redis && !has_redis;
    is_wrong.then(|| {
        Problem::general(
            "cache.store",
            "there is no Redis: set REDIS_URL or redis_url",
        )
    })
}
