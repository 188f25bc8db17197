//! Headers of a provider's answer that pass to the client, where the operator says so.

use http::{HeaderMap, HeaderName};
use polygate_core::Secret;

use crate::pattern::Pattern;

/// What is about one connection, and what a browser or a proxy in front of us would take for our own word.
const NEVER: [&str; 16] = [
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "set-cookie",
    "set-cookie2",
    "alt-svc",
    "clear-site-data",
    "location",
    "refresh",
    "strict-transport-security",
    "x-sendfile",
    "x-request-id",
];
const NEVER_BEGIN: [&str; 5] = [
    "proxy-",
    "access-control-",
    "x-accel-",
    "x-polygate-",
    "x-litellm-",
];

/// What is about a body that may be translated.
const OF_BODY: [&str; 4] = [
    "content-type",
    "content-encoding",
    "content-range",
    "accept-ranges",
];

/// Whether a header of an answer is never passed on, whoever asks for it. Names are in lower case.
pub fn is_never(name: &str) -> bool {
    is_between_two(name) || OF_BODY.contains(&name)
}

/// Whether it is between us and the provider, or us and the client, even where a body passes as it is.
pub(crate) fn is_between_two(name: &str) -> bool {
    NEVER.contains(&name) || NEVER_BEGIN.iter().any(|front| name.starts_with(front))
}

/// Those of an answer's headers that pass. What has our key in it does not: some echo it.
pub(crate) fn picked(names: &[Pattern], answer: &HeaderMap, secret: &Secret) -> HeaderMap {
    let passes = |name: &HeaderName| {
        let name = name.as_str();
        names.iter().any(|pattern| pattern.matches(name)) && !is_never(name)
    };
    let mut picked = HeaderMap::new();
    for name in answer.keys().filter(|name| passes(name)) {
        for value in answer.get_all(name) {
            if !shows(value.as_bytes(), secret) {
                picked.append(name.clone(), value.clone());
            }
        }
    }
    picked
}

fn shows(value: &[u8], secret: &Secret) -> bool {
    let secret = secret.reveal().as_bytes();
    // Shorter ones are in harmless words too.
    secret.len() >= 6 && memchr::memmem::find(value, secret).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_passes_and_nothing_that_may_not() {
        let mut answer = HeaderMap::new();
        for (name, value) in [
            ("x-ratelimit-limit-requests", "5"),
            ("x-ratelimit-reset", "1s"),
            ("request-id", "req_1"),
            ("openai-organization", "org"),
            ("vary", "a"),
            ("vary", "b"),
            ("x-echo", "Bearer sk-0123"),
            ("set-cookie", "a=b"),
            ("content-type", "text/plain"),
            ("content-length", "5"),
            ("x-request-id", "theirs"),
            ("x-accel-redirect", "/etc"),
            ("access-control-allow-origin", "*"),
            ("x-polygate-provider", "theirs"),
            ("proxy-authenticate", "Basic"),
        ] {
            let value = http::HeaderValue::from_static(value);
            answer.append(HeaderName::from_static(name), value);
        }
        let picked = |names: &[&str]| -> Vec<String> {
            let names = names
                .iter()
                .map(|name| Pattern::glob(name).expect("a glob"));
            let names: Vec<_> = names.collect();
            let picked = picked(&names, &answer, &Secret::new("sk-0123"));
            let mut picked: Vec<String> = picked
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
                .collect();
            picked.sort();
            picked
        };
        assert_eq!(
            picked(&["x-ratelimit-*"]),
            ["x-ratelimit-limit-requests: 5", "x-ratelimit-reset: 1s"]
        );
        assert_eq!(picked(&["request-id", "set-cookie"]), ["request-id: req_1"]);
        assert_eq!(
            picked(&["*"]),
            [
                "openai-organization: org",
                "request-id: req_1",
                "vary: a",
                "vary: b",
                "x-ratelimit-limit-requests: 5",
                "x-ratelimit-reset: 1s",
            ]
        );
        assert_eq!(picked(&[]), [""; 0]);
    }
}
