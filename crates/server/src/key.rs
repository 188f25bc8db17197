//! Where callers put their keys. One policy for every place; the first one present decides.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

/// Headers that carry a bare key, in the order in which they are looked at.
const HEADERS: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];

/// Where callers put it who come from LiteLLM, Bifrost or Portkey: after all others. Some put the scheme before it.
const ELSEWHERE: [&str; 3] = ["x-litellm-api-key", "x-bf-vk", "x-portkey-api-key"];

/// The key that a caller shows. `?key=` counts on Gemini routes only.
pub fn shown<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    is_gemini: bool,
) -> Option<&'a str> {
    bearer(headers)
        .or_else(|| HEADERS.iter().find_map(|name| headers.get(*name)).map(text))
        .or_else(|| {
            query
                .filter(|_| is_gemini)?
                .split('&')
                .find_map(|pair| pair.strip_prefix("key="))
        })
        .or_else(|| {
            let value = ELSEWHERE.iter().find_map(|name| headers.get(*name))?;
            Some(token(value).unwrap_or(text(value)))
        })
}

/// The token of `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    token(headers.get(AUTHORIZATION)?)
}

fn token(value: &HeaderValue) -> Option<&str> {
    let value = text(value);
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// Bytes that no key has count as an empty key, which nobody knows.
fn text(value: &HeaderValue) -> &str {
    value.to_str().map(str::trim).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    http::HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn the_first_one_present_decides() {
        let both = headers(&[("x-api-key", "b"), ("authorization", "Bearer a")]);
        assert_eq!(shown(&both, None, false), Some("a"));
        let basic = headers(&[("authorization", "Basic zzz"), ("api-key", "c")]);
        assert_eq!(shown(&basic, None, false), Some("c"));
        assert_eq!(
            shown(&headers(&[("authorization", "Bearer ")]), None, false),
            Some("")
        );
        assert_eq!(
            shown(&headers(&[("authorization", "bearer x")]), None, false),
            Some("x")
        );
    }

    #[test]
    fn keys_of_other_gateways_callers_come_last() {
        for name in ELSEWHERE {
            let one = |value| headers(&[(name, value)]);
            assert_eq!(shown(&one("k"), None, false), Some("k"), "{name}");
            assert_eq!(shown(&one("Bearer k"), None, false), Some("k"), "{name}");
            assert_eq!(shown(&one("k"), Some("key=q"), true), Some("q"), "{name}");
            let both = headers(&[(name, "k"), ("api-key", "a")]);
            assert_eq!(shown(&both, None, false), Some("a"), "{name}");
        }
    }

    #[test]
    fn the_query_counts_on_gemini_routes_only() {
        assert_eq!(
            shown(&HeaderMap::new(), Some("alt=sse&key=k"), true),
            Some("k")
        );
        assert_eq!(shown(&HeaderMap::new(), Some("key=k"), false), None);
    }
}
