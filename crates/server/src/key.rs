//! Where callers put their keys. One policy for every place; the first one present decides.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// Headers that carry a bare key, in the order in which they are looked at.
const HEADERS: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];

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
}

/// The token of `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = text(headers.get(AUTHORIZATION)?);
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// Bytes that no key has count as an empty key, which nobody knows.
fn text(value: &http::HeaderValue) -> &str {
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
    fn the_query_counts_on_gemini_routes_only() {
        assert_eq!(
            shown(&HeaderMap::new(), Some("alt=sse&key=k"), true),
            Some("k")
        );
        assert_eq!(shown(&HeaderMap::new(), Some("key=k"), false), None);
    }
}
