//! A chat of one token: whether a model answers. It costs money, so it is asked only where somebody says so.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use polygate_core::{Failure, Kind};
use serde_json::json;

use crate::admit::Caller;
use crate::attempt::{Attempt, Reply};
use crate::call::{Call, Endpoint, Inbound, InboundBody};
use crate::engine::Engine;
use crate::expect::Expected;
use crate::health::Turn;
use crate::observe::{Outcome, Recorder};
use crate::route::Candidate;
use crate::seats::Seat;
use crate::snapshot::{Snapshot, Upstream};

/// Whom metrics and logs name as the caller.
static CALLER: LazyLock<Arc<str>> = LazyLock::new(|| "health-check".into());

/// A model to chat with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// What the configuration calls it.
    pub(super) said: String,
    /// What it is called at the provider.
    pub(super) there: String,
}

/// Chats with what the configuration wants chatted with; how many were asked.
pub(super) async fn probe_all(engine: &Engine, snapshot: &Arc<Snapshot>) -> usize {
    let probes = snapshot
        .upstreams
        .iter()
        .map(|upstream| probe(engine, snapshot, upstream));
    futures_util::future::join_all(probes).await.iter().sum()
}

/// One model after the other. What rests is left alone: when that is over, one chat may be the trial that closes a breaker.
async fn probe(engine: &Engine, snapshot: &Arc<Snapshot>, upstream: &Arc<Upstream>) -> usize {
    let patience = snapshot.config.health_check.timeout;
    let mut asked = 0;
    for subject in subjects(snapshot, upstream) {
        let now = engine.clock().now();
        let mut candidates = candidates(snapshot, upstream, &subject);
        let awake = candidates.find(|candidate| candidate.resting(now).is_none());
        let (Some(candidate), Some(seat)) = (awake, seat(upstream)) else {
            continue;
        };
        let _trial = match upstream.health.breaker.turn(now) {
            Turn::Free => None,
            Turn::Trial(trial) => Some(trial),
            Turn::Taken => continue,
        };
        asked += 1;
        let result = chat(engine, snapshot, &candidate, &subject, seat, patience).await;
        if let Err(failure) = result {
            tracing::warn!(
                provider = &*upstream.name,
                model = subject.there,
                failure = failure.logged(),
                "a model does not answer the health check"
            );
        }
    }
    asked
}

/// The model that the provider names for it, else, where all are wanted, those that the configuration names.
pub(super) fn subjects(snapshot: &Snapshot, upstream: &Upstream) -> Vec<Subject> {
    if let Some(model) = &upstream.health_model {
        return vec![subject(snapshot, upstream, model)];
    }
    if !snapshot.config.health_check.probe_models {
        return Vec::new();
    }
    let patterns = upstream.mappings.iter().map(|mapping| &mapping.pattern);
    let exact = patterns.filter(|pattern| pattern.is_exact());
    let offered = exact.filter_map(|pattern| {
        let said = pattern.source();
        Some((said, upstream.upstream_model(said)?))
    });
    let models = snapshot.config.models.iter().map(|model| &*model.name);
    let targeted = models.flat_map(|said| {
        let targets = snapshot.targets_at(upstream, said);
        targets.map(move |there| (said, there))
    });
    let mut subjects: Vec<Subject> = Vec::new();
    for (said, there) in offered.chain(targeted) {
        if subjects.iter().all(|known| known.there != there) {
            subjects.push(Subject {
                said: said.to_owned(),
                there: there.to_owned(),
            });
        }
    }
    subjects
}

/// A model as clients call it, or by its name at the provider.
pub(super) fn subject(snapshot: &Snapshot, upstream: &Upstream, said: &str) -> Subject {
    let names = snapshot.names_at(upstream, said);
    Subject {
        said: said.to_owned(),
        there: names.first().copied().unwrap_or(said).to_owned(),
    }
}

