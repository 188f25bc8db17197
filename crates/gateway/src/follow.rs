//! Follows the documents of the store: what it says is passed on, and a store that is away costs nothing but staleness.

mod keys;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use polygate_engine::admit::SharedKeys;
use polygate_store::StoreError;
use polygate_store::config::{Change, Documents, Kind};
use tokio::sync::watch;

use crate::config::documents::Base;
use crate::last_good::LastGood;
use crate::storage::{Opened, Unsettled};

pub use keys::KeyBook;

/// How often the store is asked, notices aside.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long one round may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// So many changes are asked for at a time.
const PAGE: u32 = 1_000;

/// Passes on what the store says.
pub struct Follower {
    opened: Arc<Opened>,
    /// The tables are as they should be, and the key is the right one.
    is_settled: bool,
    /// Everything was read from the store at least once.
    is_current: bool,
    /// Something other than keys is known that was not passed on yet.
    is_news: bool,
    /// What is wrong, as it was said.
    trouble: Option<String>,
    known: Known,
    /// Keys in force.
    keys: Arc<SharedKeys>,
    told: watch::Sender<Arc<Documents>>,
    followed: watch::Sender<Followed>,
    last_good: LastGood,
}

/// How far the database is followed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Followed {
    /// Its version.
    pub version: i64,
    /// Since when; microseconds since 1970.
    pub since: i64,
    /// It could not be read when it was last asked.
    pub is_away: bool,
}

/// What is known: keys may be very many and change one at a time, so they are apart.
struct Known {
    /// Everything but keys.
    others: Documents,
    /// The keys.
    book: Arc<KeyBook>,
}

impl Known {
    /// All of it.
    fn whole(&self) -> Documents {
        let mut documents = self.book.documents();
        documents.extend(self.others.documents.iter().cloned());
        documents.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        Documents {
            version: self.others.version,
            documents,
        }
    }

    /// Becomes this; whether anything but keys is another than before.
    fn replace(&mut self, whole: Documents, keys: &SharedKeys) -> bool {
        let version = whole.version;
        let (now, documents): (Vec<_>, Vec<_>) = whole
            .documents
            .into_iter()
            .partition(|document| document.kind == Kind::Key);
        let gone: Vec<String> = {
            let names: HashSet<&str> = now.iter().map(|document| document.name.as_str()).collect();
            let mut known = self.book.names();
            known.retain(|name| !names.contains(name.as_str()));
            known
        };
        let gone = gone.into_iter().map(|name| (name, None));
        let now = now
            .into_iter()
            .map(|document| (document.name.clone(), Some(document)));
        self.book.put(gone.chain(now), keys);
        let is_new = documents != self.others.documents;
        self.others = Documents { version, documents };
        is_new
    }

    /// Goes on by these; whether anything but keys is another than before.
    fn apply(&mut self, changes: Vec<Change>, keys: &SharedKeys) -> bool {
        let last = changes.iter().map(|change| change.version).max();
        let (of_keys, of_others): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|change| change.kind == Kind::Key);
        let of_keys = of_keys
            .into_iter()
            .map(|change| (change.name, change.after));
        self.book.put(of_keys, keys);
        if !of_others.is_empty() {
            self.others.apply(&of_others);
        }
        self.others.version = self.others.version.max(last.unwrap_or_default());
        !of_others.is_empty()
    }
}

impl Follower {
    /// What is there at the start: of the store, or, where it is away, what was known last.
    pub async fn start(
        opened: Arc<Opened>,
        last_good: LastGood,
        keys: Arc<SharedKeys>,
        base: &Base,
    ) -> anyhow::Result<Self> {
        let known = Known {
            others: Documents::default(),
            book: Arc::default(),
        };
        known.book.yield_to(base.key_names(), &keys);
        let mut follower = Self {
            is_settled: opened.away.is_none(),
            trouble: opened.away.clone(),
            opened,
            is_current: false,
            is_news: false,
            known,
            keys,
            told: watch::Sender::default(),
            followed: watch::Sender::default(),
            last_good,
        };
        if follower.is_settled {
            follower.round().await;
        }
        if !follower.is_current {
            anyhow::ensure!(
                follower.opened.is_shared,
                "the database cannot be read: {}",
                follower.trouble.unwrap_or_default()
            );
            follower.take_last_good();
        }
        follower
            .told
            .send_replace(Arc::new(follower.known.others.clone()));
        follower.say_how_far();
        Ok(follower)
    }

    /// How far it follows, now and later.
    pub fn followed(&self) -> watch::Receiver<Followed> {
        self.followed.subscribe()
    }

    /// The keys that it knows.
    pub fn book(&self) -> Arc<KeyBook> {
        self.known.book.clone()
    }

    /// Told after the documents are: who waits for a version finds them.
    fn say_how_far(&self) {
        let version = self.known.others.version;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = since.map_or(0, |since| {
            i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
        });
        let is_away = self.trouble.is_some();
        self.followed.send_if_modified(|followed| {
            followed.is_away = is_away;
            let is_news = followed.version != version || followed.since == 0;
            if is_news {
                (followed.version, followed.since) = (version, since);
            }
            is_news
        });
    }

    /// What is known, now and later.
    pub fn documents(&self) -> watch::Receiver<Arc<Documents>> {
        self.told.subscribe()
    }

