//! A call and the cache: looked up once it is admitted, before anything is reserved for it but its place among the calls.

use std::sync::Arc;

use http::StatusCode;
use polygate_core::Usage;
use tokio::time::{Instant, timeout_at};

use super::{Answered, Begun, Engine, Trail};
use crate::attempt::Reply;
use crate::body::{Hold, Listener, Replayed, ReplyBody, Running};
use crate::cache::{Answers, Asked, Cache, Entry, Head, Joined, Lookup, Turn, Verdict};
use crate::expect::{Expected, Metered};
use crate::observe::{Looked, Recorder};

/// An answer that another call got.
struct Given {
    reply: Reply,
    /// Its tokens, where they are known already.
    usage: Option<Usage>,
    /// The way that it went then.
    trail: Trail,
}

impl Engine {
    /// Answers that are kept for calls that ask the same.
    pub fn answers(&self) -> &Arc<Answers> {
        &self.book.answers
    }

    /// From the cache where it has an answer, else from whoever is asked.
    pub(super) async fn run(
        self: &Arc<Self>,
        mut begun: Begun,
        mut recorder: Recorder,
    ) -> Answered {
        if let Err(failure) = self.guard(&mut begun, &mut recorder).await {
            return Answered::failed(failure, recorder, Trail::default());
        }
        match begun.snapshot.cache.clone() {
            None => self.ask(begun, recorder).await,
            // In a box: what caches nothing should not carry it.
            Some(cache) => Box::pin(self.look_up(&cache, begun, recorder)).await,
        }
    }

    /// From whoever is asked.
    async fn ask(self: &Arc<Self>, mut begun: Begun, mut recorder: Recorder) -> Answered {
        if let Err(failure) = self.reserve(&mut begun, &mut recorder).await {
            return Answered::failed(failure, recorder, Trail::default());
        }
        self.mirror(&begun, &recorder);
        let hold = Hold::of(&begun.call, &begun.snapshot.config.timeouts);
        let going: Running = Box::pin(self.clone().go(begun, recorder));
        match hold {
            Some(hold) => hold.wait(going).await,
            None => going.await,
        }
    }

    async fn look_up(
        self: &Arc<Self>,
        cache: &Cache,
        mut begun: Begun,
        mut recorder: Recorder,
    ) -> Answered {
        let lookup = match cache.verdict(&begun.call) {
            Err(failure) => return Answered::failed(failure, recorder, Trail::default()),
            Ok(Verdict::NotAsked) => return self.ask(begun, recorder).await,
            Ok(Verdict::Passed(..)) => {
                recorder.update(|record| record.looked = Some(Looked::Passed));
                return self.ask(begun, recorder).await;
            }
            Ok(Verdict::LookedUp(rule, wish)) => cache.lookup(rule, wish, &begun.asked()),
        };
        // Joined first: whoever has answered by now has kept that too.
        let joined = lookup.coalesce.then(|| cache.join(&lookup));
        if let Some(entry) = cache.find(&lookup, self.millis()).await {
            drop(joined);
            let given = Given::kept(&entry, self.millis());
            return self.give(begun, recorder, given, Looked::Hit).await;
        }
        let lead = match joined.map(Joined::lead) {
            None => None,
            Some(Ok(lead)) => Some(lead),
            Some(Err(joined)) => {
                let hold = Hold::of(&begun.call, &begun.snapshot.config.timeouts);
                let following: Running =
                    Box::pin(self.clone().follow(joined, lookup, begun, recorder));
                return match hold {
                    Some(hold) => hold.wait(following).await,
                    None => following.await,
                };
            }
        };
        recorder.update(|record| record.looked = Some(Looked::Missed));
        begun.tape = Some(cache.tape(lookup, lead));
        self.ask(begun, recorder).await
    }