/// The provider's keys with this model.
pub(super) fn candidates(
    snapshot: &Snapshot,
    upstream: &Arc<Upstream>,
    subject: &Subject,
) -> impl Iterator<Item = Candidate> {
    let route = snapshot.route(&subject.said);
    let is_there =
        |one: &&Candidate| one.upstream.name == upstream.name && *one.model == *subject.there;
    let known = route
        .as_ref()
        .and_then(|route| route.candidates().find(is_there));
    let tariff = known.and_then(|known| known.tariff.clone());
    let keys = upstream.credentials.iter();
    let keys = keys.filter(|key| key.serves(&subject.said, &subject.there));
    keys.map(move |key| Candidate::new(upstream, key, &subject.there, tariff.clone()))
}

/// One of the calls that the provider takes at a time, where these are counted; `None` where it has as many as it may have.
pub(super) fn seat(upstream: &Upstream) -> Option<Option<Seat>> {
    match upstream.max_concurrent {
        Some(most) => upstream.health.seats.take(most).map(Some),
        None => Some(None),
    }
}

/// Asks for one token. It counts as a call does: in rests and breakers, and in what is recorded.
pub(super) async fn chat(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    candidate: &Candidate,
    subject: &Subject,
    seat: Option<Seat>,
    patience: Duration,
) -> Result<(), Failure> {
    let (mut call, _) = Call::read(snapshot, question(&candidate.model))?;
    call.deadlines.request = Some(patience);
    let mut recorder = recorder(engine, snapshot, candidate, &call, subject);
    recorder.open()?;
    recorder.hold(candidate.begin(seat));
    let number = recorder.asks(candidate)?;
    let attempt = Attempt {
        snapshot,
        call: &call,
        candidate,
        asked_as: &call.model,
        kept: engine.kept(),
        clock: engine.clock(),
        until: None,
        trace: None,
        transformed: OnceLock::new(),
        passed: OnceLock::new(),
        own: AtomicU64::new(0),
        redirects_blocked: false,
    };
    let started = engine.clock().now();
    let result = attempt.run().await;
    let now = engine.clock().now();
    let took = now.saturating_sub(started);
    candidate.measure(now, took, result.as_ref().err());
    recorder.came_out(number, result.as_ref().err());
    match result {
        Ok(reply) => {
            candidate.succeeded(now);
            finish(reply, recorder).await;
            Ok(())
        }
        Err(failure) => {
            let retry = &snapshot.config.retry;
            candidate.failed(&failure, retry, now);
            give_up(recorder, &failure);
            Err(failure)
        }
    }
}

/// In the format whose requests always say how long an answer may be: translation knows what each provider calls that.
fn question(model: &str) -> Inbound {
    let body = json!({
        "model": model,
        "max_tokens": 1,
        "messages": [{"role": "user", "content": "Hi"}],
    });
    Inbound {
        endpoint: Endpoint::Messages,
        method: Method::POST,
        model_in_path: None,
        headers: HeaderMap::new(),
        body: InboundBody::Whole(Bytes::from(body.to_string())),
        request_id: CALLER.clone(),
        caller: Caller::default(),
    }
}

fn recorder(
    engine: &Engine,
    snapshot: &Snapshot,
    candidate: &Candidate,
    call: &Call,
    subject: &Subject,
) -> Recorder {
    let mut recorder = engine.recorder(&call.inbound);
    let route = snapshot.route(&subject.said);
    recorder.update(|record| {
        record.key = CALLER.clone();
        record.model = subject.said.as_str().into();
        if let Some(route) = route {
            record.label = route.label.clone();
        }
        record.name(candidate);
        record.expected = Expected::of(call);
    });
    recorder
}

/// Takes the answer, which sends the record.
async fn finish(mut reply: Reply, recorder: Recorder) {
    reply.body.release(recorder, reply.status);
    let _ = reply.body.frame().await;
}

fn give_up(mut recorder: Recorder, failure: &Failure) {
    recorder.update(|record| {
        record.status = failure.status;
        record.outcome = Outcome::Failed;
        record.error = Some(failure.kind.name());
    });
}

