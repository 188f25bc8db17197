//! Headers of a provider's answer that pass to the client, where the operator says so.

use http::HeaderMap;
use polygate_providers::forward::is_of_connection;

use crate::pattern::Pattern;
use crate::secrets::Secrets;

/// What is about one connection, and what a browser or a proxy in front of us would take for our own word.
const NEVER: [&str; 20] = [
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
    "x-reproxy-url",
    "http2-settings",
    "public-key-pins",
    "www-authenticate",
    "x-request-id",
];
const NEVER_BEGIN: [&str; 7] = [
    "proxy-",
    "access-control-",
    "x-accel-",
    "x-lighttpd-",
    "x-litespeed-",
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
pub(crate) fn picked(names: &[Pattern], answer: &HeaderMap, secrets: &Secrets) -> HeaderMap {
    let passes = |name: &str| names.iter().any(|pattern| pattern.matches(name)) && !is_never(name);
    kept(answer, secrets, passes)
}

/// Those of an answer whose body passes as it is.
pub(crate) fn passed(answer: &HeaderMap, secrets: &Secrets) -> HeaderMap {
    kept(answer, secrets, |name| !is_between_two(name))
}

fn kept(answer: &HeaderMap, secrets: &Secrets, passes: impl Fn(&str) -> bool) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, value) in answer {
        let is_good = passes(name.as_str()) && !is_of_connection(answer, name);
        if is_good && !secrets.are_in(value.as_bytes()) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use polygate_core::Secret;

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
            ("connection", "X-Hop"),
            ("x-hop", "1"),
        ] {
            let value = http::HeaderValue::from_static(value);
            answer.append(http::HeaderName::from_static(name), value);
        }
        let picked = |names: &[&str]| -> Vec<String> {
            let names = names
                .iter()
                .map(|name| Pattern::glob(name).expect("a glob"));
            let names: Vec<_> = names.collect();
            let picked = picked(&names, &answer, &Secrets::new(&Secret::new("sk-0123"), []));
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

    #[test]
    fn nobody_else_says_what_the_gateway_says() {
        let names = [
            "x-polygate-cost",
            "x-litellm-response-cost",
            "set-cookie",
            "x-request-cost",
        ];
        let value = || http::HeaderValue::from_static("1");
        let headers = names.map(|name| (http::HeaderName::from_static(name), value()));
        let mut headers: HeaderMap = headers.into_iter().collect();
        headers.insert("x-echo", http::HeaderValue::from_static("Bearer sk-0123"));
        let secrets = Secrets::new(&Secret::new("sk-0123"), []);
        let headers = passed(&headers, &secrets);
        let left: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(left, ["x-request-cost"]);
    }
}
