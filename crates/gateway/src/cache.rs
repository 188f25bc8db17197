//! Answers in Redis, for all replicas: written behind calls, and looked for within a moment. A Redis that is away is missed, and costs
//! nobody anything: calls are made as if nothing were kept.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use polygate_engine::cache::{Elsewhere, Forgotten, Found};
use polygate_store_redis::RedisStore;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// How long a call waits for Redis.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a Redis that was silent is not asked.
const SILENCE: Duration = Duration::from_secs(5);

/// What waits to be written at most: answers, and bytes of them. More is not kept.
const QUEUE: usize = 1_024;
const QUEUED_BYTES: usize = 64 << 20;

/// How long one may take to be written, and all to be forgotten.
const WRITING: Duration = Duration::from_secs(2);
const FORGETTING: Duration = Duration::from_secs(10);

/// The replicas' answers. Dropped, nothing more is written.
pub struct SharedCache {
    redis: Arc<RedisStore>,
    jobs: mpsc::Sender<Job>,
    queued: Arc<AtomicUsize>,
    writer: JoinHandle<()>,
    /// Until when Redis is not asked.
    silent: Arc<Silent>,
}

#[derive(Default)]
struct Silent {
    until: Mutex<Option<Instant>>,
    /// How often it was asked, or given something, in vain.
    failures: AtomicU64,
}

/// An answer to be written.
struct Job {
    key: String,
    entry: Bytes,
    ttl: Duration,
}

impl SharedCache {
    /// In this Redis.
    pub fn start(redis: &Arc<RedisStore>) -> Arc<Self> {
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let (queued, silent) = <(Arc<AtomicUsize>, Arc<Silent>)>::default();
        let writing = write(redis.clone(), waiting, queued.clone(), silent.clone());
        Arc::new(Self {
            redis: redis.clone(),
            jobs,
            queued,
            writer: tokio::spawn(writing),
            silent,
        })
    }
}

impl Drop for SharedCache {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

impl fmt::Debug for SharedCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedCache")
    }
}

impl Silent {
    fn is(&self) -> bool {
        let until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Notes how Redis answered; told where that changes.
    fn note<T, E: fmt::Display>(&self, answered: &Result<Result<T, E>, impl fmt::Display>) {
        let trouble = match answered {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("Redis does not answer".to_owned()),
        };
        if trouble.is_some() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        match (&trouble, until.is_some()) {
            (Some(trouble), false) => {
                tracing::warn!(trouble, "answers kept in Redis cannot be looked for");
            }
            (None, true) => tracing::info!("answers kept in Redis are found again"),
            _ => {}
        }
        *until = trouble.map(|_| Instant::now() + SILENCE);
    }
}

async fn write(
    redis: Arc<RedisStore>,
    mut waiting: mpsc::Receiver<Job>,
    queued: Arc<AtomicUsize>,
    silent: Arc<Silent>,
) {
    while let Some(job) = waiting.recv().await {
        // What is not kept is asked for again.
        if !silent.is() {
            let written = redis.keep_answer(&job.key, &job.entry, job.ttl);
            silent.note(&timeout(WRITING, written).await);
        }
        queued.fetch_sub(job.entry.len(), Ordering::Relaxed);
    }
}

impl Elsewhere for SharedCache {
    fn keep(&self, key: String, entry: Bytes, ttl: Duration) {
        let size = entry.len();
        let before = self.queued.fetch_add(size, Ordering::Relaxed);
        let job = Job { key, entry, ttl };
        if before.saturating_add(size) > QUEUED_BYTES || self.jobs.try_send(job).is_err() {
            self.queued.fetch_sub(size, Ordering::Relaxed);
            self.silent.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn failures(&self) -> u64 {
        self.silent.failures.load(Ordering::Relaxed)
    }

    fn find<'a>(&'a self, key: String) -> Found<'a> {
        Box::pin(async move {
            if self.silent.is() {
                return None;
            }
            let answered = timeout(PATIENCE, self.redis.answer(&key)).await;
            self.silent.note(&answered);
            answered.ok()?.ok()?.map(Bytes::from)
        })
    }

    fn forget<'a>(&'a self, beginning: String) -> Forgotten<'a> {
        Box::pin(async move {
            match timeout(FORGETTING, self.redis.forget_answers(&beginning)).await {
                Ok(forgotten) => forgotten.map_err(|error| error.to_string()),
                Err(_) => Err("Redis does not answer".to_owned()),
            }
        })
    }
}
