//! Which calls are looked up, what keeps two of them apart, and how long an answer is given.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use polygate_core::FixedClock;
use proptest::prelude::*;

use super::entry::tests::entry;
use super::*;
use crate::admit::Caller;
use crate::attempt::{Answering, Attempt, Reply, StandIn};
use crate::body::{Listener, Live, Replayed, ReplyBody};
use crate::condition::Condition;
use crate::engine::{Answered, Engine};
use crate::pattern::Pattern;
use crate::status::tests::{config, engine_of};
use crate::{Inbound, InboundBody};

const S: Duration = Duration::from_secs(1);
const NONE: Duration = Duration::ZERO;
const TEXT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// A key like no other.
pub(super) fn key(number: u8) -> Key {
    Key::of_number(number)
}

/// Answers with how often it was asked.
struct Counter(Arc<AtomicUsize>);

impl StandIn for Counter {
    fn answer<'a>(&'a self, _: &'a Attempt<'a>) -> Answering<'a> {
        let count = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        let body = ReplyBody::whole(Bytes::from(count.to_string()), None);
        let status = StatusCode::OK;
        let headers = HeaderMap::new();
        Box::pin(std::future::ready(Ok(Reply {
            status,
            headers,
            body,
            guarded: None,
            failure: None,
        })))
    }
}

fn rule() -> CacheRule {
    CacheRule {
        when: Condition::default(),
        ttl: 60 * S,
        share: Share::Key,
        coalesce: false,
        on_request: false,
    }
}

fn caching(rules: Vec<CacheRule>) -> Config {
    let cache = config::Cache {
        store: CacheStore::Memory,
        max_bytes: 1 << 20,
        max_entry: 1 << 10,
        rules,
    };
    Config {
        cache: Some(cache),
        ..config()
    }
}

/// An engine that answers with numbers, and its clock.
fn engine(rules: Vec<CacheRule>) -> (Arc<Engine>, Arc<FixedClock>) {
    let (engine, clock) = engine_of(caching(rules));
    (
        Arc::new(engine.with(Arc::new(Counter(Arc::default())))),
        clock,
    )
}

