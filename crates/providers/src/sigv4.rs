//! AWS Signature Version 4: a request is signed in place, as every service of AWS but S3 wants it.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Request};
use polygate_core::{Failure, Kind, Secret};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// A pair of keys of AWS, with the token of a session where they are temporary.
#[derive(Clone, Debug)]
pub(crate) struct AwsKeys {
    access: String,
    secret: Secret,
    session: Option<Secret>,
}

impl AwsKeys {
    /// Reads `ACCESS_KEY:SECRET[:SESSION_TOKEN]`.
    pub(crate) fn parse(credential: &Secret) -> Option<Self> {
        let mut parts = credential.reveal().trim().splitn(3, ':');
        let access = parts.next().filter(|part| !part.is_empty())?;
        let secret = parts.next().filter(|part| !part.is_empty())?;
        let session = parts.next().filter(|part| !part.is_empty());
        Some(Self {
            access: access.to_owned(),
            secret: Secret::new(secret),
            session: session.map(Secret::new),
        })
    }
}

/// Signs method, address, body, `host`, `content-type` and all `x-amz-` headers; other headers may change on the way. Signing again
/// replaces the signature.
pub(crate) fn sign(
    request: &mut Request<Bytes>,
    keys: &AwsKeys,
    region: &str,
    service: &str,
    now: SystemTime,
) -> Result<(), Failure> {
    let (date, time) = date_and_time(now);
    let stamp = format!("{date}T{time}Z");
    let headers = request.headers_mut();
    headers.insert(DATE, header(&stamp)?);
    match &keys.session {
        Some(token) => headers.insert(TOKEN, sensitive(token.reveal())?),
        None => headers.remove(TOKEN),
    };

    let (names, canonical) = canonical_request(request)?;
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("{ALGORITHM}\n{stamp}\n{scope}\n{hash}");

    let first = format!("AWS4{}", keys.secret.reveal());
    let key = [date.as_str(), region, service, "aws4_request"]
        .iter()
        .fold(first.into_bytes(), |key, part| mac(&key, part));
    let signature = hex(&mac(&key, &to_sign));
    let value = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        keys.access
    );
    request
        .headers_mut()
        .insert(AUTHORIZATION, sensitive(&value)?);
    Ok(())
}

/// The names of the signed headers, and the text of which the signature is made.
fn canonical_request(request: &Request<Bytes>) -> Result<(String, String), Failure> {
    let headers = signed_headers(request)?;
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{}",
        request.method(),
        canonical_path(request.uri().path()),
        canonical_query(request.uri().query().unwrap_or_default()),
        hex(digest::digest(&digest::SHA256, request.body()).as_ref()),
    );
    Ok((names, canonical))
}

/// What is signed of the headers, in order of their names.
fn signed_headers(request: &Request<Bytes>) -> Result<Vec<(String, String)>, Failure> {
    let headers = request.headers();
    let mut signed = vec![(HOST.to_string(), host(request)?)];
    for name in headers.keys() {
        if *name == CONTENT_TYPE || name.as_str().starts_with("x-amz-") {
            signed.push((name.to_string(), canonical_value(headers, name)?));
        }
    }
    signed.sort_unstable();
    Ok(signed)
}

/// The host as it will be sent: the client writes the address's, without a port that goes without saying.
fn host(request: &Request<Bytes>) -> Result<String, Failure> {
    if request.headers().contains_key(HOST) {
        return canonical_value(request.headers(), &HOST);
    }
    let uri = request.uri();
    let name = uri.host().ok_or_else(|| {
        Failure::new(
            Kind::Internal,
            "a request without an address cannot be signed",
        )
    })?;
    Ok(match (uri.port_u16(), uri.scheme_str()) {
        (None, _) | (Some(443), Some("https")) | (Some(80), Some("http")) => name.to_owned(),
        (Some(port), _) => format!("{name}:{port}"),
    })
}

