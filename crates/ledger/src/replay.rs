//! Reads what a dead process left: the rows of calls that ended, and in the end those of calls that nobody ended.

use std::collections::BTreeMap;

use polygate_store::usage::CallRow;

use crate::frame::{Frames, Kind};
use crate::record::{self, Intent};

/// What is known after some of its segments.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    open: BTreeMap<String, Vec<Intent<'static>>>,
    /// Whole records that are not understood: a later version's.
    pub(crate) unread: Vec<String>,
    /// Damaged stretches that were stepped over.
    pub(crate) damaged: u64,
    /// Ends that were cut off.
    pub(crate) torn: u64,
}

impl Replay {
    /// The calls that ended in this segment.
    pub(crate) fn segment(&mut self, bytes: &[u8]) -> Vec<CallRow> {
        let mut rows = Vec::new();
        let mut frames = Frames::from(bytes, 0);
        for frame in &mut frames {
            let is_read = match frame.kind {
                Kind::Intent => self.intent(frame.body),
                Kind::Settled => self.settled(frame.body, &mut rows),
                Kind::Unknown(_) => false,
            };
            if !is_read {
                self.unread
                    .push(String::from_utf8_lossy(frame.body).into_owned());
            }
        }
        self.damaged += frames.damaged();
        self.torn += u64::from(frames.torn() > 0);
        rows
    }

    /// Whether the segments so far are not needed to understand the next.
    pub(crate) fn is_even(&self) -> bool {
        self.open.is_empty()
    }

    /// The calls that nobody ended.
    pub(crate) fn aborted(&mut self) -> Vec<CallRow> {
        let open = std::mem::take(&mut self.open);
        open.values()
            .filter_map(|intents| record::aborted(intents))
            .collect()
    }

    fn intent(&mut self, body: &[u8]) -> bool {
        let Ok(intent) = serde_json::from_slice::<Intent<'static>>(body) else {
            return false;
        };
        let open = self.open.entry(intent.call.to_string()).or_default();
        // Those of long calls were written again.
        if !open.iter().any(|known| known.attempt == intent.attempt) {
            open.push(intent);
        }
        true
    }

    fn settled(&mut self, body: &[u8], rows: &mut Vec<CallRow>) -> bool {
        let Ok(row) = serde_json::from_slice::<CallRow>(body) else {
            return false;
        };
        self.open.remove(&row.id);
        rows.push(row);
        true
    }
}
