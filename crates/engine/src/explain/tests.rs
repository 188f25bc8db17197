//! Explanations of calls to a configuration of two providers.

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Method};

use super::*;
use crate::admit::Caller;
use crate::call::{Endpoint, InboundBody};
use crate::health::Reason;
use crate::status::tests::{config, engine_of};

fn asked(engine: &Engine, model: &str) -> Explanation {
    let body = format!(r#"{{"model":"{model}","max_tokens":7,"messages":[]}}"#);
    let inbound = Inbound {
        endpoint: Endpoint::Chat,
        method: Method::POST,
        model_in_path: None,
        headers: HeaderMap::new(),
        body: InboundBody::Whole(Bytes::from(body)),
        request_id: "r".into(),
        caller: Caller::default(),
    };
    let explanation = engine.explain(inbound).now_or_never();
    explanation
        .expect("nobody is waited for")
        .expect("it is understood")
}

#[test]
fn who_rests_stands_behind_with_why_and_how_long() {
    let (engine, clock) = engine_of(config());
    let now = engine.clock().now();
    let key = engine.snapshot().upstreams[0].credentials[0].clone();
    key.rest
        .rest(Reason::Limit, now, Some(Duration::from_secs(60)));
    let explanation = asked(&engine, "m");
    assert_eq!(explanation.output_tokens, 7);
    assert!(explanation.refusal.is_none());
    let verdicts: Vec<_> = explanation
        .candidates
        .iter()
        .map(|one| one.verdict)
        .collect();
    assert_eq!(verdicts, ["asked", "asked", "asked", "limit"]);
    let last = &explanation.candidates[3];
    assert_eq!(last.credential, key.name);
    assert_eq!(last.rests_for_seconds, Some(60));
    clock.advance(Duration::from_secs(61));
    let later = asked(&engine, "m");
    assert!(later.candidates.iter().all(|one| one.verdict == "asked"));
}

#[test]
fn a_model_that_nobody_has_is_a_refusal_with_its_code() {
    let (engine, _) = engine_of(config());
    let explanation = asked(&engine, "nobody-has-it");
    let refusal = explanation.refusal.expect("it is refused");
    assert_eq!(refusal.code, polygate_core::Kind::UnknownModel.name());
    assert!(refusal.message.contains("nobody-has-it"));
    assert!(explanation.candidates.is_empty());
}

#[test]
fn no_key_of_a_provider_is_in_it() {
    let (engine, _) = engine_of(config());
    let text = serde_json::to_string(&asked(&engine, "m")).expect("JSON");
    assert!(text.contains("a-one") && !text.contains("sk-"), "{text}");
}

#[test]
fn a_header_has_what_it_may_have_and_counts_what_is_left_out() {
    let (engine, _) = engine_of(config());
    let told = Told::Explained(Box::new(asked(&engine, "m")));
    let whole = line(&told, usize::MAX).expect("a line");
    let value: serde_json::Value = serde_json::from_str(&whole).expect("JSON");
    assert_eq!(value["candidates"].as_array().map(Vec::len), Some(4));
    assert!(!whole.contains("null") && !whole.contains("false"));
    let short = line(&told, whole.len() / 2).expect("a line");
    assert!(short.len() <= whole.len() / 2);
    let value: serde_json::Value = serde_json::from_str(&short).expect("JSON");
    let left = value["candidates"].as_array().map_or(0, Vec::len) as u64;
    assert_eq!(value["candidates_left_out"], 4 - left);
    assert_eq!(line(&told, 10), None);
    let named = Told::Forbidden("schlüssel \u{1f511}".into());
    let ascii = line(&named, 500).expect("a line");
    assert!(ascii.is_ascii(), "{ascii}");
    let value: serde_json::Value = serde_json::from_str(&ascii).expect("JSON");
    let message = value["refusal"]["message"].as_str().expect("a message");
    assert!(
        message.starts_with("schlüssel \u{1f511} may not"),
        "{message}"
    );
}

#[test]
fn attempts_that_there_are_not_are_not_promised() {
    let mut config = config();
    config.retry.max_retries = Some(0);
    let (engine, _) = engine_of(config);
    let explanation = asked(&engine, "m");
    let verdicts: Vec<_> = explanation
        .candidates
        .iter()
        .map(|one| one.verdict)
        .collect();
    let (first, others) = verdicts.split_first().expect("candidates");
    assert_eq!(*first, "asked");
    assert!(
        !others.is_empty() && others.iter().all(|verdict| *verdict != "asked"),
        "{verdicts:?}"
    );
    assert!(verdicts.contains(&"no_retry_left"), "{verdicts:?}");
}
