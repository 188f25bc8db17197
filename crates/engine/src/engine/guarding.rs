//! Guards in a call's story: what is asked is looked through before anything is reserved, what is answered before anything of it goes out.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use polygate_core::Failure;
use polygate_wire::{RawObject, dialect};
use tokio::time::Instant;

use super::{Begun, Engine, Trail};
use crate::attempt::{ANSWER_LIMIT, Read, Reply, aside, read_capped};
use crate::body::{Passing, ReplyBody};
use crate::call::Endpoint;
use crate::cloak::{Cloak, Cloaked};
use crate::guard::{Doings, Guarded, insists, unseen};
use crate::lane::Output;
use crate::observe::{CallRecord, Content, Recorder};
use crate::route::Candidate;

impl Engine {
    /// Looks through what a call asks. From here on it may be told.
    pub(super) async fn guard(
        &self,
        begun: &mut Begun,
        recorder: &mut Recorder,
    ) -> Result<(), Failure> {
        if !begun.snapshot.guards.is_empty() {
            // In a box: most have none.
            Box::pin(begun.look(recorder)).await?;
        }
        if let Some(content) = self.content(begun) {
            recorder.tells(content);
        }
        Ok(())
    }

    /// What was asked, where somebody is to be told: no more than providers are.
    fn content(&self, begun: &Begun) -> Option<Content> {
        let most = self.telling.content?;
        let call = &begun.call;
        if begun.upload.is_some() {
            return None;
        }
        let format = call.inbound.endpoint.format();
        let Some(guarded) = &call.guarded else {
            return Some(Content::asked(format, &begun.body, most));
        };
        let sent = call.object.as_ref();
        let asked = sent.map_or(&begun.body, |object| object.bytes());
        let content = Content::asked(format, asked, most);
        Some(content.concealing(guarded.concealing()))
    }
}

impl Begun {
    async fn look(&mut self, recorder: &mut Recorder) -> Result<(), Failure> {
        let guards = self.snapshot.guards.of(&self.call);
        if guards.is_empty() {
            return Ok(());
        }
        let asked = guards.iter().filter(|guard| guard.is_of_requests());
        if let Some(guard) = insists(asked) {
            if self.upload.is_some() {
                return Err(unseen(guard, "an upload that passes unread"));
            }
            if is_compressed(&self.call.inbound.headers) {
                return Err(unseen(guard, "a compressed body"));
            }
        }
        let maker = self.snapshot.guards.maker();
        let size = self.length();
        let (call, body) = (&mut self.call, &mut self.body);
        let (doings, result) = aside(size, || Guarded::request(&guards, maker, call, body));
        note(recorder, &doings);
        result?;
        let (acted, result) = Guarded::ask_request(&guards, &mut self.call, &mut self.body).await;
        recorder.update(|record| record.guards.extend(acted));
        result
    }

    /// How many bytes it asks with.
    fn length(&self) -> usize {
        let object = self.call.object.as_ref();
        object.map_or(&self.body, RawObject::bytes).len()
    }

    /// The call as this candidate may see it; `None`: as it is. `Err`: it has to be looked through first, and cannot be.
    pub(super) fn cloaked(
        &self,
        candidate: &Candidate,
        passes: bool,
    ) -> Result<Option<Box<Cloaked>>, Failure> {
        let Some(cloak) = Cloak::over(candidate.upstream.cloak.as_ref(), &self.call) else {
            return Ok(None);
        };
        if passes {
            cloak.pass_unseen("an upload that passes unread")?;
        }
        if is_compressed(&self.call.inbound.headers) {
            cloak.pass_unseen("a compressed body")?;
        }
        let size = self.length();
        aside(size, || cloak.hide(&self.call, &self.body))
    }

    /// An answer as guards let it through. One that they do not is paid all the same, and is not asked for again. `Err`: a stream of
    /// which nothing goes out.
    pub(super) async fn guarded(
        &self,
        mut reply: Reply,
        recorder: &mut Recorder,
    ) -> Result<Reply, Failure> {
        let Some(guarded) = reply.guarded.take().filter(|one| !one.is_over()) else {
            return Ok(reply);
        };
        let guarded = &guarded;
        match &mut reply.body {
            ReplyBody::Stream(relay) => {
                relay.guard(guarded);
                relay.vetted(recorder, self.call.continues).await?;
            }
            ReplyBody::Whole(whole) => match guard_whole(guarded, &whole.bytes(), recorder).await {
                Ok(None) => {}
                Ok(Some(bytes)) => whole.replace(bytes),
                Err(failure) => {
                    whole.replace(self.refusal(&failure, recorder));
                    reply.status = status(&failure);
                }
            },
            ReplyBody::Passing(passing) => {
                if let Err(failure) = self.read(guarded, passing, &reply.headers, recorder).await {
                    passing.hold(self.refusal(&failure, recorder));
                    reply.status = status(&failure);
                    reply.headers = json();
                }
            }
            ReplyBody::Replayed(replayed) => {
                let is_array = self.call.inbound.endpoint.is_array();
                let pieces = guard_kept(guarded, replayed.pieces(), is_array, recorder).await;
                replayed.replace(pieces?);
            }
            // What is shown to several was looked through once, by guards that are all of theirs.
            ReplyBody::Waiting(_) | ReplyBody::Live(_) => {}
        }
        Ok(reply)
    }

