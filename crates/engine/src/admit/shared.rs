//! Keys that come and go one at a time: found without a lock, and written without touching more than a few of the others.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use super::{Found, Hash, Key};
use crate::config;
use crate::quota::Book;

/// A hundred thousand keys are a hundred a shard, which is what one key's write copies.
const SHARDS: usize = 1024;

type Shard = HashMap<Hash, Found>;

/// Keys beside those of the configuration, in shards that are swapped whole.
pub struct SharedKeys {
    shards: Box<[ArcSwap<Shard>]>,
    are_needed: AtomicBool,
    /// What is taken of limits, theirs and all others.
    book: Arc<Book>,
}

impl Default for SharedKeys {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl fmt::Debug for SharedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKeys")
    }
}

impl SharedKeys {
    /// No keys yet; what is taken of limits is in this book.
    pub fn new(book: Arc<Book>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            are_needed: AtomicBool::new(false),
            book,
        }
    }

    /// What is taken of limits.
    pub fn book(&self) -> &Arc<Book> {
        &self.book
    }

    /// Puts these in force, after taking away what is no key any more; those that are not enabled are none. For one writer at a time.
    pub fn apply(
        &self,
        gone: impl IntoIterator<Item = Hash>,
        here: impl IntoIterator<Item = (Hash, config::Key)>,
    ) {
        let mut sorted: HashMap<usize, Vec<(Hash, Option<Found>)>> = HashMap::new();
        let mut sort = |hash: Hash, found| {
            sorted.entry(place(&hash)).or_default().push((hash, found));
        };
        gone.into_iter().for_each(|hash| sort(hash, None));
        for (hash, key) in here {
            if !key.enabled {
                let previous = key.previous.map(|previous| previous.hash);
                previous
                    .into_iter()
                    .chain([hash])
                    .for_each(|hash| sort(hash, None));
                continue;
            }
            // A key that was replaced goes on with what it was.
            let before = key.previous.and_then(|previous| self.get(&previous.hash));
            let old = self.get(&hash).or(before).map(|found| found.key);
            for (hash, found) in Found::by(&key, hash, old.as_deref(), &self.book) {
                sort(hash, Some(found));
            }
        }
        for (place, changes) in sorted {
            let Some(shard) = self.shards.get(place) else {
                continue;
            };
            let mut keys = Shard::clone(&shard.load());
            for (hash, found) in changes {
                match found {
                    Some(found) => keys.insert(hash, found),
                    None => keys.remove(&hash),
                };
            }
            shard.store(Arc::new(keys));
        }
    }

    /// Says whether callers need a key even where the configuration has none.
    pub fn need(&self, are_needed: bool) {
        self.are_needed.store(are_needed, Ordering::Release);
    }

    /// Whether callers need a key.
    pub fn are_needed(&self) -> bool {
        self.are_needed.load(Ordering::Acquire)
    }

    /// The key of this name.
    pub(super) fn named(&self, name: &str) -> Option<Arc<Key>> {
        self.shards.iter().find_map(|shard| {
            let shard = shard.load();
            let found = shard.values().find(|found| &*found.key.name == name);
            found.map(|found| found.key.clone())
        })
    }

    /// The key of this hash.
    pub(super) fn get(&self, hash: &Hash) -> Option<Found> {
        self.shards.get(place(hash))?.load().get(hash).cloned()
    }
}

