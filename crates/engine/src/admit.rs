//! Who may call, what, and how often: keys by keyed hash, one atomic per rate limit.

mod shared;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use polygate_core::{Failure, Kind};

use crate::config::{self, Access, RateLimit};
use crate::pattern::Pattern;
use crate::quota::{Quota, Standing};
use crate::seats::{COME_AGAIN, Limit, Seat};

pub use shared::SharedKeys;

/// The keys of one configuration. Keys are found by a keyed hash, so that neither time nor memory tells one.
#[derive(Debug)]
pub struct KeyRing {
    pepper: hmac::Key,
    keys: Option<HashMap<Hash, Arc<Key>>>,
    /// Those that come and go without the rest of the configuration.
    shared: Arc<SharedKeys>,
    allow_anonymous: bool,
}

/// What a key is found by.
pub type Hash = [u8; 32];

/// A key of a caller, with its limit's state.
#[derive(Debug)]
pub struct Key {
    /// Shown instead of the key.
    pub name: Arc<str>,
    /// What translation would lose is refused.
    pub strict: bool,
    allowed_models: Vec<Pattern>,
    limiter: Option<Limiter>,
    seats: Option<Limit>,
    quota: Option<Arc<Quota>>,
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key; `None` where none are configured.
    pub key: Option<Arc<Key>>,
}

impl KeyRing {
    /// No keys yet: those to come are hashed with this pepper, and found beside these.
    pub fn of(pepper: &[u8; 32], shared: Arc<SharedKeys>) -> Self {
        Self {
            pepper: hmac::Key::new(hmac::HMAC_SHA256, pepper),
            keys: None,
            shared,
            allow_anonymous: false,
        }
    }

    /// The keys of this configuration. Limits that stay the same keep their state.
    pub fn new(access: &Access, before: Option<&KeyRing>) -> Self {
        let pepper = before.map_or_else(new_pepper, |before| before.pepper.clone());
        let keys = access.keys.as_ref().map(|keys| {
            let enabled = keys.iter().filter(|key| key.enabled);
            enabled.map(|key| {
                let hash = keyed_hash(&pepper, key.key.reveal());
                let old = before.and_then(|before| before.keys.as_ref()?.get(&hash));
                (hash, Arc::new(Key::new(key, old.map(Arc::as_ref))))
            })
        });
        Self {
            keys: keys.map(Iterator::collect),
            shared: before
                .map(|before| before.shared.clone())
                .unwrap_or_default(),
            allow_anonymous: access.allow_anonymous,
            pepper,
        }
    }

    /// Whether callers need a key.
    pub fn needs_key(&self) -> bool {
        self.keys.is_some() || self.shared.are_needed()
    }

    /// Finds out who calls: by the key they show, or, where no keys are configured, by where they call from.
    pub fn authenticate(&self, shown: Option<&str>, peer: IpAddr) -> Result<Caller, Failure> {
        if !self.needs_key() {
            return if self.allow_anonymous || is_nearby(peer) {
                Ok(Caller { key: None })
            } else {
                Err(not_nearby())
            };
        }
        let Some(shown) = shown else {
            let message = "no API key: send it as 'Authorization: Bearer KEY', 'x-api-key', 'x-goog-api-key' or 'api-key'";
            return Err(Failure::new(Kind::Unauthenticated, message));
        };
        let hash = keyed_hash(&self.pepper, shown);
        let own = self.keys.as_ref().and_then(|keys| keys.get(&hash)).cloned();
        let key = own
            .or_else(|| self.shared.get(&hash))
            .ok_or_else(|| Failure::new(Kind::Unauthenticated, "this API key is not known here"))?;
        Ok(Caller { key: Some(key) })
    }
}

impl Caller {
    /// The key's name, or `anonymous`.
    pub fn name(&self) -> Arc<str> {
        static ANONYMOUS: LazyLock<Arc<str>> = LazyLock::new(|| "anonymous".into());
        self.key
            .as_ref()
            .map_or_else(|| ANONYMOUS.clone(), |key| key.name.clone())
    }

    /// Whether the key may use this model.
    pub fn may_use(&self, model: &str) -> bool {
        let Some(key) = &self.key else { return true };
        key.allowed_models.is_empty()
            || key
                .allowed_models
                .iter()
                .any(|pattern| pattern.matches(model))
    }

    /// Whether the key is for certain models only.
    pub fn has_model_list(&self) -> bool {
        self.key
            .as_ref()
            .is_some_and(|key| !key.allowed_models.is_empty())
    }

    /// What limits the key's amounts, where anything does.
    pub fn quota(&self) -> Option<&Arc<Quota>> {
        self.key.as_ref()?.quota.as_ref()
    }

