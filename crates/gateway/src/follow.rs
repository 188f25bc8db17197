//! Follows the documents of the store: what it says is passed on, and a store that is away costs nothing but staleness.

use std::sync::Arc;
use std::time::Duration;

use polygate_store::StoreError;
use polygate_store::config::Documents;
use tokio::sync::watch;

use crate::last_good::LastGood;
use crate::storage::{Opened, Unsettled};

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
    /// What is wrong, as it was said.
    trouble: Option<String>,
    known: Documents,
    told: watch::Sender<Arc<Documents>>,
    last_good: LastGood,
}

impl Follower {
    /// What is there at the start: of the store, or, where it is away, what was known last.
    pub async fn start(opened: Arc<Opened>, last_good: LastGood) -> anyhow::Result<Self> {
        let mut follower = Self {
            is_settled: opened.away.is_none(),
            trouble: opened.away.clone(),
            opened,
            is_current: false,
            known: Documents::default(),
            told: watch::Sender::default(),
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
        follower.told.send_replace(Arc::new(follower.known.clone()));
        Ok(follower)
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
            if self.round().await {
                self.told.send_replace(Arc::new(self.known.clone()));
            }
            if self.is_current && self.opened.is_shared {
                self.last_good.keep(&self.known).await;
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
                self.known = documents;
            }
            Ok(None) => tracing::warn!(
                away,
                "the database cannot be reached and nothing of it is known here: the file alone is served"
            ),
            Err(error) => tracing::error!(
                away,
                error,
                "the database cannot be reached and what was known last is of no use: the file alone is served"
            ),
        }
    }

    /// Asks once; whether there is something new.
    async fn round(&mut self) -> bool {
        let asked = match tokio::time::timeout(PATIENCE, self.ask()).await {
            Ok(asked) => asked,
            Err(_) => Err(Unsettled::Away("it does not answer".to_owned())),
        };
        let (trouble, is_new) = match asked {
            Ok(is_new) => (None, is_new),
            Err(Unsettled::Away(error)) => (Some(error), false),
            Err(Unsettled::Refused(refused)) => (Some(refused.0), false),
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
        is_new
    }

    async fn ask(&mut self) -> Result<bool, Unsettled> {
        if !self.is_settled {
            self.opened.settle().await?;
            self.is_settled = true;
        }
        let version = self.opened.store.version().await?;
        // What is known may be of another database, or of one that was restored since.
        let is_other = !self.is_current || version < self.known.version;
        if is_other || !self.catch_up(version).await? {
            let documents = self.opened.store.documents().await?;
            let is_new = documents != self.known;
            self.known = documents;
            self.is_current = true;
            return Ok(is_new);
        }
        Ok(self.told.borrow().version != self.known.version)
    }

    /// Applies what changed; whether that leads to this version.
    async fn catch_up(&mut self, version: i64) -> Result<bool, StoreError> {
        while self.known.version < version {
            let changes = self.opened.store.changes(self.known.version, PAGE).await?;
            if changes.is_empty() {
                return Ok(false);
            }
            self.known.apply(&changes);
        }
        Ok(true)
    }
}
