//! An answer whose stream broke off after some text, and whoever goes on with it: the plan's next, asked for the rest.

use std::pin::Pin;
use std::sync::Arc;

use polygate_core::{Failure, Kind};
use tokio::sync::oneshot;

use super::{Begun, Engine, Trail};
use crate::body::{Relay, ReplyBody};
use crate::guard::Guarded;
use crate::observe::Recorder;
use crate::plan::Rest;
use crate::route::Place;

/// All that is needed to go on with a call's answer.
pub struct Continuation {
    engine: Arc<Engine>,
    begun: Begun,
    /// Who answers.
    place: Place,
    rest: Rest,
}

/// Where an answer broke off.
#[derive(Debug)]
pub struct Cut {
    /// What the client has.
    pub said: String,
    /// Why.
    pub failure: Failure,
}

/// The rest of an answer, and what is needed to go on once more.
pub struct Further {
    /// The stream of it.
    pub relay: Box<Relay>,
    /// What it passes on its way to the client, where that is more than the call does.
    pub guarded: Option<Arc<Guarded>>,
    /// If that breaks off as well.
    pub continuation: Box<Continuation>,
}

/// Somebody is asked to go on.
pub type Asking = Pin<Box<dyn Future<Output = Result<Further, Failure>> + Send>>;

/// A call's recorder, lent to the attempts that go on with it. It comes back however they end.
pub struct Lent {
    recorder: Option<Recorder>,
    back: Option<oneshot::Sender<Recorder>>,
}

impl Lent {
    /// Lends it; it comes back here.
    pub fn new(recorder: Recorder) -> (Self, oneshot::Receiver<Recorder>) {
        let (back, returned) = oneshot::channel();
        let lent = Self {
            recorder: Some(recorder),
            back: Some(back),
        };
        (lent, returned)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(recorder), Some(back)) = (self.recorder.take(), self.back.take()) {
            // Whoever lent it may be gone: then it is let go here.
            let _ = back.send(recorder);
        }
    }
}

impl Continuation {
    pub(super) fn new(engine: Arc<Engine>, begun: Begun, place: Place, rest: Rest) -> Box<Self> {
        Box::new(Self {
            engine,
            begun,
            place,
            rest,
        })
    }

    /// Asks others to go on.
    pub fn ask(self: Box<Self>, cut: Cut, lent: Lent) -> Asking {
        Box::pin(self.asked(cut, lent))
    }

    async fn asked(self: Box<Self>, cut: Cut, mut lent: Lent) -> Result<Further, Failure> {
        let Self {
            engine,
            mut begun,
            place,
            rest,
        } = *self;
        let Some(recorder) = &mut lent.recorder else {
            return Err(cut.failure);
        };
        begun.call.said = Some(cut.said);
        let mut plan = begun.plan().resume(rest);
        plan.broke(place, cut.failure)?;
        let mut trail = Trail::default();
        let (place, reply) = {
            let attempts = engine.attempts(&begun, None, &mut plan, recorder, &mut trail);
            let attempts = std::pin::pin!(attempts);
            engine.unless_cut(begun.in_time(attempts)).await?
        };
        let ReplyBody::Stream(relay) = reply.body else {
            let message = "a stream was to be gone on with by something else";
            return Err(Failure::new(Kind::Internal, message));
        };
        let rest = plan.rest();
        let continuation = Self::new(engine, begun, place, rest);
        Ok(Further {
            relay,
            guarded: reply.guarded,
            continuation,
        })
    }
}