    /// How the key's limits stand; seconds since 1970.
    pub fn standings(&self, now: u64) -> impl Iterator<Item = Standing> {
        let quota = self.quota().into_iter();
        quota.flat_map(move |quota| quota.standings(now))
    }

    /// Lets one call of this model in, with its seat where these are counted, or says who limits it and until when.
    pub fn admit(&self, model: &str, now: Duration) -> Result<Option<Seat>, Failure> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        if !self.may_use(model) {
            return Err(Failure::new(
                Kind::Forbidden,
                format!("key '{}' may not use model '{model}'", key.name),
            )
            .param("model"));
        }
        // First: a call that there is no seat for is not counted as made.
        let seat = key.seat()?;
        let Some(limiter) = &key.limiter else {
            return Ok(seat);
        };
        let taken = limiter.take(now).map_err(|wait| {
            let RateLimit { requests_per_second, burst_size } = limiter.limit;
            let message = format!("key '{}' is limited to {requests_per_second} requests per second (burst {burst_size})", key.name);
            Failure::new(Kind::RateLimited, message).retry_after(wait)
        });
        taken.map(|()| seat)
    }
}

impl Key {
    /// A key as it is configured; limits that stay the same keep their state.
    fn new(key: &config::Key, old: Option<&Key>) -> Self {
        let limiter = key
            .rate_limit
            .map(|limit| Limiter::new(limit, old.and_then(|old| old.limiter.as_ref())));
        let seats = old.and_then(|old| old.seats.as_ref());
        let seats = seats.map(|limit| limit.seats.clone()).unwrap_or_default();
        let quota = Quota::new(&key.limits, old.and_then(|old| old.quota.as_deref()));
        Self {
            name: key.name.as_str().into(),
            strict: key.strict,
            allowed_models: key.allowed_models.clone(),
            limiter,
            seats: key.max_concurrent.map(|most| Limit { seats, most }),
            quota: (!key.limits.is_empty()).then(|| Arc::new(quota)),
        }
    }

    fn seat(&self) -> Result<Option<Seat>, Failure> {
        let Some(limit) = &self.seats else {
            return Ok(None);
        };
        let seat = limit.take().ok_or_else(|| {
            let message = format!(
                "key '{}' has {} calls under way, as many as it may have at a time",
                self.name, limit.most
            );
            Failure::new(Kind::RateLimited, message).retry_after(Some(COME_AGAIN))
        });
        seat.map(Some)
    }
}

/// A rate with a burst as one number: the moment at which all that was let in would have been due (GCRA).
#[derive(Debug)]
struct Limiter {
    limit: RateLimit,
    /// Nanoseconds of the clock.
    due: AtomicU64,
}

impl Limiter {
    fn new(limit: RateLimit, before: Option<&Limiter>) -> Self {
        let due = before
            .filter(|before| before.limit == limit)
            .map_or(0, |before| before.due.load(Ordering::Relaxed));
        Self {
            limit,
            due: AtomicU64::new(due),
        }
    }

    /// One request; or how long to wait, `None` where no wait helps. Exact however many ask at once.
    fn take(&self, now: Duration) -> Result<(), Option<Duration>> {
        let Some(interval) =
            1_000_000_000_u64.checked_div(u64::from(self.limit.requests_per_second))
        else {
            return Err(None);
        };
        let tolerance = interval * u64::from(self.limit.burst_size.max(1));
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
        let mut due = self.due.load(Ordering::Relaxed);
        loop {
            let next = due.max(now).saturating_add(interval);
            if next - now > tolerance {
                return Err(Some(Duration::from_nanos(next - now - tolerance)));
            }
            match self
                .due
                .compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(seen) => due = seen,
            }
        }
    }
}