/// What is told of a provider that has as many calls as it may have.
pub(super) fn is_full() -> Failure {
    Failure::new(
        Kind::Unavailable,
        "the provider has as many calls as it may have at a time",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::health::{Position, Reason};
    use crate::status::tests::{config, engine_of, open};

    const S: Duration = Duration::from_secs(1);

    fn probing() -> Config {
        let mut config = config();
        config.health_check.probe_models = true;
        config
    }

    /// What is chatted with, by provider.
    fn subjects_of(config: Config) -> Vec<Vec<(String, String)>> {
        let (engine, _) = engine_of(config);
        let snapshot = engine.snapshot();
        let upstreams = snapshot.upstreams.iter();
        let of = |upstream| {
            let subjects = subjects(&snapshot, upstream).into_iter();
            subjects.map(|one| (one.said, one.there)).collect()
        };
        upstreams.map(|upstream| of(upstream)).collect()
    }

    fn pair(said: &str, there: &str) -> (String, String) {
        (said.to_owned(), there.to_owned())
    }

    #[tokio::test]
    async fn only_what_somebody_wants_is_chatted_with() {
        assert!(subjects_of(config()).iter().all(Vec::is_empty));
        let (m_at_a, m_at_b) = (pair("m", "m-at-a"), pair("m", "m-at-b"));
        let all = [vec![m_at_a], vec![m_at_b.clone(), pair("big", "big")]];
        assert_eq!(subjects_of(probing()), all, "the target of 'best' once");
        let mut config = config();
        config.providers[1].health_model = Some("m".to_owned());
        assert_eq!(subjects_of(config.clone()), [vec![], vec![m_at_b]]);
        config.providers[1].health_model = Some("m-at-b".to_owned());
        let by_its_name = pair("m-at-b", "m-at-b");
        assert_eq!(subjects_of(config), [vec![], vec![by_its_name]]);
        let mut config = probing();
        config.models[0].targets[0].model = Some("hidden".to_owned());
        let hidden = pair("best", "hidden");
        assert_eq!(subjects_of(config)[1].last(), Some(&hidden));
    }

    #[tokio::test]
    async fn what_rests_is_left_alone_and_a_trial_is_one_chat() {
        let (engine, clock) = engine_of(probing());
        open(&engine);
        let snapshot = engine.snapshot();
        assert_eq!(probe_all(&engine, &snapshot).await, 0);
        clock.advance(10 * S);
        assert_eq!(
            probe_all(&engine, &snapshot).await,
            2,
            "of the second provider's models the first: it failed"
        );
        for upstream in &snapshot.upstreams {
            let breaker = &upstream.health.breaker;
            let again = Position::Open(Reason::Unreachable, 20 * S);
            assert_eq!((breaker.position(11 * S), breaker.trips()), (again, 2));
            breaker.reset();
            for key in &upstream.credentials {
                key.rest.rest(Reason::Limit, 11 * S, None);
            }
        }
        assert_eq!(probe_all(&engine, &snapshot).await, 0, "no key is awake");
    }

    #[tokio::test]
    async fn a_failed_chat_counts_as_a_failed_call() {
        let (engine, _) = engine_of(probing());
        let snapshot = engine.snapshot();
        for _ in 0..5 {
            probe_all(&engine, &snapshot).await;
        }
        let position = |at: usize| snapshot.upstreams[at].health.breaker.position(S);
        assert!(matches!(position(0), Position::Open(..)));
        let calls = crate::status::providers(&snapshot, S);
        assert!(calls.iter().all(|one| one.calls == 0), "none is left over");
    }

    #[tokio::test]
    async fn a_provider_with_as_many_calls_as_it_may_have_is_left_alone() {
        let mut config = probing();
        config.providers[0].max_concurrent = Some(1);
        let (engine, _) = engine_of(config);
        let snapshot = engine.snapshot();
        let taken = seat(&snapshot.upstreams[0]);
        assert_eq!(probe_all(&engine, &snapshot).await, 2, "the other's models");
        drop(taken);
        assert_eq!(probe_all(&engine, &snapshot).await, 3);
    }
}
