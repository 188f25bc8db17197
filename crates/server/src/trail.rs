//! What the headers of an answer say of the way it came: who gave it, what it cost, and how limits stand.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use polygate_engine::Trail;
use polygate_engine::explain::{self, Told};
use polygate_engine::lane::dropped;
use polygate_engine::quota::{Measure, Quota, Standing};

// Made once: a name from text is read and hashed anew each time.
const PROVIDER: HeaderName = HeaderName::from_static("x-polygate-provider");
const MODEL: HeaderName = HeaderName::from_static("x-polygate-model");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-polygate-attempts");
const DROPPED: HeaderName = HeaderName::from_static("x-polygate-dropped");
const GUARDS: HeaderName = HeaderName::from_static("x-polygate-guards");
const IGNORED: HeaderName = HeaderName::from_static("x-polygate-ignored");
const COST: HeaderName = HeaderName::from_static("x-polygate-cost");
const OVERHEAD: HeaderName = HeaderName::from_static("x-polygate-overhead-ms");
const CACHE: HeaderName = HeaderName::from_static("x-polygate-cache");

/// LiteLLM's callers.
const LITELLM: &str = "x-litellm-";
const LITELLM_ID: HeaderName = HeaderName::from_static("x-litellm-call-id");
const LITELLM_NAMES: [(HeaderName, HeaderName); 2] = [
    (COST, HeaderName::from_static("x-litellm-response-cost")),
    (
        OVERHEAD,
        HeaderName::from_static("x-litellm-overhead-duration-ms"),
    ),
];

/// Who brings headers of LiteLLM's reads them too.
pub fn reads_litellm(request: &HeaderMap) -> bool {
    request
        .keys()
        .any(|name| name.as_str().starts_with(LITELLM))
}

/// What `x-polygate-` headers say of the way.
pub fn show_trail(trail: &Trail, headers: &mut HeaderMap) {
    let text = |text: &str| HeaderValue::from_str(text).ok();
    let guards = (!trail.guards.is_empty()).then(|| trail.guards.join(", "));
    let ignored = (!trail.ignored.is_empty()).then(|| trail.ignored.join(", "));
    let texts = [
        (PROVIDER, trail.provider.as_deref().and_then(text)),
        (MODEL, trail.model.as_deref().and_then(text)),
        (DROPPED, dropped(&trail.losses).as_deref().and_then(text)),
        (GUARDS, guards.as_deref().and_then(text)),
        (IGNORED, ignored.as_deref().and_then(text)),
        (COST, trail.cost.and_then(|cost| text(&dollars(cost)))),
        (OVERHEAD, trail.overhead.and_then(|own| text(&millis(own)))),
        (CACHE, trail.cache.and_then(text)),
        (
            http::header::AGE,
            trail.age.and_then(|age| text(&age.as_secs().to_string())),
        ),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    headers.insert(ATTEMPTS, HeaderValue::from(trail.attempts));
}

/// What passes of the provider's own headers. Of one that we have too, ours is meant.
pub fn show_passed(passed: &HeaderMap, headers: &mut HeaderMap) {
    for name in passed.keys() {
        if headers.contains_key(name) {
            continue;
        }
        for value in passed.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// The same by the names that LiteLLM's callers know.
pub fn show_litellm(request_id: &str, headers: &mut HeaderMap) {
    for (ours, theirs) in LITELLM_NAMES {
        if let Some(value) = headers.get(ours).cloned() {
            headers.insert(theirs, value);
        }
    }
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(LITELLM_ID, id);
    }
}

/// How limits stand, in the words that clients know. Of several of the same measure, the one of which the least part is left.
pub fn show_limits(limits: &[Arc<Quota>], now: u64, headers: &mut HeaderMap) {
    let standings = limits.iter().flat_map(|quota| quota.standings(now));
    let mut standings: Vec<Standing> = standings.collect();
    let part =
        |one: &Standing| (u128::from(one.left) << 64) / u128::from(one.allowance.most.max(1));
    standings.sort_by_key(|standing| std::cmp::Reverse(part(standing)));
    for standing in standings {
        let measure = standing.allowance.measure;
        let shown = |amount: u64| match measure {
            Measure::Money => dollars(amount),
            _ => amount.to_string(),
        };
        let measure = measure.name();
        let seconds = standing
            .resets
            .map(|resets| format!("{}s", resets.as_secs()));
        let values = [
            ("limit", Some(shown(standing.allowance.most))),
            ("remaining", Some(shown(standing.left))),
            ("reset", seconds),
        ];
        for (word, value) in values {
            let name = HeaderName::try_from(format!("x-ratelimit-{word}-{measure}"));
            let value = value.and_then(|value| HeaderValue::try_from(value).ok());
            if let (Ok(name), Some(value)) = (name, value) {
                headers.insert(name, value);
            }
        }
    }
}

/// So much of an explanation may stand in a header: clients and proxies bound all of them together.
const EXPLANATION: usize = 6 * 1024;

/// Why the call goes where it goes: as JSON on one line, without what says nothing; of too many candidates the last are left out, and
/// counted.
pub fn show_explanation(told: &Told, headers: &mut HeaderMap) {
    const NAME: HeaderName = HeaderName::from_static(explain::HEADER);
    let line = explain::line(told, EXPLANATION);
    if let Some(value) = line.and_then(|line| HeaderValue::try_from(line).ok()) {
        headers.insert(NAME, value);
    }
}

/// Of millionths.
fn dollars(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn millis(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_header_passes_unless_it_is_ours() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let mut headers = of(&[("retry-after", "1")]);
        let passed = [
            ("vary", "a"),
            ("retry-after", "2"),
            ("vary", "b"),
            ("retry-after", "3"),
        ];
        show_passed(&of(&passed), &mut headers);
        assert_eq!(
            headers,
            of(&[("retry-after", "1"), ("vary", "a"), ("vary", "b")])
        );
    }

    #[test]
    fn the_way_is_told_in_headers_and_what_is_not_known_is_not() {
        let mut headers = HeaderMap::new();
        show_trail(&Trail::default(), &mut headers);
        assert_eq!(headers.len(), 1, "{headers:?}");
        let trail = Trail {
            provider: Some("p".into()),
            model: Some("m\u{e9}".into()),
            attempts: 2,
            guards: vec!["mail".into(), "cards".into()],
            ignored: vec!["x-polygate-user", "metadata.tags"],
            cost: Some(1_000_042),
            overhead: Some(Duration::from_micros(1234)),
            ..Trail::default()
        };
        show_trail(&trail, &mut headers);
        show_litellm("r-1", &mut headers);
        for (name, value) in [
            ("x-polygate-provider", "p"),
            ("x-polygate-attempts", "2"),
            ("x-polygate-guards", "mail, cards"),
            ("x-polygate-ignored", "x-polygate-user, metadata.tags"),
            ("x-polygate-cost", "1.000042"),
            ("x-polygate-overhead-ms", "1.234"),
            ("x-litellm-response-cost", "1.000042"),
            ("x-litellm-overhead-duration-ms", "1.234"),
            ("x-litellm-call-id", "r-1"),
        ] {
            assert_eq!(
                headers.get(name).map(HeaderValue::as_bytes),
                Some(value.as_bytes()),
                "{name}"
            );
        }
    }
}