/// A hash is as good as chance.
fn place(hash: &Hash) -> usize {
    let [first, second, ..] = *hash;
    usize::from(u16::from_be_bytes([first, second])) % SHARDS
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    use polygate_core::Secret;

    use super::super::{KeyRing, keyed_hash};
    use super::*;
    use crate::config::{Access, RateLimit};

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn key(name: &str) -> config::Key {
        config::Key::new(name, Secret::new(""))
    }

    fn put(shared: &SharedKeys, hash: Hash, key: config::Key) {
        shared.apply([], [(hash, key)]);
    }

    #[test]
    fn keys_come_and_go_beside_those_of_the_configuration() {
        let shared = Arc::new(SharedKeys::default());
        let empty = KeyRing::of(&[7; 32], shared.clone());
        let access = |keys| Access {
            keys,
            ..Access::default()
        };
        let open = KeyRing::new(&access(None), Some(&empty));
        let own = config::Key {
            key: Secret::new("sk-own"),
            ..key("own")
        };
        let closed = KeyRing::new(&access(Some(vec![own])), Some(&open));
        let name = |ring: &KeyRing, shown| {
            let caller = ring.authenticate(Some(shown), HERE, 0);
            caller.map(|caller| caller.name().to_string()).ok()
        };
        let hash = |shown| keyed_hash(&open.pepper, shown);
        assert_eq!(name(&open, "sk-1").as_deref(), Some("anonymous"));
        put(&shared, hash("sk-1"), key("one"));
        shared.need(true);
        for ring in [&open, &closed] {
            assert_eq!(name(ring, "sk-1").as_deref(), Some("one"));
            assert_eq!(name(ring, "sk-2"), None);
        }
        assert_eq!(name(&closed, "sk-own").as_deref(), Some("own"));
        let disabled = config::Key {
            enabled: false,
            ..key("one")
        };
        put(&shared, hash("sk-1"), disabled);
        assert_eq!(name(&open, "sk-1"), None);
        shared.apply([hash("sk-1")], []);
        shared.need(false);
        assert_eq!(name(&open, "sk-1").as_deref(), Some("anonymous"));
        assert_eq!(name(&closed, "sk-1"), None);
    }

    #[test]
    fn a_limit_keeps_its_state_when_its_key_is_written_again() {
        let shared = SharedKeys::default();
        let limited = |strict| config::Key {
            strict,
            bounds: config::Bounds {
                rate_limit: Some(RateLimit {
                    requests_per_second: 1,
                    burst_size: 2,
                }),
                ..config::Bounds::default()
            },
            ..key("one")
        };
        let admitted = |hash: u8| {
            let key = shared.get(&[hash; 32]).map(|found| found.key);
            let caller = super::super::Caller { key, team: None };
            caller.admit("m", Duration::from_secs(9)).is_ok()
        };
        put(&shared, [1; 32], limited(false));
        assert!(admitted(1));
        put(&shared, [1; 32], limited(true));
        assert!(admitted(1));
        assert!(!admitted(1));
        // Replaced by another, which shares its limits as long as both are good.
        let previous = Some(config::Previous {
            hash: [1; 32],
            until: 100,
        });
        let replaced = config::Key {
            previous,
            ..limited(true)
        };
        put(&shared, [2; 32], replaced);
        assert!(!admitted(1) && !admitted(2));
        let found = shared.get(&[1; 32]).expect("until its end");
        assert!(found.clone().key(99).is_ok());
        assert!(found.key(100).is_err_and(|failure| failure.status == 401));
    }

    #[test]
    fn one_key_among_very_many_is_written_at_once() {
        let shared = SharedKeys::default();
        let hash = |number: u32| {
            let mut hash = [0; 32];
            let scattered = number.wrapping_mul(2_654_435_761).to_be_bytes();
            hash.iter_mut()
                .zip(scattered)
                .for_each(|(to, from)| *to = from);
            hash
        };
        shared.apply([], (0..100_000).map(|number| (hash(number), key("many"))));
        let start = Instant::now();
        for number in 0..100 {
            put(&shared, hash(number), key("again"));
        }
        // A copy of all of them would take many times as long.
        let took = start.elapsed();
        assert!(took < Duration::from_millis(500), "{took:?}");
        let name = |number| {
            shared
                .get(&hash(number))
                .map(|found| found.key.name.to_string())
        };
        assert_eq!(name(99).as_deref(), Some("again"));
        assert_eq!(name(99_999).as_deref(), Some("many"));
    }
}
