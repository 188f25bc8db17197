//! Shadow traffic: another model gets a call too, as a call of its own that nobody waits for. Its answer is read to its end and thrown
//! away; the operator pays for it, and the caller's limits and budgets know nothing of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use polygate_core::Failure;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Answered, Begun, Engine, Trail, out_of_time};
use crate::admit::Caller;
use crate::attribution::Attribution;
use crate::body::ReplyBody;
use crate::call::{Call, Inbound, InboundBody};
use crate::chance;
use crate::config::Deadlines;
use crate::observe::{Recorder, Trace};
use crate::seats::Seat;
use crate::snapshot::Snapshot;
use crate::unread::Mentioned;

/// Whose calls they are: no caller's.
const CALLER: &str = "shadow";

/// The longest that one takes in all.
const LONGEST: Duration = Duration::from_secs(600);

/// The shadow calls under way: each listens here.
#[derive(Debug)]
pub(super) struct Shadows {
    are_over: watch::Sender<bool>,
}

/// A shadow call that is about to begin.
struct Mirrored {
    snapshot: Arc<Snapshot>,
    call: Call,
    /// The id of the call that it is the shadow of.
    of: String,
    seat: Seat,
}

impl Default for Shadows {
    fn default() -> Self {
        Self {
            are_over: watch::Sender::new(false),
        }
    }
}

impl Engine {
    /// Begins the shadow of a call, where its model has one and the draw takes it. The task runs when the call itself first waits.
    pub(super) fn mirror(self: &Arc<Self>, begun: &Begun, recorder: &Recorder) {
        let Some(shadow) = &begun.route.shadow else {
            return;
        };
        let endpoint = &begun.call.inbound.endpoint;
        if begun.call.object.is_none() || endpoint.counts() {
            return;
        }
        if !shadow.percent.takes(chance::number()) {
            return;
        }
        let Some(seat) = shadow.seats.take() else {
            self.metrics.shadow_dropped(&begun.route.label);
            return;
        };
        let record = recorder.record();
        let id = record.map(|record| &record.id).filter(|id| !id.is_empty());
        let mirrored = Mirrored {
            snapshot: begun.snapshot.clone(),
            call: begun.call.mirrored(&shadow.model),
            of: id.map_or_else(|| begun.call.inbound.request_id.to_string(), String::clone),
            seat,
        };
        let mut over = self.shadows.are_over.subscribe();
        let shadow = self.clone().shadow(mirrored);
        tokio::spawn(async move {
            tokio::select! {
                _ = over.wait_for(|are_over| *are_over) => {}
                () = shadow => {}
            }
            // Here the call is let go, and only then the listener.
            drop(over);
        });
    }

    /// Ends all shadow calls; returns when their records are sent.
    pub async fn end_shadows(&self) {
        self.shadows.are_over.send_replace(true);
        self.shadows.are_over.closed().await;
    }

    async fn shadow(self: Arc<Self>, mirrored: Mirrored) {
        let Mirrored {
            snapshot,
            call,
            of,
            seat,
        } = mirrored;
        let mut record = self.record(&call.inbound);
        record.shadow_of = Some(of);
        record.key = CALLER.into();
        record.attribution = Attribution::default();
        record.client = None;
        // A trace of its own: whoever reads the caller's would take it for a part of that.
        let sample = self.telling.sample;
        record.trace = sample.map(|sample| Trace::of(&HeaderMap::new(), sample));
        record.model = call.model.as_str().into();
        record.stream = call.stream;
        let mut recorder = Recorder::new(record, self.clock.clone(), self.recorders.clone());
        recorder.keep([Some(seat)]);
        let until = Instant::now() + LONGEST;
        let body = InboundBody::Whole(Bytes::new());
        let mut begun = match self.find_way(snapshot, (call, body), &mut recorder) {
            Ok(begun) => begun,
            Err(failure) => return failed(failure, recorder),
        };
        begun.call.continues = false;
        begun.until = Some(begun.until.map_or(until, |own| own.min(until)));
        if let Err(failure) = self.reserve(&mut begun, &mut recorder).await {
            return failed(failure, recorder);
        }
        // In a box: it is large.
        let answered = Box::pin(self.go(begun, recorder)).await;
        if let Ok(reply) = answered.result {
            read_to_its_end(reply.body, until).await;
        }
    }
}

/// Nobody was asked.
fn failed(failure: Failure, recorder: Recorder) {
    drop(Answered::failed(failure, recorder, Trail::default()));
}

/// Reads what nobody wants: only so is it known how it ended, and what it cost.
async fn read_to_its_end(mut body: ReplyBody, until: Instant) {
    if timeout_at(until, read(&mut body)).await.is_err() {
        body.stop(out_of_time());
        read(&mut body).await;
    }
}

async fn read(body: &mut ReplyBody) {
    while let Some(Ok(_)) = body.frame().await {}
}

impl Call {
    /// The same for another model, in nobody's name. The headers are those that the call's own upstream is sent some of.
    fn mirrored(&self, model: &str) -> Self {
        let call = self.again();
        Self {
            inbound: Inbound {
                request_id: format!("{}-shadow", self.inbound.request_id).into(),
                caller: Caller::default(),
                ..call.inbound
            },
            // With the conversation that it goes on from in it.
            object: call.object,
            model: model.to_owned(),
            stream: self.stream,
            strict: false,
            deadlines: Deadlines::default(),
            continued: None,
            further: Vec::new(),
            mentioned: Mentioned::default(),
            continues: false,
            said: None,
            most_output: 0,
            added_input: 0,
            is_shadow: true,
            // What it asks was looked through, and nobody gets what is answered.
            guarded: None,
        }
    }
}
