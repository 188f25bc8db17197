//! Answers that Responses clients go on from, in the store that replicas share: written behind calls, sealed, and looked for where the
//! memory of this replica does not know them.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use polygate_core::{Clock, SystemClock};
use polygate_engine::kept::{Elsewhere, Entry, Found};
use polygate_store::signals::SignalStore;
use polygate_store::{KeptAnswer, Result, Sealer, Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use crate::signals;

/// How long a call waits for the store.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long a store that was silent is not asked.
const SILENCE: Duration = Duration::from_secs(5);

/// How many calls ask at a time; others do without.
const READERS: usize = 4;

/// What waits to be written at most: jobs and bytes. More is not kept for others.
const QUEUE: usize = 1_024;
const QUEUED_BYTES: usize = 64 << 20;

/// How many are written at a time.
const BATCH: usize = 32;

/// How long one write may take, how long after a failed one it is tried again, and how often.
const WRITING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: usize = 60;

/// Between two rounds of forgetting, and how many are forgotten at a time.
const RETENTION: Duration = Duration::from_secs(600);
const PAGE: u32 = 1_000;

/// The replicas' answers.
pub struct SharedAnswers {
    store: Arc<dyn Store>,
    sealer: Arc<Sealer>,
    clock: SystemClock,
    jobs: mpsc::Sender<Job>,
    queued: Arc<AtomicUsize>,
    readers: Semaphore,
    /// Until when the store is not asked.
    silent: Mutex<Option<Instant>>,
    dropped: AtomicU64,
}

/// Writes what is to be kept, in the order of its coming.
pub struct Writer {
    store: Arc<dyn Store>,
    /// Where others are told what is forgotten.
    words: Arc<dyn SignalStore>,
    sealer: Arc<Sealer>,
    jobs: mpsc::Receiver<Job>,
    queued: Arc<AtomicUsize>,
}

enum Job {
    Keep(Answer),
    Forget {
        owner: String,
        id: String,
    },
    /// Everything before it was written.
    Flush(oneshot::Sender<()>),
}

/// What is kept, not sealed yet.
struct Answer {
    owner: Arc<str>,
    id: String,
    entry: Entry,
    until: i64,
}

#[derive(Serialize, Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    items: Cow<'a, str>,
    #[serde(borrow)]
    answer: Option<Cow<'a, str>>,
}

impl fmt::Debug for SharedAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedAnswers")
    }
}

/// The answers of a store, and who writes them.
pub fn shared(
    store: &Arc<dyn Store>,
    words: &Arc<dyn SignalStore>,
    sealer: &Arc<Sealer>,
) -> (Arc<SharedAnswers>, Writer) {
    let (sender, jobs) = mpsc::channel(QUEUE);
    let queued = Arc::new(AtomicUsize::new(0));
    let answers = SharedAnswers {
        store: store.clone(),
        sealer: sealer.clone(),
        clock: SystemClock::new(),
        jobs: sender,
        queued: queued.clone(),
        readers: Semaphore::new(READERS),
        silent: Mutex::default(),
        dropped: AtomicU64::new(0),
    };
    let writer = Writer {
        store: store.clone(),
        words: words.clone(),
        sealer: sealer.clone(),
        jobs,
        queued,
    };
    (Arc::new(answers), writer)
}

/// What an entry is kept under: nobody finds another key's.
fn name(owner: &str, id: &str) -> String {
    format!("{id}@{owner}")
}

fn place(name: &str) -> String {
    format!("kept/{name}")
}

impl Answer {
    fn size(&self) -> usize {
        let answer = self.entry.answer.as_ref().map_or(0, |answer| answer.len());
        self.entry.items.len() + answer
    }

    fn sealed(&self, sealer: &Sealer) -> Result<KeptAnswer> {
        let body = Body {
            items: Cow::Borrowed(&self.entry.items),
            answer: self.entry.answer.as_deref().map(Cow::Borrowed),
        };
        let body =
            serde_json::to_string(&body).map_err(|error| StoreError::Refused(error.to_string()))?;
        let id = name(&self.owner, &self.id);
        Ok(KeptAnswer {
            body: sealer.seal(&place(&id), &body)?,
            id,
            owner: self.owner.to_string(),
            until: self.until,
        })
    }
}

impl SharedAnswers {
    /// Waits until what was kept so far is written, but not for ever.
    pub async fn flush(&self, patience: Duration) {
        let (done, wait) = oneshot::channel();
        let flushed = async {
            if self.jobs.send(Job::Flush(done)).await.is_ok() {
                let _ = wait.await;
            }
        };
        let _ = timeout(patience, flushed).await;
    }

    fn micros(&self) -> i64 {
        i64::try_from(self.clock.unix_seconds()).unwrap_or_default() * 1_000_000
    }

