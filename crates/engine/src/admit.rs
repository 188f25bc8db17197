//! Who may call, what, and how often: keys by keyed hash, one atomic per rate limit.

mod bounds;
pub mod network;
mod shared;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use polygate_core::{Failure, Kind, moment};

use crate::config::{self, Access, Role};
use crate::quota::{Book, Quota, Subject, SubjectKind};
use crate::seats::Seat;
use network::Network;

pub use bounds::Bounds;
pub use shared::SharedKeys;

/// The keys of one configuration. Keys are found by a keyed hash, so that neither time nor memory tells one.
#[derive(Debug)]
pub struct KeyRing {
    pepper: hmac::Key,
    keys: Option<HashMap<Hash, Found>>,
    teams: HashMap<Arc<str>, Arc<Team>>,
    /// Those that come and go without the rest of the configuration.
    shared: Arc<SharedKeys>,
    allow_anonymous: bool,
}

/// What a key is found by.
pub type Hash = [u8; 32];

/// A key of a caller, with the state of its bounds.
#[derive(Debug)]
pub struct Key {
    /// Shown instead of the key.
    pub name: Arc<str>,
    /// What translation would lose is refused.
    pub strict: bool,
    /// Its team's name.
    pub team: Option<Arc<str>>,
    /// What its calls are counted under.
    pub tags: Arc<[String]>,
    /// What it may do beside calling models.
    pub role: Option<Role>,
    /// It may see why its calls go where they go.
    pub explain: bool,
    expires: Option<u64>,
    allowed_ips: Vec<Network>,
    bounds: Bounds,
}

/// What keys have in common, with the state of its bounds.
#[derive(Debug)]
pub struct Team {
    /// What it is called.
    pub name: Arc<str>,
    /// What its calls are counted under.
    pub tags: Arc<[String]>,
    is_enabled: bool,
    bounds: Bounds,
}

/// A key as it is found by a hash.
#[derive(Clone, Debug)]
struct Found {
    key: Arc<Key>,
    /// How long this hash finds it; seconds since 1970.
    until: Option<u64>,
}

/// Who calls.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The key; `None` where none are configured.
    pub key: Option<Arc<Key>>,
    /// The key's team.
    pub team: Option<Arc<Team>>,
}

impl KeyRing {
    /// No keys yet: those to come are hashed with this pepper, and found beside these.
    pub fn of(pepper: &[u8; 32], shared: Arc<SharedKeys>) -> Self {
        Self {
            pepper: hmac::Key::new(hmac::HMAC_SHA256, pepper),
            keys: None,
            teams: HashMap::new(),
            shared,
            allow_anonymous: false,
        }
    }

    /// The keys of this configuration. Limits that stay the same keep their state.
    pub fn new(access: &Access, before: Option<&KeyRing>) -> Self {
        let pepper = before.map_or_else(new_pepper, |before| before.pepper.clone());
        let shared = before
            .map(|before| before.shared.clone())
            .unwrap_or_default();
        let book = shared.book();
        let keys = access.keys.as_ref().map(|keys| {
            let enabled = keys.iter().filter(|key| key.enabled);
            enabled.flat_map(|key| {
                let hash = key
                    .hash
                    .unwrap_or_else(|| keyed_hash(&pepper, key.key.reveal()));
                let old = before.and_then(|before| before.keys.as_ref()?.get(&hash));
                Found::by(key, hash, old.map(|found| &*found.key), book)
            })
        });
        let teams = access.teams.iter().map(|team| {
            let old = before.and_then(|before| before.teams.get(&*team.name));
            let team = Team::new(team, old.map(Arc::as_ref), book);
            (team.name.clone(), Arc::new(team))
        });
        Self {
            keys: keys.map(Iterator::collect),
            teams: teams.collect(),
            shared: shared.clone(),
            allow_anonymous: access.allow_anonymous,
            pepper,
        }
    }

    /// Whether callers need a key.
    pub fn needs_key(&self) -> bool {
        self.keys.is_some() || self.shared.are_needed()
    }

