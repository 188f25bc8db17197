//! What a mock served: its side of every account.

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

/// All entries of one mock.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Vec<Entry>>);

impl Ledger {
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Adds an entry and returns its place.
    pub(crate) fn open(&self, mut entry: Entry) -> usize {
        let mut entries = self.lock();
        entry.seq = entries.len();
        entries.push(entry);
        entries.len() - 1
    }

    pub(crate) fn update(&self, at: usize, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().get_mut(at) {
            change(entry);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