fn canonical_value(headers: &HeaderMap, name: &HeaderName) -> Result<String, Failure> {
    let mut values = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| {
            Failure::new(
                Kind::InvalidRequest,
                format!("the header {name} has characters that cannot be signed"),
            )
        })?;
        values.push(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
    }
    Ok(values.join(","))
}

/// The path without empty and dotted segments, encoded once more than it is sent.
fn canonical_path(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut out = String::with_capacity(path.len() + 16);
    for segment in segments {
        out.push('/');
        encode(segment.bytes(), &mut out);
    }
    if out.is_empty() || path.ends_with('/') {
        out.push('/');
    }
    out
}

/// The query's members in the order of their names and values, encoded in the one way that AWS knows.
fn canonical_query(query: &str) -> String {
    let once = |text: &str| {
        let mut out = String::with_capacity(text.len());
        encode(decoded(text).into_iter(), &mut out);
        out
    };
    let mut members: Vec<_> = query
        .split('&')
        .filter(|member| !member.is_empty())
        .map(|member| {
            let (name, value) = member.split_once('=').unwrap_or((member, ""));
            (once(name), once(value))
        })
        .collect();
    members.sort_unstable();
    let members: Vec<_> = members
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    members.join("&")
}

/// Percent-encodes all but the unreserved characters.
pub(crate) fn encode(bytes: impl Iterator<Item = u8>, out: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Undoes percent-encoding; what is none stays.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().filter(|_| *byte == b'%');
        let escaped = digits.and_then(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
        match escaped {
            Some(value) => out.push(value),
            None if *byte == b'+' => out.push(b' '),
            None => out.push(*byte),
        }
        rest = after
            .get(if escaped.is_some() { 2 } else { 0 }..)
            .unwrap_or_default();
    }
    out
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sensitive(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = header(text)?;
    value.set_sensitive(true);
    Ok(value)
}

fn header(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|_| {
        Failure::new(
            Kind::Internal,
            "the provider's key has characters no header can carry",
        )
    })
}