    /// Finds out who calls: by the key they show, or, where no keys are configured, by where they call from. The moment is in
    /// seconds since 1970.
    pub fn authenticate(
        &self,
        shown: Option<&str>,
        peer: IpAddr,
        now: u64,
    ) -> Result<Caller, Failure> {
        if !self.needs_key() {
            return if self.allow_anonymous || is_nearby(peer) {
                Ok(Caller::default())
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
        let found = own
            .or_else(|| self.shared.get(&hash))
            .ok_or_else(|| Failure::new(Kind::Unauthenticated, "this API key is not known here"))?;
        let key = found.key(now)?;
        key.check(peer, now)?;
        let team = key.team.as_ref().map(|name| self.team(name, &key.name));
        Ok(Caller {
            team: team.transpose()?,
            key: Some(key),
        })
    }

    /// Calls with the key of this name, for whoever only looks: its hash is not needed for that.
    pub fn named(&self, name: &str) -> Option<Caller> {
        let mut own = self.keys.iter().flat_map(HashMap::values);
        let own = own.find(|found| &*found.key.name == name);
        let key = own.map(|found| found.key.clone());
        let key = key.or_else(|| self.shared.named(name))?;
        let team = key.team.as_ref().map(|team| self.team(team, &key.name));
        Some(Caller {
            team: team.transpose().ok()?,
            key: Some(key),
        })
    }

    /// A key's team.
    fn team(&self, name: &str, key: &str) -> Result<Arc<Team>, Failure> {
        let team = self.teams.get(name).ok_or_else(|| {
            let message = format!("key '{key}' is of team '{name}', which is not known here");
            Failure::new(Kind::Forbidden, message)
        })?;
        if !team.is_enabled {
            let message = format!("team '{name}' of key '{key}' is disabled");
            return Err(Failure::new(Kind::Forbidden, message));
        }
        Ok(team.clone())
    }
}

impl Caller {
    /// Whether its key has not ended; seconds since 1970.
    pub(crate) fn in_force(&self, now: u64) -> Result<(), Failure> {
        self.key.as_ref().map_or(Ok(()), |key| key.in_force(now))
    }

    /// The key's name, or `anonymous`.
    pub fn name(&self) -> Arc<str> {
        static ANONYMOUS: LazyLock<Arc<str>> = LazyLock::new(|| "anonymous".into());
        self.key
            .as_ref()
            .map_or_else(|| ANONYMOUS.clone(), |key| key.name.clone())
    }

    /// The bounds that hold for the call: the key's, then the team's.
    fn bounds(&self) -> impl Iterator<Item = &Bounds> {
        let key = self.key.iter().map(|key| &key.bounds);
        key.chain(self.team.iter().map(|team| &team.bounds))
    }

    /// What the call is counted under: the key's tags, and its team's.
    pub fn tags(&self) -> [Option<Arc<[String]>>; 2] {
        let some = |tags: &Arc<[String]>| (!tags.is_empty()).then(|| tags.clone());
        let key = self.key.as_ref().and_then(|key| some(&key.tags));
        let team = self.team.as_ref().and_then(|team| some(&team.tags));
        [key, team]
    }

    /// Whether the key may use this model.
    pub fn may_use(&self, model: &str) -> bool {
        self.bounds().all(|bounds| bounds.allow(model))
    }

    /// Whether the key is for certain models only.
    pub fn has_model_list(&self) -> bool {
        self.bounds().any(Bounds::has_model_list)
    }

    /// What limits amounts, where anything does.
    pub fn quotas(&self) -> impl Iterator<Item = &Arc<Quota>> {
        self.bounds().filter_map(Bounds::quota)
    }

    /// Refuses a model that the key or its team may not use.
    pub fn allowed(&self, model: &str) -> Result<(), Failure> {
        let forbids = self.bounds().find(|bounds| !bounds.allow(model));
        forbids.map_or(Ok(()), |bounds| Err(bounds.forbid(model)))
    }

    /// Lets one call of this model in, with its seats where these are counted, or says who limits it and until when.
    pub fn admit(&self, model: &str, now: Duration) -> Result<[Option<Seat>; 2], Failure> {
        self.allowed(model)?;
        // First: a call that there is no seat for is not counted as made.
        let mut seats = [None, None];
        for (seat, bounds) in seats.iter_mut().zip(self.bounds()) {
            *seat = bounds.seat()?;
        }
        for (at, bounds) in self.bounds().enumerate() {
            if let Err(failure) = bounds.request(now) {
                self.bounds().take(at).for_each(Bounds::forget_request);
                return Err(failure);
            }
        }
        Ok(seats)
    }
}

impl Caller {
    /// Whether a call of this model would be let in now, as by [`Caller::admit`]. Nothing is counted.
    pub fn look(&self, model: &str, now: Duration) -> Result<(), Failure> {
        self.allowed(model)?;
        self.bounds().try_for_each(|bounds| bounds.look(now))
    }
}

impl Key {
    /// A key as it is configured; limits that stay the same keep their state.
    fn new(key: &config::Key, old: Option<&Key>, book: &Book) -> Self {
        let name: Arc<str> = key.name.as_str().into();
        let subject = Subject::new(SubjectKind::Key, name.clone());
        Self {
            bounds: Bounds::new(subject, &key.bounds, old.map(|old| &old.bounds), book),
            name,
            strict: key.strict,
            team: key.team.as_deref().map(Arc::from),
            tags: key.tags.as_slice().into(),
            role: key.role,
            explain: key.explain,
            expires: key.expires,
            allowed_ips: key.allowed_ips.clone(),
        }
    }

    /// Whether it may be used now, and from there.
    fn check(&self, peer: IpAddr, now: u64) -> Result<(), Failure> {
        self.in_force(now)?;
        let is_of = |network: &Network| network.has(peer);
        if !self.allowed_ips.is_empty() && !self.allowed_ips.iter().any(is_of) {
            let message = format!(
                "key '{}' may not be used from {}",
                self.name,
                peer.to_canonical()
            );
            return Err(Failure::new(Kind::Forbidden, message));
        }
        Ok(())
    }

    /// Whether it has not ended.
    fn in_force(&self, now: u64) -> Result<(), Failure> {
        if let Some(expires) = self.expires.filter(|expires| *expires <= now) {
            let message = format!("this API key expired at {}", moment::text(expires));
            return Err(Failure::new(Kind::Unauthenticated, message));
        }
        Ok(())
    }
}

impl Team {
    fn new(team: &config::Team, old: Option<&Team>, book: &Book) -> Self {
        let name: Arc<str> = team.name.as_str().into();
        let subject = Subject::new(SubjectKind::Team, name.clone());
        Self {
            bounds: Bounds::new(subject, &team.bounds, old.map(|old| &old.bounds), book),
            name,
            tags: team.tags.as_slice().into(),
            is_enabled: team.enabled,
        }
    }
}

impl Found {
    /// The key, where it is still found by this hash.
    fn key(self, now: u64) -> Result<Arc<Key>, Failure> {
        match self.until.filter(|until| *until <= now) {
            Some(until) => {
                let message = format!(
                    "this API key was replaced, and ended at {}",
                    moment::text(until)
                );
                Err(Failure::new(Kind::Unauthenticated, message))
            }
            None => Ok(self.key),
        }
    }

    /// What a key is found by: its hash, and the one before it.
    fn by(
        key: &config::Key,
        hash: Hash,
        old: Option<&Key>,
        book: &Book,
    ) -> impl Iterator<Item = (Hash, Found)> + use<> {
        let made = Arc::new(Key::new(key, old, book));
        let before = key.previous.map(|previous| {
            let until = Some(previous.until);
            (
                previous.hash,
                Found {
                    key: made.clone(),
                    until,
                },
            )
        });
        // The key of now is stronger, should both be one.
        before.into_iter().chain([(
            hash,
            Found {
                key: made,
                until: None,
            },
        )])
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
mod tests;