    /// Follows for ever.
    pub async fn run(mut self) {
        let mut notices = self.opened.store.notices();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut hears = true;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                heard = notices.changed(), if hears => hears = heard.is_ok(),
            }
            self.round().await;
            if std::mem::take(&mut self.is_news) {
                self.told.send_replace(Arc::new(self.known.others.clone()));
            }
            self.say_how_far();
            if self.is_current && self.opened.is_shared {
                let known = &self.known;
                self.last_good
                    .keep(known.others.version, || known.whole())
                    .await;
            }
        }
    }

    fn take_last_good(&mut self) {
        let away = self.trouble.clone().unwrap_or_default();
        match self.last_good.read() {
            Ok(Some(documents)) => {
                tracing::warn!(
                    away,
                    version = documents.version,
                    "the database cannot be reached: what was known last is served"
                );
                self.known.replace(documents, &self.keys);
            }
            Ok(None) => {
                // Who may call is not known: nobody may without a key.
                self.keys.need(true);
                tracing::warn!(
                    away,
                    "the database cannot be reached and nothing of it is known here: the file alone is served"
                );
            }
            Err(error) => {
                self.keys.need(true);
                tracing::error!(
                    away,
                    error,
                    "the database cannot be reached and what was known last is of no use: the file alone is served"
                );
            }
        }
    }

    /// Asks once.
    async fn round(&mut self) {
        let asked = match tokio::time::timeout(PATIENCE, self.ask()).await {
            Ok(asked) => asked,
            Err(_) => Err(Unsettled::Away("it does not answer".to_owned())),
        };
        let trouble = match asked {
            Ok(()) => None,
            Err(Unsettled::Away(error)) => Some(error),
            Err(Unsettled::Refused(refused)) => Some(refused.0),
        };
        match (&self.trouble, &trouble) {
            (None, Some(error)) => {
                tracing::warn!(
                    error,
                    "the database cannot be read: what is known is served"
                );
            }
            (Some(_), None) => tracing::info!("the database is followed again"),
            _ => {}
        }
        self.trouble = trouble;
    }

    async fn ask(&mut self) -> Result<(), Unsettled> {
        if !self.is_settled {
            self.opened.settle().await?;
            self.is_settled = true;
        }
        let version = self.opened.store.version().await?;
        // What is known may be of another database, or of one that was restored since.
        let is_other = !self.is_current || version < self.known.others.version;
        if is_other || !self.catch_up(version).await? {
            let documents = self.opened.store.documents().await?;
            self.is_news |= self.known.replace(documents, &self.keys);
            self.is_current = true;
        }
        Ok(())
    }

    /// Applies what changed; whether that leads to this version.
    async fn catch_up(&mut self, version: i64) -> Result<bool, StoreError> {
        while self.known.others.version < version {
            let known = self.known.others.version;
            let changes = self.opened.store.changes(known, PAGE).await?;
            if changes.is_empty() {
                return Ok(false);
            }
            self.is_news |= self.known.apply(changes, &self.keys);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use polygate_core::Secret;
    use polygate_engine::admit::KeyRing;
    use polygate_store::Sealer;
    use polygate_store::config::{Expect, Put, Write};

    use super::*;
    use crate::config::documents::tests::base;

    async fn write(opened: &Opened, kind: Kind, name: &str, body: Option<String>) -> i64 {
        let put = Put {
            kind,
            name: name.to_owned(),
            body,
            expect: Expect::Anything,
        };
        let write = Write {
            actor: "tester".to_owned(),
            action: "test".to_owned(),
            at: 1,
            puts: vec![put],
        };
        opened.store.write(write).await.expect("written")
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_version_finds_what_it_wrote() {
        let sealer = Sealer::new(&Secret::new("a secret of some length")).expect("a sealer");
        let opened = Arc::new(Opened::memory(Arc::new(sealer)));
        let keys = Arc::new(SharedKeys::default());
        let dir = tempfile::tempdir().expect("a directory");
        let last_good = LastGood::new(dir.path(), opened.sealer.check());
        write(&opened, Kind::Team, "first", Some("{}".to_owned())).await;
        let follower = Follower::start(opened.clone(), last_good, keys.clone(), &base()).await;
        let follower = follower.expect("started");
        let (documents, mut followed) = (follower.documents(), follower.followed());
        assert_eq!(followed.borrow().version, 1);
        assert_eq!(documents.borrow().documents.len(), 1);
        let ring = KeyRing::of(opened.sealer.pepper(), keys);
        let is_known = || {
            let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
            ring.authenticate(Some("sk-known"), here, 0)
                .is_ok_and(|caller| caller.key.is_some())
        };
        let running = tokio::spawn(follower.run());
        for round in 0..10 {
            let version = write(
                &opened,
                Kind::Team,
                &format!("t{round}"),
                Some("{}".to_owned()),
            )
            .await;
            followed
                .wait_for(|followed| followed.version >= version)
                .await
                .expect("followed");
            assert_eq!(documents.borrow().documents.len(), 2 + round);
            let body = format!(r#"{{"key_hash": "{}"}}"#, opened.sealer.hash("sk-known"));
            for (body, expected) in [(Some(body), true), (None, false)] {
                let version = write(&opened, Kind::Key, "k", body).await;
                followed
                    .wait_for(|followed| followed.version >= version)
                    .await
                    .expect("followed");
                assert_eq!(is_known(), expected);
            }
        }
        running.abort();
    }
}
