//! From finished calls to somebody's door: a bounded queue, a task that gathers and sends, and what was in vain is counted.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use polygate_engine::observe::{CallRecord, Sink, Told};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::post::{Post, Trouble};

/// So many spans or measurements are sent together.
const BATCH: usize = 512;

/// How often a batch is sent in all.
const TRIES: u32 = 4;

/// The first pause before a batch is sent again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What is in vain is said so often at most.
const QUIET: Duration = Duration::from_secs(60);

/// What somebody is told of calls, until it is sent.
pub(crate) trait Book: Send {
    /// Notes a call.
    fn note(&mut self, record: &CallRecord);
    /// So much is noted that is to be sent soon.
    fn len(&self) -> usize;
    /// What there is to send.
    fn page(&mut self) -> Option<Page>;
}

/// What is sent at a time, and of how many calls it tells.
#[derive(Debug)]
pub(crate) struct Page {
    /// It.
    pub(crate) what: What,
    /// So many calls.
    pub(crate) calls: u64,
}

/// Spans or measurements.
#[derive(Debug)]
pub(crate) enum What {
    /// Spans.
    Traces(ExportTraceServiceRequest),
    /// Measurements.
    Metrics(ExportMetricsServiceRequest),
}

/// How much waits, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    queue: usize,
    every: Duration,
}

impl Pace {
    /// So many calls, and so often.
    pub(crate) fn of(queue: usize, every: Duration) -> Self {
        Self {
            queue,
            every: every.max(Duration::from_millis(10)),
        }
    }
}

/// Tells one of them.
pub struct Exporter {
    book: Box<dyn Book>,
    pace: Pace,
    courier: Courier,
}

/// Where calls come in.
pub struct Entrance {
    queue: mpsc::Sender<Arc<CallRecord>>,
    told: Told,
}

/// Brings pages where they belong.
struct Courier {
    told: Told,
    post: Post,
    /// Until then it says nothing of what is in vain.
    quiet_until: Option<Instant>,
}

impl Exporter {
    pub(crate) fn new(told: Told, book: Box<dyn Book>, post: Post, pace: Pace) -> Self {
        let courier = Courier {
            told,
            post,
            quiet_until: None,
        };
        Self {
            book,
            pace,
            courier,
        }
    }

    /// What calls are put into, and what is to be run: it ends once the first is gone and the rest is sent, or cannot be.
    pub fn start(self) -> (Entrance, impl Future<Output = ()> + Send) {
        let (queue, calls) = mpsc::channel(self.pace.queue);
        let told = self.courier.told.clone();
        (Entrance { queue, told }, self.run(calls))
    }

    async fn run(self, mut calls: mpsc::Receiver<Arc<CallRecord>>) {
        let Self {
            mut book,
            pace,
            mut courier,
        } = self;
        let mut beats = interval_at(Instant::now() + pace.every, pace.every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (is_due, is_last) = tokio::select! {
                call = calls.recv() => match call {
                    Some(call) => {
                        book.note(&call);
                        (book.len() >= BATCH, false)
                    }
                    None => (true, true),
                },
                _ = beats.tick() => (true, false),
            };
            let page = is_due.then(|| book.page()).flatten();
            if let Some(page) = page {
                courier.bring(page, if is_last { 1 } else { TRIES }).await;
            }
            if is_last {
                return;
            }
        }
    }
}

impl Courier {
    /// Sends until it is taken, or it has been tried often enough.
    async fn bring(&mut self, page: Page, tries: u32) {
        let body = self.post.body(&page.what);
        let (first, longest) = PAUSES;
        let mut pause = first;
        for left in (0..tries).rev() {
            let trouble = match self.post.send(body.clone()).await {
                Ok(refused) => {
                    self.told.sent(page.calls.saturating_sub(refused));
                    self.told.refused(refused.min(page.calls));
                    return;
                }
                Err(trouble) => trouble,
            };
            let wait = match &trouble {
                Trouble::Later { after, .. } if left > 0 => after.unwrap_or(pause).min(longest),
                _ => return self.give_up(&trouble, page.calls),
            };
            tokio::time::sleep(wait).await;
            pause = pause.saturating_mul(2).min(longest);
        }
    }

    fn give_up(&mut self, trouble: &Trouble, calls: u64) {
        self.told.refused(calls);
        let now = Instant::now();
        if self.quiet_until.is_none_or(|until| now >= until) {
            self.quiet_until = Some(now + QUIET);
            let destination = self.post.host();
            tracing::warn!(destination, %trouble, calls, "what happened in calls could not be told, and is lost there");
        }
    }
}

impl Sink for Entrance {
    fn take(&mut self, record: &Arc<CallRecord>) {
        if self.queue.try_send(record.clone()).is_err() {
            self.told.dropped();
        }
    }
}
