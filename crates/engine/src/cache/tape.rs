//! Takes an answer down as it goes to the client, to keep it if it comes to a good end.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use polygate_core::Usage;
use polygate_wire::{Format, dialect};

use super::answers::Answers;
use super::entry::{Entry, Head};
use super::flights::{Lead, Stage};
use super::key::Key;
use crate::attempt::Reply;
use crate::body::{Live, ReplyBody};
use crate::call::Call;
use crate::config::CacheStore;
use crate::engine::Trail;
use crate::observe::End;

/// An answer so far.
#[derive(Debug)]
pub(crate) struct Tape {
    parts: Parts,
    head: Head,
    body: Vec<u8>,
}

/// A stream that is shown to those who ask the same.
pub(crate) struct Showing {
    stage: Stage,
    head: Head,
    most: usize,
    /// How it ends.
    pub end: Arc<OnceLock<End>>,
}

/// What becomes of it.
#[derive(Debug)]
pub(super) struct Parts {
    pub key: Key,
    pub ttl: Duration,
    /// More bytes are not kept.
    pub most: usize,
    pub store: CacheStore,
    pub epoch: u64,
    pub answers: Arc<Answers>,
    /// Others wait for it.
    pub lead: Option<Lead>,
}

impl Showing {
    /// It is shown from here on; what its own client gets of it.
    pub(crate) fn show(self, body: ReplyBody) -> ReplyBody {
        let live = Live::new(body, self.most, self.end);
        self.stage.show(&live, self.head);
        ReplyBody::Live(Box::new(live.listener()))
    }
}

impl Tape {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            head: Head::default(),
            body: Vec::new(),
        }
    }

    /// The same with what there is to say of this reply; `None`: it is none to be kept. Those who wait for it go their own ways then.
    pub(crate) fn of(mut self, reply: &Reply, call: &Call, trail: &Trail) -> Option<Self> {
        if !is_keepable(reply, call.inbound.endpoint.format()) {
            self.stop();
            return None;
        }
        let headers = reply.headers.iter();
        let headers = headers.filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        });
        let name = |name: &Option<Arc<str>>| name.as_deref().unwrap_or_default().to_owned();
        self.head = Head {
            asked: call.model.clone(),
            provider: name(&trail.provider),
            model: name(&trail.model),
            headers: headers.collect(),
            losses: trail.losses.iter().map(|loss| loss.0.clone()).collect(),
            is_stream: matches!(reply.body, ReplyBody::Stream(_)),
            ..Head::default()
        };
        Some(self)
    }

    /// What it takes to show it to those who ask the same, where it is a stream and they may have it.
    pub(crate) fn showing(&self) -> Option<Showing> {
        let lead = self.parts.lead.as_ref().filter(|_| self.head.is_stream)?;
        Some(Showing {
            stage: lead.stage(),
            head: self.head.clone(),
            most: self.parts.most,
            end: Arc::default(),
        })
    }

    /// More of it. False: there is too much of it to be kept.
    pub(crate) fn take(&mut self, piece: &[u8]) -> bool {
        if self.head.is_stream && is_comment(piece) {
            return true;
        }
        if self.body.len() + piece.len() > self.parts.most {
            return false;
        }
        self.body.extend_from_slice(piece);
        self.head.ends.push(self.body.len());
        true
    }

    /// It is not kept, and whoever waits for it asks for himself.
    pub(crate) fn stop(&mut self) {
        if let Some(lead) = self.parts.lead.take() {
            lead.end();
        }
    }

    /// It came to a good end: it is kept from this moment on, in milliseconds since 1970.
    pub(crate) fn end(self, usage: Option<Usage>, now: i64) {
        let Self {
            parts,
            mut head,
            body,
        } = self;
        head.usage = usage;
        head.since = now;
        head.ttl = i64::try_from(parts.ttl.as_millis()).unwrap_or(i64::MAX);
        let body = body.into();
        let entry = Arc::new(Entry { head, body });
        parts
            .answers
            .keep(parts.store, parts.key, entry.clone(), parts.epoch);
        if let Some(lead) = parts.lead {
            lead.answers(entry);
        }
    }
}

/// A whole answer or a stream that is a success, and not one that says no more than that the prompt is not let through: another time
/// it may be.
fn is_keepable(reply: &Reply, format: Format) -> bool {
    reply.status.is_success()
        && match &reply.body {
            ReplyBody::Stream(relay) => !relay.is_blocked(),
            ReplyBody::Whole(whole) => !whole.is_blocked(dialect(format)),
            ReplyBody::Passing(_)
            | ReplyBody::Waiting(_)
            | ReplyBody::Replayed(_)
            | ReplyBody::Live(_) => false,
        }
}

/// Signs of life: nothing but lines that clients pass over.
fn is_comment(piece: &[u8]) -> bool {
    let mut lines = piece.split(|byte| *byte == b'\n');
    piece.starts_with(b":") && lines.all(|line| matches!(line, [] | [b'\r'] | [b':', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_are_known_and_nothing_else_is_one() {
        for (piece, is) in [
            (&b": keepalive\n\n"[..], true),
            (b": PROCESSING\r\n\r\n:\n\n", true),
            (b"data: :\n\n", false),
            (b": x\n\ndata: 1\n\n", false),
            (b"", false),
        ] {
            assert_eq!(is_comment(piece), is, "{piece:?}");
        }
    }
}
