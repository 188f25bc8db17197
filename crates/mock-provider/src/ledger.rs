//! What a mock served: its side of every account.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::route::Endpoint;

/// One request.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Counts from 0.
    pub seq: usize,
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// What was asked.
    pub endpoint: Endpoint,
    /// The model asked for.
    pub model: String,
    /// A stream was asked for.
    pub stream: bool,
    /// The status of the answer; 0 where there was none.
    pub status: u16,
    /// Stream events sent.
    pub events_sent: u32,
    /// Tokens that were read.
    pub input_tokens: u64,
    /// Tokens that were made.
    pub output_tokens: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// A rule or a header scripted it.
    pub scripted: bool,
    /// Headers of the request, where they are kept.
    pub headers: Vec<(String, String)>,
    /// Body of the request, where it is kept.
    #[serde(serialize_with = "as_text")]
    pub body: Option<Bytes>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Not yet.
    Running,
    /// With everything sent.
    Completed,
    /// As scripted.
    Faulted,
    /// The client closed first.
    ClientGone,
}

fn as_text<S: Serializer>(body: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    body.as_ref()
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .serialize(serializer)
}

/// The most entries that are kept: the oldest go first.
const KEPT: usize = 200_000;

/// All entries of one mock.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    entries: VecDeque<Entry>,
    /// How many came before the first that is kept.
    gone: usize,
}

impl Ledger {
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().entries.iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        let mut kept = self.lock();
        kept.gone += kept.entries.len();
        kept.entries.clear();
    }

    /// Adds an entry and returns its number.
    pub(crate) fn open(&self, mut entry: Entry) -> usize {
        let mut kept = self.lock();
        if kept.entries.len() >= KEPT {
            kept.entries.pop_front();
            kept.gone += 1;
        }
        entry.seq = kept.gone + kept.entries.len();
        let seq = entry.seq;
        kept.entries.push_back(entry);
        seq
    }

    pub(crate) fn update(&self, seq: usize, change: impl FnOnce(&mut Entry)) {
        let mut kept = self.lock();
        let at = seq.checked_sub(kept.gone);
        if let Some(entry) = at.and_then(|at| kept.entries.get_mut(at)) {
            change(entry);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
