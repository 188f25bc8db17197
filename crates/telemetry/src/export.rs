//! From finished calls to somebody's door: a bounded queue, a task that gathers and sends, and what was in vain is counted.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use polygate_engine::observe::{CallRecord, Finished, Sink, Told};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::post::{Post, Trouble};
use crate::waiting::{Door, Held, Waiting};

/// How often a batch is sent in all.
const TRIES: u32 = 4;

/// The first pause before a batch is sent again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What is in vain is said so often at most.
const QUIET: Duration = Duration::from_secs(60);

/// What somebody is told of calls, until it is sent.
pub(crate) trait Book: Send {
    /// What it is to be told of: what nobody wants waits in no queue.
    fn wanted(&self) -> Wanted {
        Box::new(|_| true)
    }
    /// Notes a call.
    fn note(&mut self, call: Waiting);
    /// So much is noted that it is to be sent now.
    fn is_full(&self) -> bool;
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
    /// What these keep of the budget until it is sent, or given up.
    pub(crate) held: Vec<Held>,
}

/// Spans or measurements.
#[derive(Debug)]
pub(crate) enum What {
    /// Spans.
    Traces(ExportTraceServiceRequest),
    /// Measurements.
    Metrics(ExportMetricsServiceRequest),
}

impl What {
    /// So many spans, or points of measurements.
    fn items(&self) -> u64 {
        let items: usize = match self {
            What::Traces(request) => request
                .resource_spans
                .iter()
                .flat_map(|of| &of.scope_spans)
                .map(|of| of.spans.len())
                .sum(),
            What::Metrics(request) => request
                .resource_metrics
                .iter()
                .flat_map(|of| &of.scope_metrics)
                .map(|of| of.metrics.len())
                .sum(),
        };
        items as u64
    }
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
    door: Door,
    book: Box<dyn Book>,
    pace: Pace,
    courier: Courier,
}

/// Where calls come in.
pub struct Entrance {
    queue: mpsc::Sender<Waiting>,
    door: Door,
    wanted: Wanted,
}

/// Whether somebody is to be told of a call.
pub(crate) type Wanted = Box<dyn Fn(&CallRecord) -> bool + Send>;

/// Brings pages where they belong.
struct Courier {
    told: Told,
    post: Post,
    /// Until then it says nothing of what is in vain.
    quiet_until: Option<Instant>,
}

impl Exporter {
    pub(crate) fn new(door: Door, book: Box<dyn Book>, post: Post, pace: Pace) -> Self {
        let courier = Courier {
            told: door.told().clone(),
            post,
            quiet_until: None,
        };
        Self {
            door,
            book,
            pace,
            courier,
        }
    }

    /// What calls are put into, and what is to be run: it ends once the first is gone and the rest is sent, or cannot be.
    pub fn start(self) -> (Entrance, impl Future<Output = ()> + Send) {
        let Self {
            door,
            book,
            pace,
            courier,
        } = self;
        let (queue, calls) = mpsc::channel(pace.queue);
        let wanted = book.wanted();
        (
            Entrance {
                queue,
                door,
                wanted,
            },
            courier.run(book, pace, calls),
        )
    }
}

impl Courier {
    async fn run(
        mut self,
        mut book: Box<dyn Book>,
        pace: Pace,
        mut calls: mpsc::Receiver<Waiting>,
    ) {
        let mut beats = interval_at(Instant::now() + pace.every, pace.every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (is_due, is_last) = tokio::select! {
                call = calls.recv() => match call {
                    Some(call) => {
                        book.note(call);
                        (book.is_full(), false)
                    }
                    None => (true, true),
                },
                _ = beats.tick() => (true, false),
            };
            let page = is_due.then(|| book.page()).flatten();
            if let Some(page) = page {
                self.bring(page, if is_last { 1 } else { TRIES }).await;
            }
            if is_last {
                return;
            }
        }
    }

    /// Sends until it is taken, or it has been tried often enough.
    async fn bring(&mut self, page: Page, tries: u32) {
        let Page { what, calls, held } = page;
        let items = what.items();
        let body = self.post.body(&what);
        // Only what is sent is kept meanwhile.
        drop(what);
        let (first, longest) = PAUSES;
        let mut pause = first;
        for left in (0..tries).rev() {
            let trouble = match self.post.send(body.clone()).await {
                Ok(refused) => {
                    // Which calls they are of is not said.
                    let refused = (refused.min(items) * calls).div_ceil(items.max(1));
                    self.told.sent(calls.saturating_sub(refused));
                    self.told.refused(refused.min(calls));
                    break;
                }
                Err(trouble) => trouble,
            };
            let wait = match &trouble {
                Trouble::Later { after, .. } if left > 0 => after.unwrap_or(pause).min(longest),
                _ => {
                    self.give_up(&trouble, calls);
                    break;
                }
            };
            tokio::time::sleep(wait).await;
            pause = pause.saturating_mul(2).min(longest);
        }
        drop(held);
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
    fn take(&mut self, call: &Finished) {
        if !(self.wanted)(&call.record) {
            return;
        }
        self.door
            .pass(call, |waiting| self.queue.try_send(waiting).is_ok());
    }
}
