//! What replicas tell one another through the store. What rests here is a hint, so nothing is waited for and nothing is told twice; a
//! purge of the cache is waited for by the admin who asked for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use polygate_engine::Engine;
use polygate_engine::cache::{self, Replicas};
use polygate_engine::health::Reason;
use polygate_engine::observe::SignalCounters;
use polygate_engine::signals::Signal;
use polygate_store::signals::{LONGEST, SignalStore};
use polygate_store_redis::RedisStore;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::storage::Opened;

/// How many are told at a time, and the pause before the next: what comes meanwhile goes together.
const BATCH: usize = 32;
const PAUSE: Duration = Duration::from_millis(20);

/// How long telling may take. What is older is no news.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is told: who tells, and what.
#[derive(Serialize, Deserialize)]
struct Word {
    from: String,
    #[serde(default)]
    rests: Vec<Told>,
    /// Answers that were forgotten: of which key, and which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    forgets: Vec<(String, String)>,
    /// Of which models answers were purged from the cache; `None`: of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    purges: Vec<Option<String>>,
}

/// The word that an answer is forgotten.
pub fn forgotten(owner: &str, id: &str) -> String {
    let word = Word {
        forgets: vec![(owner.to_owned(), id.to_owned())],
        ..Word::from(0)
    };
    serde_json::to_string(&word).unwrap_or_default()
}

impl Word {
    /// Nothing, told by this one.
    fn from(own: u64) -> Self {
        Self {
            from: format!("{own:016x}"),
            rests: Vec::new(),
            forgets: Vec::new(),
            purges: Vec::new(),
        }
    }
}

/// Tells other replicas that answers were purged from the cache.
struct Purges {
    own: u64,
    store: Arc<dyn SignalStore>,
}

impl fmt::Debug for Purges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purges").finish_non_exhaustive()
    }
}

impl Replicas for Purges {
    fn purge<'a>(&'a self, model: Option<&'a str>) -> cache::Told<'a> {
        Box::pin(async move {
            let word = Word {
                purges: vec![model.map(str::to_owned)],
                ..Word::from(self.own)
            };
            let text = serde_json::to_string(&word).map_err(|error| error.to_string())?;
            match timeout(PATIENCE, self.store.tell(&text)).await {
                Ok(told) => told.map_err(|error| error.to_string()),
                Err(_) => Err("replicas could not be told in time".to_owned()),
            }
        })
    }
}

/// A signal as it travels. Clocks differ, so it has no moment.
#[derive(Serialize, Deserialize)]
struct Told {
    provider: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credential: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<Arc<str>>,
    reason: String,
    ms: u64,
}