fn inbound(endpoint: Endpoint, headers: &[(&'static str, &str)], body: &str) -> Inbound {
    let headers = headers.iter().map(|(name, value)| {
        let value = HeaderValue::from_str(value).expect("a value");
        (HeaderName::from_static(name), value)
    });
    Inbound {
        endpoint,
        method: Method::POST,
        model_in_path: None,
        headers: headers.collect(),
        body: InboundBody::Whole(Bytes::copy_from_slice(body.as_bytes())),
        request_id: "r".into(),
        caller: Caller::default(),
    }
}

/// What a call is answered with, and what is said of the cache.
async fn asks(
    engine: &Arc<Engine>,
    headers: &[(&'static str, &str)],
    body: &str,
) -> (String, Option<&'static str>) {
    let Answered { result, trail, .. } = engine.call(inbound(Endpoint::Chat, headers, body)).await;
    let reply = result.expect("it is answered");
    let body = reply.body.collect().await.expect("a body").to_bytes();
    let text = String::from_utf8(body.to_vec()).expect("a text");
    (text, trail.and_then(|trail| trail.cache))
}

#[tokio::test]
async fn an_answer_is_given_for_its_time_and_no_longer() {
    let (engine, clock) = engine(vec![rule()]);
    let none = &[][..];
    for (after, headers, expected) in [
        (NONE, none, ("1", "miss")),
        (NONE, none, ("1", "hit")),
        (59 * S, none, ("1", "hit")),
        (NONE, &[("cache-control", "max-age=30")], ("2", "miss")),
        (NONE, none, ("2", "hit")),
        (NONE, &[("cache-control", "no-cache")], ("3", "miss")),
        (NONE, &[("cache-control", "no-store")], ("4", "bypass")),
        (NONE, none, ("3", "hit")),
        (60 * S, none, ("5", "miss")),
        (
            NONE,
            &[("cache-control", "no-cache"), ("x-polygate-cache", "10s")],
            ("6", "miss"),
        ),
        (9 * S, none, ("6", "hit")),
        (S, none, ("7", "miss")),
    ] {
        clock.advance(after);
        let (text, cache) = asks(&engine, headers, TEXT).await;
        assert_eq!(
            (&*text, cache),
            (expected.0, Some(expected.1)),
            "{headers:?}"
        );
    }
    let purged = engine.answers().purge(Some("other")).await;
    assert_eq!(purged, Ok(Purged { count: 0 }));
    assert_eq!(engine.answers().size().entries, 1);
    let purged = engine.answers().purge(Some("m")).await;
    assert_eq!(purged, Ok(Purged { count: 1 }));
    assert_eq!(asks(&engine, none, TEXT).await.0, "8");
}

#[tokio::test]
async fn what_was_kept_is_not_given_by_another_configuration() {
    let (engine, _) = engine(vec![rule()]);
    assert_eq!(asks(&engine, &[], TEXT).await.0, "1");
    let mut weights = caching(vec![rule()]);
    weights.providers[0].weight = 7;
    engine.apply(weights).expect("it compiles");
    assert_eq!(asks(&engine, &[], TEXT).await.0, "1", "it shapes nothing");
    let mut targets = caching(vec![rule()]);
    targets.providers[0].models[0].target = Some("other".to_owned());
    engine.apply(targets).expect("it compiles");
    assert_eq!(asks(&engine, &[], TEXT).await.0, "2");
    engine.apply(config()).expect("it compiles");
    assert_eq!(asks(&engine, &[], TEXT).await, ("3".to_owned(), None));
}

#[tokio::test]
async fn the_first_rule_that_is_for_a_call_holds() {
    let of = |models: &str| Condition {
        models: vec![Pattern::exact(models)],
        ..Condition::default()
    };
    let rules = vec![
        CacheRule {
            when: of("best"),
            ..rule()
        },
        CacheRule {
            when: of("m"),
            on_request: true,
            ..rule()
        },
    ];
    let (engine, _) = engine(rules);
    assert_eq!(asks(&engine, &[], TEXT).await, ("1".to_owned(), None));
    let asked = &[("x-polygate-cache", "on")][..];
    for expected in ["miss", "hit"] {
        assert_eq!(asks(&engine, asked, TEXT).await.1, Some(expected));
    }
    let wrong = inbound(Endpoint::Chat, &[("x-polygate-cache", "perhaps")], TEXT);
    let failure = engine.call(wrong).await.result.expect_err("no such wish");
    assert_eq!(failure.status, 400);
}

#[tokio::test]
async fn what_is_longer_is_not_kept() {
    let mut long = caching(vec![rule()]);
    if let Some(cache) = &mut long.cache {
        cache.max_entry = 0;
    }
    let (engine, _) = engine(vec![rule()]);
    engine.apply(long).expect("it compiles");
    for expected in ["1", "2"] {
        let (text, cache) = asks(&engine, &[], TEXT).await;
        assert_eq!((&*text, cache), (expected, Some("miss")));
    }
    assert_eq!(engine.answers().size().entries, 0);
}

fn verdict(endpoint: Endpoint, body: &str) -> &'static str {
    let (engine, _) = engine(vec![rule()]);
    let snapshot = engine.snapshot();
    let mut inbound = inbound(endpoint, &[], body);
    inbound.model_in_path = Some("m".to_owned());
    let (call, _) = Call::read(&snapshot, inbound).expect("a call");
    let cache = snapshot.cache.as_ref().expect("a cache");
    match cache.verdict(&call).expect("a verdict") {
        Verdict::NotAsked => "not asked",
        Verdict::Passed(..) => "passed",
        Verdict::LookedUp(..) => "looked up",
    }
}

#[test]
fn what_leaves_or_needs_something_at_a_provider_is_passed_and_what_has_no_answer_is_not_asked() {
    let method = |method: &str| Endpoint::GeminiMethod(method.to_owned());
    for (endpoint, body, expected) in [
        (Endpoint::Chat, r#"{"model":"m"}"#, "looked up"),
        (
            Endpoint::Chat,
            r#"{"model":"m","store":false}"#,
            "looked up",
        ),
        (Endpoint::Chat, r#"{"model":"m","store":true}"#, "passed"),
        (Endpoint::Responses, r#"{"model":"m"}"#, "passed"),
        (
            Endpoint::Responses,
            r#"{"model":"m","store":true}"#,
            "passed",
        ),
        (
            Endpoint::Responses,
            r#"{"model":"m","store":false}"#,
            "looked up",
        ),
        (
            Endpoint::Responses,
            r#"{"model":"m","store":false,"previous_response_id":null}"#,
            "looked up",
        ),
        (
            Endpoint::Responses,
            r#"{"model":"m","store":false,"previous_response_id":"r"}"#,
            "passed",
        ),
        (
            Endpoint::Responses,
            r#"{"model":"m","store":false,"conversation":{"id":"c"}}"#,
            "passed",
        ),
        (
            Endpoint::Messages,
            r#"{"model":"m","container":"c"}"#,
            "passed",
        ),
        (Endpoint::Messages, r#"{"model":"m"}"#, "looked up"),
        (Endpoint::Embeddings, r#"{"model":"m"}"#, "looked up"),
        (method("embedContent"), "{}", "looked up"),
        (method("countTokens"), "{}", "not asked"),
        (method("predict"), "{}", "not asked"),
        (Endpoint::CountTokens, r#"{"model":"m"}"#, "not asked"),
        (Endpoint::ResponsesCount, r#"{"model":"m"}"#, "not asked"),
    ] {
        assert_eq!(
            verdict(endpoint.clone(), body),
            expected,
            "{endpoint:?} {body}"
        );
    }
}

/// The key of a call, by everything that two may differ in.
fn key_of(endpoint: Endpoint, headers: &[(&'static str, &str)], body: &str) -> Key {
    let (engine, _) = engine_of(caching(vec![rule()]));
    let snapshot = engine.snapshot();
    let mut inbound = inbound(endpoint, headers, body);
    inbound.model_in_path = Some("m".to_owned());
    let (call, _) = Call::read(&snapshot, inbound).expect("a call");
    let headers = ["anthropic-beta", "openai-beta"].map(HeaderName::from_static);
    let around = key::Around {
        share: Share::Key,
        shape: &[7; 32],
        decided: "",
        headers: &headers,
    };
    key::of(&call, body.as_bytes(), &around)
}

#[test]
fn calls_that_may_be_answered_differently_have_keys_of_their_own() {
    let gemini = |stream, sse| Endpoint::Generate { stream, sse };
    let duplicate = r#"{"model":"m","a":1,"a":2}"#;
    let keys = [
        key_of(Endpoint::Chat, &[], TEXT),
        key_of(Endpoint::Messages, &[], TEXT),
        key_of(gemini(false, true), &[], TEXT),
        key_of(gemini(true, true), &[], TEXT),
        key_of(gemini(true, false), &[], TEXT),
        key_of(Endpoint::GeminiMethod("embedContent".to_owned()), &[], TEXT),
        key_of(
            Endpoint::GeminiMethod("batchEmbedContents".to_owned()),
            &[],
            TEXT,
        ),
        key_of(Endpoint::Chat, &[("x-polygate-strict", "true")], TEXT),
        key_of(Endpoint::Chat, &[("anthropic-beta", "a")], TEXT),
        key_of(
            Endpoint::Chat,
            &[("anthropic-beta", "a"), ("anthropic-beta", "b")],
            TEXT,
        ),
        key_of(Endpoint::Chat, &[("openai-beta", "a")], TEXT),
        key_of(Endpoint::Chat, &[], r#"{"model":"m","n":1}"#),
        key_of(Endpoint::Chat, &[], r#"{"model":"m","n":1.0}"#),
        key_of(Endpoint::Chat, &[], r#"{"model":"m","n": 1}"#),
        key_of(Endpoint::Chat, &[], r#"{"model":"m","a":2}"#),
        key_of(Endpoint::Chat, &[], duplicate),
    ];
    for (at, one) in keys.iter().enumerate() {
        let others = keys.iter().skip(at + 1);
        assert!(others.into_iter().all(|other| other != one), "{at}");
    }
    let same = key_of(
        Endpoint::Chat,
        &[("x-request-id", "other"), ("user-agent", "u")],
        TEXT,
    );
    assert_eq!(same, keys[0], "what shapes no answer keeps none apart");
    assert!(same.text().starts_with(&Key::of_model("m")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_replicas_wrote_is_read_or_is_nothing(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Entry::read(&Bytes::from(text));
    }

    #[test]
    fn a_wish_is_read_or_refused(text in "[ -~]{0,40}") {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&text).expect("printable");
        headers.insert(CACHE_CONTROL, value.clone());
        prop_assert!(Wish::read(&headers).is_ok());
        headers.insert(wish::HEADER, value);
        let _ = Wish::read(&headers);
    }
}

/// What there is for a listener: its pieces, and how it ends.
async fn heard(listener: Listener) -> (String, Result<(), u16>) {
    let mut body = ReplyBody::Live(Box::new(listener));
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                let piece = frame.into_data().expect("data");
                text += std::str::from_utf8(&piece).expect("text");
            }
            Err(failure) => return (text, Err(failure.status)),
        }
    }
    (text, Ok(()))
}

#[tokio::test]
async fn who_does_not_read_holds_up_nobody_and_is_cut_off_beyond_what_is_held() {
    let source = || ReplyBody::Replayed(Box::new(Replayed::new(&entry(&["one,", "two,", "six"]))));
    for (most, late, joins) in [
        (11, ("one,two,six", Ok(())), true),
        (10, ("", Err(408)), false),
        (0, ("", Err(408)), false),
    ] {
        let live = Live::new(source(), most, Arc::default());
        let (one, other) = (live.listener(), live.listener());
        let (text, end) = heard(one).await;
        assert_eq!((&*text, end), ("one,two,six", Ok(())), "{most}");
        assert_eq!(live.listen().is_some(), joins, "{most}");
        let (text, end) = heard(other).await;
        assert_eq!((&*text, end), late, "{most}");
    }
}

#[tokio::test]
async fn a_stream_is_read_on_by_whoever_is_left() {
    let source = || ReplyBody::Replayed(Box::new(Replayed::new(&entry(&["one,", "two"]))));
    let live = Live::new(source(), 100, Arc::default());
    let (one, other) = (live.listener(), live.listener());
    let mut one = ReplyBody::Live(Box::new(one));
    let first = one.frame().await.expect("a piece").expect("no failure");
    assert_eq!(first.into_data().expect("data"), "one,");
    drop(one);
    assert_eq!(heard(other).await, ("one,two".to_owned(), Ok(())));
}
