//! Background health checks: the list of models, which costs no tokens. What it says feeds the same rests as traffic does.

mod chat;
mod now;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use http_body_util::Limited;
use polygate_core::{Failure, Kind};
use polygate_providers::{Answer, Operation, Outbound};
use serde_json::Value;

use crate::engine::Engine;
use crate::health::Reason;
use crate::snapshot::{Credential, Snapshot, Upstream};
use crate::transport::UpstreamBody;

pub use now::{Checked, CheckedModel, Wanted, check_now};

/// The most of a model list that is read, and how many names are kept of it.
const LIST_LIMIT: usize = 4 * 1024 * 1024;
const NAMES: usize = 2000;

/// How soon a provider that could not be reached is looked for again.
const SOON: Duration = Duration::from_secs(2);

/// Checks every provider now and then, and those that cannot be reached soon again, for ever.
pub async fn run(engine: Arc<Engine>) {
    futures_util::future::join(lists(&engine), chats(&engine)).await;
}

async fn lists(engine: &Engine) {
    loop {
        let snapshot = engine.snapshot();
        let interval = interval(&snapshot);
        let enabled = snapshot.config.health_check.enabled;
        if enabled {
            check_all(engine, &snapshot).await;
        }
        drop(snapshot);
        let next = tokio::time::Instant::now() + interval;
        while tokio::time::Instant::now() + SOON < next {
            tokio::time::sleep(SOON).await;
            if enabled {
                check_lost(engine).await;
            }
        }
        tokio::time::sleep_until(next).await;
    }
}

/// Beside the lists: a model that takes its time delays no look at another provider.
async fn chats(engine: &Engine) {
    loop {
        let snapshot = engine.snapshot();
        let interval = interval(&snapshot);
        if snapshot.config.health_check.enabled {
            chat::probe_all(engine, &snapshot).await;
        }
        drop(snapshot);
        tokio::time::sleep(interval).await;
    }
}

fn interval(snapshot: &Snapshot) -> Duration {
    let check = &snapshot.config.health_check;
    check.interval.max(Duration::from_secs(1))
}

/// Checks every provider at once.
pub async fn check_all(engine: &Engine, snapshot: &Arc<Snapshot>) {
    let patience = snapshot.config.health_check.timeout;
    let checks = snapshot
        .upstreams
        .iter()
        .map(|upstream| check(engine, snapshot, upstream, patience));
    futures_util::future::join_all(checks).await;
}

/// Checks those that could not be reached.
async fn check_lost(engine: &Engine) {
    let snapshot = engine.snapshot();
    let now = engine.clock().now();
    let is_lost = |upstream: &&Arc<Upstream>| {
        upstream
            .health
            .breaker
            .resting(now)
            .is_some_and(|(reason, _)| reason == Reason::Unreachable)
    };
    let patience = snapshot.config.health_check.timeout;
    let checks = snapshot
        .upstreams
        .iter()
        .filter(is_lost)
        .map(|upstream| check(engine, &snapshot, upstream, patience));
    futures_util::future::join_all(checks).await;
}

/// Asks with each of its keys. `Ok`: it answered one of them at least.
async fn check(
    engine: &Engine,
    snapshot: &Snapshot,
    upstream: &Upstream,
    patience: Duration,
) -> Result<(), Failure> {
    let (mut answered, mut refused) = (false, None);
    for credential in &upstream.credentials {
        let asked = tokio::time::timeout(patience, ask(upstream, credential)).await;
        let result = asked.unwrap_or_else(|_| {
            Err(Failure::new(
                Kind::Timeout,
                "no answer to the health check in time",
            ))
        });
        let is_reachable = note(engine, snapshot, upstream, credential, &result);
        match result {
            Ok(_) => answered = true,
            Err(mut failure) => {
                credential.secrets.redact(&mut failure);
                refused = Some(failure);
            }
        }
        if !is_reachable {
            break;
        }
    }
    match refused {
        Some(failure) if !answered => Err(failure),
        _ => Ok(()),
    }
}

/// Lets rest or wakes; false where asking with further credentials would say nothing new.
fn note(
    engine: &Engine,
    snapshot: &Snapshot,
    upstream: &Upstream,
    credential: &Credential,
    result: &Result<Option<Bytes>, Failure>,
) -> bool {
    let (retry, now) = (&snapshot.config.retry, engine.clock().now());
    match result {
        Ok(list) => {
            // That it lists its models says that it is there, not that its chat works: the breaker stays.
            upstream.health.breaker.wake(&[Reason::Unreachable]);
            credential.rest.wake(&[Reason::Auth]);
            if let Some(names) = list.as_deref().and_then(names) {
                upstream.discovered.store(Arc::new(names));
            }
            true
        }
        Err(failure) => match failure.kind {
            // Only what nobody accepts is gone: a server that is busy with one answer, or has no list, may well serve.
            Kind::Connect => {
                upstream.health.breaker.rest(
                    Reason::Unreachable,
                    now,
                    retry
                        .cooldown_network
                        .max(snapshot.config.health_check.interval),
                );
                tracing::warn!(
                    provider = &*upstream.name,
                    failure = failure.logged(),
                    "health check failed"
                );
                false
            }
            Kind::UpstreamAuth => {
                credential.rest.rest(Reason::Auth, now, None);
                tracing::warn!(
                    provider = &*upstream.name,
                    credential = &*credential.name,
                    "the provider refuses this key"
                );
                true
            }
            // A limit or an odd list says nothing of chat: traffic will tell.
            _ => true,
        },
    }
}

async fn ask(upstream: &Upstream, credential: &Credential) -> Result<Option<Bytes>, Failure> {
    let headers = HeaderMap::new();
    let outbound = Outbound {
        operation: Operation::Models,
        model: "",
        client_headers: &headers,
        body: Bytes::new(),
    };
    let mut request = upstream.provider.request(&outbound)?;
    let provider = upstream.provider.as_ref();
    credential.authorize(provider, &mut request).await?;
    let answer = credential
        .transport
        .send(request.map(UpstreamBody::from))
        .await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, LIST_LIMIT)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    if head.status.is_success() {
        return Ok(Some(body));
    }
    // No list here, but somebody is at home.
    if matches!(head.status.as_u16(), 400 | 404 | 405 | 422) {
        return Ok(None);
    }
    let format = upstream
        .provider
        .formats()
        .first()
        .copied()
        .unwrap_or(polygate_wire::Format::OpenaiChat);
    Err(upstream.provider.classify(&Answer {
        format,
        status: head.status,
        headers: head.headers,
        body,
        now: SystemTime::now(),
    }))
}

/// Model names of any vendor's list: `data[].id` or `models[].name`.
fn names(body: &[u8]) -> Option<Vec<String>> {
    let list: Value = serde_json::from_slice(body).ok()?;
    let entries = list
        .get("data")
        .or_else(|| list.get("models"))?
        .as_array()?;
    let name = |entry: &Value| {
        let name = entry.get("id").or_else(|| entry.get("name"))?.as_str()?;
        Some(name.strip_prefix("models/").unwrap_or(name).to_owned())
    };
    Some(entries.iter().filter_map(name).take(NAMES).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vendors_list_is_read() {
        assert_eq!(
            names(br#"{"object":"list","data":[{"id":"gpt-4o"}]}"#),
            Some(vec!["gpt-4o".to_owned()])
        );
        assert_eq!(
            names(br#"{"models":[{"name":"models/gemini-2.5-pro"}]}"#),
            Some(vec!["gemini-2.5-pro".to_owned()])
        );
        assert_eq!(names(b"<html>"), None);
    }
}