    /// What would pass unread is read first, where it is JSON. `Err`: it is not let through.
    async fn read(
        &self,
        guarded: &Guarded,
        passing: &mut Passing,
        headers: &HeaderMap,
        recorder: &mut Recorder,
    ) -> Result<(), Failure> {
        let strict = guarded.insists();
        let kind = headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let is_json = kind.is_some_and(|kind| kind.starts_with("application/json"));
        let is_proxied = matches!(self.call.inbound.endpoint, Endpoint::Proxy(_));
        if !is_proxied || !is_json || is_compressed(headers) {
            return match strict {
                Some(guard) => {
                    passing.open();
                    Err(unseen(guard, "its answer"))
                }
                None => Ok(()),
            };
        }
        let bytes = match (passing.held(), passing.open()) {
            (Some(bytes), _) => bytes,
            (None, None) => return Ok(()),
            (None, Some((upstream, idle))) => {
                // As long as a whole answer may take, and no longer.
                let until = Instant::now() + self.snapshot.config.timeouts.request;
                match read_capped(upstream, ANSWER_LIMIT, idle, until).await? {
                    Read::Whole(bytes) => bytes,
                    Read::Over { head, rest } if strict.is_none() => {
                        *passing = Passing::new(head, rest, idle);
                        return Ok(());
                    }
                    Read::Over { .. } => {
                        let guard = strict.map_or("", |guard| guard);
                        return Err(unseen(guard, "so long an answer"));
                    }
                }
            }
        };
        let replaced = guard_whole(guarded, &bytes, recorder).await?;
        passing.hold(replaced.unwrap_or(bytes));
        Ok(())
    }

    fn refusal(&self, failure: &Failure, recorder: &mut Recorder) -> Bytes {
        recorder.update(|record| record.error = Some(failure.kind.name()));
        let format = self.call.inbound.endpoint.format();
        dialect(format).encode_error(failure, &self.call.inbound.request_id)
    }
}

impl Trail {
    /// The guards that did something, each once.
    pub(super) fn guard(&mut self, record: &CallRecord) {
        for acted in &record.guards {
            if !self.guards.contains(&acted.guard) {
                self.guards.push(acted.guard.clone());
            }
        }
    }
}

/// Looks through a whole answer, and asks whoever is to be asked about it; `None`: it stays as it is.
async fn guard_whole(
    guarded: &Guarded,
    bytes: &Bytes,
    recorder: &mut Recorder,
) -> Result<Option<Bytes>, Failure> {
    let (doings, result) = aside(bytes.len(), || guarded.answer(bytes));
    note(recorder, &doings);
    let replaced = result?;
    if !guarded.asks() {
        return Ok(replaced);
    }
    let (acted, result) = guarded.ask(replaced.as_ref().unwrap_or(bytes)).await;
    recorder.update(|record| record.guards.extend(acted));
    Ok(result?.or(replaced))
}

/// The same with all of a stream that was kept.
async fn guard_kept(
    guarded: &Arc<Guarded>,
    pieces: &[Bytes],
    is_array: bool,
    recorder: &mut Recorder,
) -> Result<Vec<Bytes>, Failure> {
    let (mut stream, mut out) = (guarded.stream(is_array), Output::default());
    let mut pieces = pieces.iter().cloned();
    let passed = pieces.try_for_each(|piece| stream.block(piece, &mut out));
    let passed = passed.and_then(|()| stream.finish(&mut out));
    note(recorder, stream.doings());
    passed?;
    let pieces: Vec<Bytes> = std::iter::from_fn(|| out.pop()).collect();
    if guarded.asks() {
        let all = pieces.concat().into();
        let (acted, result) = guarded.clone().ask_of_stream(all, is_array).await;
        recorder.update(|record| record.guards.extend(acted));
        result?;
    }
    Ok(pieces)
}

fn json() -> HeaderMap {
    let json = http::HeaderValue::from_static("application/json");
    HeaderMap::from_iter([(CONTENT_TYPE, json)])
}

fn note(recorder: &mut Recorder, doings: &Doings) {
    recorder.update(|record| record.guards.extend_from_slice(doings.acted()));
}

fn status(failure: &Failure) -> StatusCode {
    StatusCode::from_u16(failure.status).unwrap_or(StatusCode::BAD_GATEWAY)
}

fn is_compressed(headers: &HeaderMap) -> bool {
    let encoding = headers.get(CONTENT_ENCODING);
    encoding.is_some_and(|encoding| encoding != "identity")
}