    fn is_silent(&self) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.is_some_and(|until| Instant::now() < until)
    }

    /// Notes how the store answered; told where that changes.
    fn answered(&self, trouble: Option<&str>) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        match (trouble, silent.is_some()) {
            (Some(trouble), false) => {
                tracing::warn!(trouble, "answers of other replicas cannot be looked for");
            }
            (None, true) => tracing::info!("answers of other replicas are found again"),
            _ => {}
        }
        *silent = trouble.map(|_| Instant::now() + SILENCE);
    }

    async fn read(&self, owner: &str, ids: &[String]) -> Result<Vec<(String, Entry)>> {
        let mut found = Vec::new();
        for id in ids {
            let name = name(owner, id);
            let Some(kept) = self.store.kept(&name, self.micros()).await? else {
                continue;
            };
            if kept.owner == owner {
                let body = self.sealer.open(&place(&name), &kept.body)?;
                let body: Body<'_> = serde_json::from_str(body.reveal())
                    .map_err(|error| StoreError::Corrupt(error.to_string()))?;
                let entry = Entry {
                    items: body.items.as_ref().into(),
                    answer: body.answer.as_deref().map(Arc::from),
                };
                found.push((id.clone(), entry));
            }
        }
        Ok(found)
    }

    fn drop_one(&self) {
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed);
        if dropped.is_power_of_two() || dropped == 0 {
            tracing::warn!(
                dropped = dropped + 1,
                "an answer is kept here only: what is to be written waits too long"
            );
        }
    }
}

impl Elsewhere for SharedAnswers {
    fn keep(&self, owner: &Arc<str>, id: &str, entry: &Entry, age: Duration) {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        let answer = Answer {
            owner: owner.clone(),
            id: id.to_owned(),
            entry: entry.clone(),
            until: self.micros().saturating_add(age),
        };
        let size = answer.size();
        let before = self.queued.fetch_add(size, Ordering::Relaxed);
        let is_full = before.saturating_add(size) > QUEUED_BYTES;
        if is_full || self.jobs.try_send(Job::Keep(answer)).is_err() {
            self.queued.fetch_sub(size, Ordering::Relaxed);
            self.drop_one();
        }
    }

    fn find<'a>(&'a self, owner: &'a str, ids: &'a [String]) -> Found<'a> {
        Box::pin(async move {
            let Ok(_turn) = self.readers.try_acquire() else {
                return Vec::new();
            };
            if self.is_silent() {
                return Vec::new();
            }
            match timeout(PATIENCE, self.read(owner, ids)).await {
                Ok(Ok(found)) => {
                    self.answered(None);
                    found
                }
                Ok(Err(error)) => {
                    self.answered(Some(&error.to_string()));
                    Vec::new()
                }
                Err(_) => {
                    self.answered(Some("the database does not answer"));
                    Vec::new()
                }
            }
        })
    }

    fn forget(&self, owner: &str, ids: Vec<String>) {
        for id in ids {
            let owner = owner.to_owned();
            if self.jobs.try_send(Job::Forget { owner, id }).is_err() {
                tracing::warn!("an answer is forgotten here only: too much waits to be written");
            }
        }
    }
}

impl Writer {
    /// Writes for ever, and forgets what is over.
    pub async fn run(mut self) {
        let mut forgetting = tokio::time::interval(RETENTION);
        forgetting.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut jobs = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                count = self.jobs.recv_many(&mut jobs, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.write(jobs.drain(..).collect()).await;
                }
                _ = forgetting.tick() => self.forget_old().await,
            }
        }
    }

    /// Those to be kept together as far as they stand together.
    async fn write(&self, mut jobs: VecDeque<Job>) {
        let mut answers = Vec::new();
        while let Some(job) = jobs.pop_front() {
            if let Job::Keep(answer) = job {
                answers.push(answer);
                continue;
            }
            self.keep(std::mem::take(&mut answers)).await;
            match job {
                Job::Forget { owner, id } => {
                    let name = name(&owner, &id);
                    let forgotten = timeout(WRITING, self.store.forget(&name)).await;
                    if !matches!(forgotten, Ok(Ok(_))) {
                        tracing::warn!(
                            "an answer could not be forgotten in the database: it is kept until its time is over"
                        );
                    }
                    let word = signals::forgotten(&owner, &id);
                    let told = timeout(WRITING, self.words.tell(&word)).await;
                    if !matches!(told, Ok(Ok(()))) {
                        tracing::warn!(
                            "other replicas could not be told that an answer is forgotten: one that has it in memory keeps it until its time is over"
                        );
                    }
                }
                Job::Flush(done) => drop(done.send(())),
                Job::Keep(_) => {}
            }
        }
        self.keep(answers).await;
    }

    async fn keep(&self, answers: Vec<Answer>) {
        if answers.is_empty() {
            return;
        }
        let size: usize = answers.iter().map(Answer::size).sum();
        let sealer = self.sealer.clone();
        let sealing = tokio::task::spawn_blocking(move || {
            let sealed = answers.iter().map(|answer| answer.sealed(&sealer));
            sealed.collect::<Result<Vec<_>>>()
        });
        match sealing.await {
            Ok(Ok(sealed)) => self.put(&sealed).await,
            Ok(Err(error)) => tracing::error!(%error, "answers could not be sealed"),
            Err(error) => tracing::error!(%error, "answers could not be sealed"),
        }
        self.queued.fetch_sub(size, Ordering::Relaxed);
    }

    async fn put(&self, sealed: &[KeptAnswer]) {
        for _ in 0..TRIES {
            match timeout(WRITING, self.store.keep(sealed)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) if !error.is_temporary() => {
                    tracing::error!(%error, "answers could not be kept for other replicas");
                    return;
                }
                _ => sleep(PAUSE).await,
            }
        }
        let count = sealed.len();
        tracing::warn!(count, "answers are kept here only: the database is away");
    }

    async fn forget_old(&self) {
        let now = SystemClock::new().unix_seconds();
        let now = i64::try_from(now).unwrap_or_default() * 1_000_000;
        loop {
            match timeout(WRITING, self.store.forget_old(now, PAGE)).await {
                Ok(Ok(count)) if count >= u64::from(PAGE) => {}
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