/// Loopback and private addresses: who may call where no keys are configured.
fn is_nearby(peer: IpAddr) -> bool {
    match peer.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

fn not_nearby() -> Failure {
    let message = "no keys are configured, so only callers on loopback and private addresses are served; \
                   configure master_keys, or set 'allow_anonymous: true' to open the gateway to everyone";
    Failure::new(Kind::Unauthenticated, message)
}

fn keyed_hash(pepper: &hmac::Key, key: &str) -> Hash {
    let tag = hmac::sign(pepper, key.as_bytes());
    let mut hash = [0; 32];
    hash.iter_mut()
        .zip(tag.as_ref())
        .for_each(|(to, from)| *to = *from);
    hash
}

/// Whether two secrets are the same, in a time that tells nothing of where they differ.
pub fn same_secret(shown: &str, secret: &str) -> bool {
    !secret.is_empty()
        && aws_lc_rs::constant_time::verify_slices_are_equal(shown.as_bytes(), secret.as_bytes())
            .is_ok()
}

fn new_pepper() -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use polygate_core::Secret;

    fn ring(keys: Option<Vec<config::Key>>) -> KeyRing {
        KeyRing::new(
            &Access {
                keys,
                allow_anonymous: false,
            },
            None,
        )
    }

    fn key(limit: Option<(u32, u32)>, models: &[&str]) -> config::Key {
        config::Key {
            name: "one".to_owned(),
            key: Secret::new("sk-1"),
            enabled: true,
            strict: false,
            allowed_models: models
                .iter()
                .map(|model| Pattern::mapping(model).expect("valid"))
                .collect(),
            rate_limit: limit.map(|(requests_per_second, burst_size)| RateLimit {
                requests_per_second,
                burst_size,
            }),
            max_concurrent: None,
            limits: vec![],
        }
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn without_a_key_section_only_neighbours_are_served() {
        assert!(ring(None).authenticate(None, HERE).is_ok());
        assert!(
            ring(None)
                .authenticate(Some("any"), "10.1.2.3".parse().expect("ip"))
                .is_ok()
        );
        assert!(
            ring(None)
                .authenticate(None, "::ffff:192.168.1.1".parse().expect("ip"))
                .is_ok()
        );
        let failure = ring(None)
            .authenticate(None, "8.8.8.8".parse().expect("ip"))
            .expect_err("public");
        assert!(failure.message.contains("allow_anonymous: true"));
    }

    #[test]
    fn an_empty_key_section_is_closed() {
        assert!(ring(Some(vec![])).authenticate(Some("sk-1"), HERE).is_err());
        let disabled = config::Key {
            enabled: false,
            ..key(None, &[])
        };
        assert!(
            ring(Some(vec![disabled]))
                .authenticate(Some("sk-1"), HERE)
                .is_err()
        );
        assert!(
            ring(Some(vec![key(None, &[])]))
                .authenticate(Some("sk-1"), HERE)
                .is_ok()
        );
        assert!(
            ring(Some(vec![key(None, &[])]))
                .authenticate(Some("sk-"), HERE)
                .is_err()
        );
    }

    #[test]
    fn models_are_allowed_by_name_wildcard_and_expression() {
        let caller = ring(Some(vec![key(None, &["gpt-4o", "claude-*", "o[13].*"])]))
            .authenticate(Some("sk-1"), HERE)
            .expect("known");
        for (model, allowed) in [
            ("gpt-4o", true),
            ("gpt-4o-mini", false),
            ("claude-3", true),
            ("o3-mini", true),
            ("o2", false),
        ] {
            assert_eq!(
                caller.admit(model, Duration::ZERO).is_ok(),
                allowed,
                "{model}"
            );
        }
    }

    #[test]
    fn a_limit_lets_in_its_burst_and_then_its_rate() {
        let caller = ring(Some(vec![key(Some((10, 5)), &[])]))
            .authenticate(Some("sk-1"), HERE)
            .expect("known");
        let at = |millis| Duration::from_millis(millis);
        let admitted = |now, times: usize| {
            (0..times)
                .filter(|_| caller.admit("m", now).is_ok())
                .count()
        };
        assert_eq!(admitted(at(1000), 20), 5);
        assert_eq!(admitted(at(1099), 20), 0);
        assert_eq!(admitted(at(1100), 20), 1);
        assert_eq!(admitted(at(1500), 20), 4);
        let failure = caller.admit("m", at(1500)).expect_err("over");
        assert_eq!((failure.status, failure.retry_after), (429, Some(at(100))));
        assert_eq!(admitted(at(60_000), 20), 5);
    }

    #[test]
    fn a_limit_is_exact_however_many_ask_at_once() {
        let caller = ring(Some(vec![key(Some((1, 100)), &[])]))
            .authenticate(Some("sk-1"), HERE)
            .expect("known");
        let admitted: usize = std::thread::scope(|scope| {
            let run = || {
                (0..200)
                    .filter(|_| caller.admit("m", Duration::from_secs(9)).is_ok())
                    .count()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(run)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or(0))
                .sum()
        });
        assert_eq!(admitted, 100);
    }

    #[test]
    fn zero_requests_per_second_blocks() {
        let caller = ring(Some(vec![key(Some((0, 5)), &[])]))
            .authenticate(Some("sk-1"), HERE)
            .expect("known");
        let failure = caller.admit("m", Duration::ZERO).expect_err("blocked");
        assert_eq!((failure.status, failure.retry_after), (429, None));
    }
}