/// `YYYYMMDD` and `HHMMSS`, in UTC.
fn date_and_time(now: SystemTime) -> (String, String) {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Days from the first of March of the year 0: so leap days come last, and months follow a formula (Hinnant's `civil_from_days`).
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    (
        format!("{year:04}{month:02}{day:02}"),
        format!("{hour:02}{minute:02}{second:02}"),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PAIR: &str = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    /// 2015-08-30T12:36:00Z.
    const MOMENT: u64 = 1_440_938_160;
    const SHORT_TOKEN: &str = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    const LONG_TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
    const FORM: &str = "application/x-www-form-urlencoded";

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn keys(credential: &str) -> AwsKeys {
        AwsKeys::parse(&Secret::new(credential)).expect("keys")
    }

    fn request(method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Request<Bytes> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Bytes::copy_from_slice(body.as_bytes());
        request.body(body).expect("a request")
    }

    fn authorization(mut request: Request<Bytes>, credential: &str) -> String {
        sign(
            &mut request,
            &keys(credential),
            "us-east-1",
            "service",
            at(MOMENT),
        )
        .expect("signed");
        let value = &request.headers()[AUTHORIZATION];
        assert!(value.is_sensitive());
        assert_eq!(request.headers()[DATE], "20150830T123600Z");
        value.to_str().expect("text").to_owned()
    }

    fn expected(names: &str, signature: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders={names}, Signature={signature}"
        )
    }

    /// AWS's published test suite for signatures, as far as it signs only what we sign: name, method, target, signature.
    #[rustfmt::skip]
    const SUITE: [(&str, &str, &str, &str); 18] = [
        ("get-vanilla", "GET", "/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("get-vanilla-empty-query-key", "GET", "/?Param1=value1", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        ("get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("get-vanilla-query-order-key", "GET", "/?Param1=value2&Param1=Value1", "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1"),
        ("get-vanilla-query-order-value", "GET", "/?Param1=value2&Param1=value1", "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"),
        ("get-vanilla-query-order-encoded", "GET", "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"),
        ("get-vanilla-query-unreserved", "GET", "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
        ("get-unreserved", "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ("get-utf8", "GET", "/ሴ", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("post-vanilla", "POST", "/", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("post-vanilla-query", "POST", "/?Param1=value1", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        ("get-relative", "GET", "/example/..", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("get-relative-relative", "GET", "/example1/example2/../..", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("get-slash", "GET", "//", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("get-slash-dot-slash", "GET", "/./", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("get-slash-pointless-dot", "GET", "/./example", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
        ("get-slashes", "GET", "//example//", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        ("get-special-character", "GET", "/example/$delete", "a853c9b21b528b19643d00910d35b83a10c366a10833ceefb45edd6c80e40f27"),
    ];

    #[test]
    fn signatures_are_those_of_the_published_suite() {
        for (name, method, target, signature) in SUITE {
            let uri = format!("https://example.amazonaws.com{target}");
            assert_eq!(
                authorization(request(method, &uri, &[], ""), PAIR),
                expected("host;x-amz-date", signature),
                "{name}"
            );
        }
    }

    #[test]
    fn bodies_types_and_sessions_are_signed() {
        let uri = "https://example.amazonaws.com/";
        let form = |kind| request("POST", uri, &[("Content-Type", kind)], "Param1=value1");
        assert_eq!(
            authorization(form(FORM), PAIR),
            expected(
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
            )
        );
        assert_eq!(
            authorization(form(&format!("{FORM}; charset=utf8")), PAIR),
            expected(
                "content-type;host;x-amz-date",
                "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe"
            )
        );
        for (method, token, signature) in [
            (
                "GET",
                SHORT_TOKEN,
                "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
            ),
            (
                "POST",
                LONG_TOKEN,
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ] {
            assert_eq!(
                authorization(request(method, uri, &[], ""), &format!("{PAIR}:{token}")),
                expected("host;x-amz-date;x-amz-security-token", signature)
            );
        }
    }

    /// Made with botocore 1.43.11.
    #[test]
    fn requests_for_bedrock_are_signed_as_amazons_own_client_does() {
        let json = [("content-type", "application/json")];
        let runtime = "https://bedrock-runtime.eu-west-1.amazonaws.com/model";
        let claude =
            format!("{runtime}/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream");
        let profile = format!(
            "{runtime}/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Fx/converse"
        );
        let models = "http://127.0.0.1:8080/foundation-models?byProvider=a%20b&a=1";
        let cases = [
            (
                request("POST", &claude, &json, "{\"messages\":[]}"),
                PAIR.to_owned(),
                "470ee0448351132e3f1e6e6da5d033a12cc84233ab607d721c5e4e952352ea3a",
            ),
            (
                request("POST", &profile, &json, "{\"é\":1}"),
                format!("{PAIR}:tok/en+=="),
                "dc7fc97c8fb51d2fe558008101a354e4679b60e9ec3f9514306867dffc2b3e37",
            ),
            (
                request("GET", models, &[], ""),
                PAIR.to_owned(),
                "0cac4e9dae86e1a0a8305b90c688842bf7908c6cb735dfdb053d001da29b9590",
            ),
        ];
        for (mut request, credential, signature) in cases {
            let now = at(1_795_482_123);
            sign(
                &mut request,
                &keys(&credential),
                "eu-west-1",
                "bedrock",
                now,
            )
            .expect("signed");
            let value = request.headers()[AUTHORIZATION].to_str().expect("text");
            assert!(value.ends_with(signature), "{}: {value}", request.uri());
        }
    }

    #[test]
    fn paths_are_encoded_once_more_than_they_are_sent() {
        assert_eq!(
            canonical_path("/model/eu.anthropic.claude-v1%3A0/converse-stream"),
            "/model/eu.anthropic.claude-v1%253A0/converse-stream"
        );
        assert_eq!(canonical_path("/model/a:0/x y/"), "/model/a%3A0/x%20y/");
        assert_eq!(canonical_path(""), "/");
        assert_eq!(
            canonical_query("b=%2f+%zz%&a&&c=%E1%88%B4=%2"),
            "a=&b=%2F%20%25zz%25&c=%E1%88%B4%3D%252"
        );
    }

    #[test]
    fn the_host_is_the_one_that_is_sent() {
        for (uri, given, host_sent) in [
            ("https://a.example:443/", None, "a.example"),
            ("http://a.example:80/", None, "a.example"),
            ("http://a.example:443/", None, "a.example:443"),
            ("http://127.0.0.1:8080/x", None, "127.0.0.1:8080"),
            ("https://[::1]:9/", None, "[::1]:9"),
            ("https://user@a.example/", None, "a.example"),
            ("https://a.example/", Some("b.example"), "b.example"),
        ] {
            let headers: Vec<_> = given.map(|host| ("host", host)).into_iter().collect();
            assert_eq!(
                host(&request("GET", uri, &headers, "")).expect("a host"),
                host_sent
            );
        }
        assert!(host(&request("GET", "/only/a/path", &[], "")).is_err());
    }

    #[test]
    fn values_are_joined_and_their_spaces_collapsed() {
        let headers = [
            ("x-amz-meta", " a   b "),
            ("x-amz-meta", "\"c  d\""),
            ("accept", "*/*"),
            ("x-amzn-trace-id", "1"),
        ];
        let request = request("GET", "https://a.example/", &headers, "");
        let signed = signed_headers(&request).expect("text");
        let text = |pair: (&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        assert_eq!(
            signed,
            [("host", "a.example"), ("x-amz-meta", "a b,\"c d\"")].map(text)
        );
    }

    #[test]
    fn signing_again_forgets_the_first_signature() {
        let mut twice = request("POST", "https://example.amazonaws.com/", &[], "");
        let temporary = keys(&format!("{PAIR}:{SHORT_TOKEN}"));
        sign(&mut twice, &temporary, "eu-west-1", "bedrock", at(0)).expect("signed");
        assert!(twice.headers()[TOKEN].is_sensitive());
        assert_eq!(
            authorization(twice, PAIR),
            expected(
                "host;x-amz-date",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
            )
        );
    }

    #[test]
    fn credentials_are_two_parts_or_three() {
        let three = keys("A:b/c+d:t:=/");
        assert_eq!(
            (three.access.as_str(), three.secret.reveal()),
            ("A", "b/c+d")
        );
        assert_eq!(three.session, Some(Secret::new("t:=/")));
        assert_eq!(keys("A:b:\n").session, None);
        for credential in ["", "A", "A:", ":b", ":", "::t"] {
            assert!(
                AwsKeys::parse(&Secret::new(credential)).is_none(),
                "{credential}"
            );
        }
        let shown = format!("{:?}", keys("A:hidden-one:hidden-two"));
        assert!(!shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn what_no_header_can_carry_is_refused() {
        for credential in ["A\n:b", "A:b:t\nt"] {
            let mut request = request("GET", "https://a.example/", &[], "");
            let failure = sign(&mut request, &keys(credential), "r", "s", at(0));
            assert_eq!(failure.expect_err("refused").kind, Kind::Internal);
        }
        let bytes = HeaderValue::from_bytes(b"\xff").expect("a value");
        let mut request = request("GET", "https://a.example/", &[], "");
        request.headers_mut().insert(CONTENT_TYPE, bytes);
        let failure = sign(&mut request, &keys(PAIR), "r", "s", at(0));
        assert_eq!(failure.expect_err("refused").kind, Kind::InvalidRequest);
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        for (seconds, date, time) in [
            (0, "19700101", "000000"),
            (68_169_599, "19720228", "235959"),
            (68_169_600, "19720229", "000000"),
            (951_782_400, "20000229", "000000"),
            (951_868_800, "20000301", "000000"),
            (MOMENT, "20150830", "123600"),
            (1_735_689_599, "20241231", "235959"),
            (4_107_542_400, "21000301", "000000"),
        ] {
            let shown = date_and_time(at(seconds));
            assert_eq!((shown.0.as_str(), shown.1.as_str()), (date, time));
        }
    }
}