    /// Waits for the answer of another that asks the same, but no longer than it would wait for a provider.
    async fn follow(
        self: Arc<Self>,
        joined: Joined,
        lookup: Lookup,
        mut begun: Begun,
        mut recorder: Recorder,
    ) -> Answered {
        let patience = Instant::now() + begun.patience_for_an_answer();
        let turn = begun.in_time(self.unless_cut(async {
            let turn = timeout_at(patience, joined.turn()).await;
            Ok(turn.unwrap_or(Turn::Alone))
        }));
        let lead = match turn.await {
            Err(failure) => return Answered::failed(failure, recorder, Trail::default()),
            Ok(Turn::Answer(entry)) => {
                let given = Given::kept(&entry, self.millis());
                return self.give(begun, recorder, given, Looked::Shared).await;
            }
            Ok(Turn::Live(listener, head)) => {
                let given = Given::live(listener, &head);
                return self.give(begun, recorder, given, Looked::Shared).await;
            }
            Ok(Turn::Lead(lead)) => Some(lead),
            Ok(Turn::Alone) => None,
        };
        recorder.update(|record| record.looked = Some(Looked::Missed));
        let cache = begun.snapshot.cache.clone();
        begun.tape = cache.map(|cache| cache.tape(lookup, lead));
        // The head is held by whoever waits for this.
        match self.reserve(&mut begun, &mut recorder).await {
            Err(failure) => Answered::failed(failure, recorder, Trail::default()),
            Ok(()) => {
                self.mirror(&begun, &recorder);
                self.go(begun, recorder).await
            }
        }
    }

    /// Gives an answer that another call got. It counts as a request, and takes nothing else.
    async fn give(
        &self,
        mut begun: Begun,
        mut recorder: Recorder,
        given: Given,
        looked: Looked,
    ) -> Answered {
        recorder.update(|record| {
            record.expected = Expected {
                metered: Metered::Nothing,
                ..Expected::default()
            };
        });
        if let Err(failure) = self.reserve(&mut begun, &mut recorder).await {
            return Answered::failed(failure, recorder, Trail::default());
        }
        let Given {
            mut reply,
            usage,
            mut trail,
        } = given;
        recorder.update(|record| {
            record.looked = Some(looked);
            record.saved = usage;
            record.transformed.losses.clone_from(&trail.losses);
        });
        reply.guarded.clone_from(&begun.call.guarded);
        let guarded = begun.guarded(reply, &mut recorder).await;
        trail.end(recorder.record(), self.clock.now());
        let mut reply = match guarded {
            Ok(reply) => reply,
            Err(failure) => return Answered::failed(failure, recorder, trail),
        };
        if looked == Looked::Shared {
            // Most of it was spent waiting for another's provider.
            trail.overhead = None;
        }
        reply.body.release(recorder, reply.status);
        Answered {
            result: Ok(reply),
            trail: Some(trail),
            limits: Vec::new(),
            explanation: None,
        }
    }

    /// Milliseconds since 1970.
    fn millis(&self) -> i64 {
        self.clock.unix_micros() / 1000
    }
}

impl Given {
    /// Of what is kept.
    fn kept(entry: &Entry, now: i64) -> Self {
        let body = if entry.head.is_stream {
            ReplyBody::Replayed(Box::new(Replayed::new(entry)))
        } else {
            ReplyBody::whole(entry.body.clone(), None)
        };
        let mut given = Self::of(&entry.head, body);
        given.trail.age = Some(entry.age(now));
        given
    }

    /// Of what is under way.
    fn live(listener: Box<Listener>, head: &Head) -> Self {
        Self::of(head, ReplyBody::Live(listener))
    }

    fn of(head: &Head, body: ReplyBody) -> Self {
        Self {
            reply: Reply {
                status: StatusCode::OK,
                headers: head.headers(),
                body,
                guarded: None,
                failure: None,
            },
            usage: head.usage,
            trail: Trail {
                provider: Some(head.provider.as_str().into()),
                model: Some(head.model.as_str().into()),
                losses: head.losses(),
                cost: Some(0),
                ..Trail::default()
            },
        }
    }
}

impl Begun {
    fn asked(&self) -> Asked<'_> {
        Asked {
            snapshot: &self.snapshot,
            call: &self.call,
            route: &self.route,
            body: &self.body,
        }
    }

    /// How long a call waits for an answer, or for the beginning of a stream.
    fn patience_for_an_answer(&self) -> std::time::Duration {
        let (own, all) = (self.call.deadlines, &self.snapshot.config.timeouts);
        if self.call.stream {
            own.first_event.unwrap_or(all.first_event)
        } else {
            own.request.unwrap_or(all.request)
        }
    }
}