impl Told {
    fn of(signal: &Signal) -> Self {
        Self {
            provider: signal.provider.clone(),
            credential: signal.credential.clone(),
            model: signal.model.clone(),
            reason: signal.reason.name().to_owned(),
            ms: u64::try_from(signal.wait.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn signal(self) -> Option<Signal> {
        Some(Signal {
            provider: self.provider,
            credential: self.credential,
            model: self.model,
            reason: Reason::named(&self.reason)?,
            wait: Duration::from_millis(self.ms),
        })
    }
}

/// Tells and hears until it is dropped.
pub struct Sharing([JoinHandle<()>; 2]);

impl Drop for Sharing {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Sharing {
    /// Where words go: through Redis where there is one, else through a database that replicas share. `None`: there is neither.
    pub fn place(opened: &Opened, redis: Option<&Arc<RedisStore>>) -> Option<Arc<dyn SignalStore>> {
        let redis = redis.map(|redis| redis.clone() as Arc<dyn SignalStore>);
        let shared = || opened.is_shared.then(|| opened.store.clone() as _);
        redis.or_else(shared)
    }

    /// Begins; `None` where somebody shares already.
    pub fn start(engine: &Arc<Engine>, store: &Arc<dyn SignalStore>) -> Option<Self> {
        let signals = engine.signals().listen()?;
        let own: u64 = rand::random();
        let store = store.clone();
        engine.answers().tell(Arc::new(Purges {
            own,
            store: store.clone(),
        }));
        let telling = tell(
            own,
            signals,
            store.clone(),
            engine.signals().counters().clone(),
        );
        let hearing = hear(own, engine.clone(), store.clone());
        Some(Self([tokio::spawn(telling), tokio::spawn(hearing)]))
    }
}

async fn tell(
    own: u64,
    mut signals: mpsc::Receiver<Signal>,
    store: Arc<dyn SignalStore>,
    counters: SignalCounters,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while signals.recv_many(&mut batch, BATCH).await > 0 {
        for word in words(own, &batch) {
            let count = word.rests.len();
            let told = match serde_json::to_string(&word) {
                Ok(text) => timeout(PATIENCE, store.tell(&text)).await,
                Err(_) => continue,
            };
            for _ in 0..count {
                match told {
                    Ok(Ok(())) => counters.told(),
                    _ => counters.dropped(),
                }
            }
        }
        batch.clear();
        sleep(PAUSE).await;
    }
}

/// As few words as hold them. One that is too long by itself is told to nobody.
fn words(own: u64, batch: &[Signal]) -> Vec<Word> {
    let mut words: Vec<(usize, Word)> = Vec::new();
    for signal in batch {
        let told = Told::of(signal);
        let size = serde_json::to_string(&told).map_or(LONGEST, |text| text.len() + 1);
        match words.last_mut() {
            Some((length, word)) if *length + size <= LONGEST => {
                *length += size;
                word.rests.push(told);
            }
            _ => {
                let word = Word {
                    rests: vec![told],
                    ..Word::from(own)
                };
                words.push((size + 64, word));
            }
        }
    }
    words.into_iter().map(|(_, word)| word).collect()
}

async fn hear(own: u64, engine: Arc<Engine>, store: Arc<dyn SignalStore>) {
    let mut heard = store.told();
    loop {
        match heard.recv().await {
            Ok(text) => heed(own, &engine, &text),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Whoever may write to the store may have written this: what cannot be read is nothing.
fn heed(own: u64, engine: &Engine, text: &str) {
    let word = serde_json::from_str::<Word>(text).ok();
    let from = word
        .as_ref()
        .and_then(|word| u64::from_str_radix(&word.from, 16).ok());
    let Some((word, from)) = word.zip(from) else {
        engine.signals().counters().ignored();
        return;
    };
    if from == own {
        return;
    }
    for (owner, id) in word.forgets {
        engine.kept().forgotten(&owner, &id);
    }
    for model in word.purges {
        let purged = engine.answers().purge_here(model.as_deref()).count;
        tracing::debug!(?model, purged, "another replica purged the cache");
    }
    for told in word.rests {
        match told.signal() {
            Some(signal) => {
                let is_known = engine.learn(from, &signal);
                tracing::debug!(?signal, is_known, "another replica tells of a rest");
            }
            None => engine.signals().counters().ignored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(provider: &str, model: Option<&str>) -> Signal {
        Signal {
            provider: provider.into(),
            credential: None,
            model: model.map(Arc::from),
            reason: Reason::Model,
            wait: Duration::from_millis(1500),
        }
    }

    #[test]
    fn signals_travel_as_they_are_in_words_that_fit() {
        let batch: Vec<Signal> = (0..40)
            .map(|number| signal(&"p".repeat(400), Some(&number.to_string())))
            .collect();
        let words = words(255, &batch);
        assert!(words.len() > 1);
        let mut back = Vec::new();
        for word in words {
            let text = serde_json::to_string(&word).expect("JSON");
            assert!(text.len() <= LONGEST, "{}", text.len());
            let word: Word = serde_json::from_str(&text).expect("a word");
            assert_eq!(word.from, "00000000000000ff");
            back.extend(word.rests.into_iter().filter_map(Told::signal));
        }
        assert_eq!(back, batch);
    }
}
